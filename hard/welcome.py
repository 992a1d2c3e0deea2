"""What the console says at the start: how to connect a phone, and where its labels are."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from hard.embedded import lan_host
from hard.mqtt.address import BrokerUrl
from hard.settings import PortSettings, Settings, native_topic
from hard.sources.cameras import Address

LOOPBACK = """\
  (the embedded broker listens on this machine only; HARD__EMBEDDED__LISTEN=lan opens it to your network,
  with a password; or name a broker that is there already: `hard run --broker mqtt://HOST:1883`)"""


def welcome(
    settings: Settings,
    url: BrokerUrl,
    password_file: Path,
    ports: Mapping[str, PortSettings],
    camera: Address | None,
) -> str:
    """`ports`, by device, and `camera`: those that the daemon reads."""
    embedded = settings.broker.url is None
    lan = embedded and settings.embedded.listen == "lan"
    lines = []
    if "mqtt" in settings.sources.enabled:
        lines += _phones(settings, url, password_file if lan else None)
        lines += [LOOPBACK] if embedded and not lan else []
    lines += [f"serial board {device}: {port.port} at {port.baud} baud" for device, port in ports.items()]
    lines += [f"camera {camera.device}: {camera}"] if camera else []
    other = "" if lan else f" --broker {url}"
    lines.append(f"labels: topic {settings.output.prefix}/<name>/activity, or `hard watch{other}`")
    return "\n".join(lines)


def _phones(settings: Settings, url: BrokerUrl, password_file: Path | None) -> list[str]:
    topic = native_topic(settings.sources.mqtt.topics, "<name>")
    example = ", native format, or JSON such as" if topic else ""
    if password_file:
        app = _app_settings(settings, url, password_file, topic)
        lines = [f"connect a phone; its app wants:\n{app}" + example.replace(",", "\n  and", 1)]
    else:
        where = f", topic {topic}" if topic else ""
        lines = [f"connect a phone: broker {url}{where}{example}"]
    if topic:
        lines.append(
            '  {"t": 0.0, "rate": 50, "samples": [[ax, ay, az, gx, gy, gz], ...]}   in s, m/s², rad/s'
        )
    apps = [t.filter for t in settings.sources.mqtt.topics if t.codec != "native"]
    if apps:
        either = "or an app" if topic else "an app"
        lines.append(f"  {either} on its own topic: {', '.join(apps)}   (README: Connect a phone)")
    if not topic and not apps:
        lines.append("  (sources.mqtt.topics names none, so no phone is heard)")
    return lines


def _app_settings(settings: Settings, url: BrokerUrl, password_file: Path, topic: str | None) -> str:
    """The embedded broker as an app asks for it; the journal keeps what it gets, so it gets no password."""
    password = url.password
    if _is_journal():
        password = f"in {password_file}" if settings.embedded.password is None else "as in embedded.password"
    rows = {
        "host": lan_host(),
        "port": url.port,
        "user": url.username,
        "password": password,
        "topic": topic,
    }
    return "\n".join(f"    {name:<9} {value}" for name, value in rows.items() if value is not None)


def _is_journal() -> bool:
    """Whether systemd's journal takes what we print."""
    try:
        out = os.fstat(sys.stdout.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{out.st_dev}:{out.st_ino}"
