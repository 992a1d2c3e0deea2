"""What the console says at the start: how to connect a phone, and where its labels are."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from hard.address import BrokerUrl
from hard.config import Settings
from hard.embedded import lan_host

LOOPBACK = """\
  (the embedded broker listens on this machine only; HARD__EMBEDDED__LISTEN=lan opens it to your network,
  with a password; or name a broker that is there already: `hard run --broker mqtt://HOST:1883`)"""


def welcome(settings: Settings, url: BrokerUrl, password_file: Path) -> str:
    prefix = settings.output.prefix
    embedded = settings.broker.url is None
    lan = embedded and settings.embedded.listen == "lan"
    if lan:
        connect = f"connect a phone; its app wants:\n{_app_settings(settings, url, password_file)}\n  and"
    else:
        connect = f"connect a phone: broker {url}, topic {prefix}/<name>/imu,"
    lines = [
        f"{connect} native format, or JSON such as",
        '  {"t": 0.0, "rate": 50, "samples": [[ax, ay, az, gx, gy, gz], ...]}   in s, m/s², rad/s',
        *([LOOPBACK] if embedded and not lan else []),
        f"labels: topic {prefix}/<name>/activity, or `hard watch{'' if lan else f' --broker {url}'}`",
    ]
    return "\n".join(lines)


def _app_settings(settings: Settings, url: BrokerUrl, password_file: Path) -> str:
    """The embedded broker as an app asks for it; the journal keeps what it gets, so it gets no password."""
    password = url.password
    if _is_journal():
        password = f"in {password_file}" if settings.embedded.password is None else "as in embedded.password"
    rows = {
        "host": lan_host(),
        "port": url.port,
        "user": url.username,
        "password": password,
        "topic": f"{settings.output.prefix}/<name>/imu",
    }
    return "\n".join(f"    {name:<9} {value}" for name, value in rows.items())


def _is_journal() -> bool:
    """Whether systemd's journal takes what we print."""
    try:
        out = os.fstat(sys.stdout.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{out.st_dev}:{out.st_ino}"
