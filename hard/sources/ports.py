"""Names of serial ports that stay theirs when boards are plugged in another order."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from hard.settings import PortSettings, SerialSourceSettings
from hard.types import HardError

BY_ID: Final = Path("/dev/serial/by-id")


def by_device(
    settings: SerialSourceSettings, links: Mapping[str, Path] | None = None
) -> dict[str, PortSettings]:
    """Every port of the settings by its device's name; HardError where none, or two of one name."""
    given = [p for p in (settings, *settings.ports) if p.port is not None]
    if not given:
        raise HardError("source serial: no port; name one with --port or sources.serial.port, `hard devices` "
                        "lists them")  # fmt: skip
    out: dict[str, PortSettings] = {}
    for port in given:
        device = port.device or device_name(port.port or "", stable_names() if links is None else links)
        if device in out:
            raise HardError(
                f"serial ports {out[device].port} and {port.port} are both device {device!r}; "
                "set `device` of one"
            )
        out[device] = port
    return out


def device_name(port: str, links: Mapping[str, Path]) -> str:
    """A name that stays: of the by-id link (`links`: real path -> link) where there is one."""
    if "://" in port:
        name = port.split("://", 1)[1].split("?")[0]
    else:
        name = links.get(os.path.realpath(port), Path(port)).name
        name = re.sub(r"^usb-|-if\d\d(-port\d+)?$", "", name)
    return re.sub(r"[^\w.-]+", "-", name).strip("-")[:64] or "serial"


def stable_names(folder: Path = BY_ID) -> dict[str, Path]:
    """Real path of each device -> its stable link in /dev/serial/by-id (or /dev/v4l/by-id)."""
    if not folder.is_dir():
        return {}
    return {os.path.realpath(link): link for link in sorted(folder.iterdir(), reverse=True)}
