"""Names of serial ports that stay theirs when boards are plugged in another order."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from hard.settings import PortSettings, SerialSourceSettings
from hard.types import HardError

BY_ID: Final = Path("/dev/serial/by-id")


class PortNames:
    """A name for each port that has none in the settings, found out once. Owner: the main thread.

    The link that a name comes from appears with the board, and a moment after it; whoever asked again would
    get another name for the same port.
    """

    def __init__(self, by_id: Path = BY_ID) -> None:
        self._by_id = by_id
        self._names: dict[str, str] = {}  # by port

    def give(self, settings: SerialSourceSettings) -> SerialSourceSettings:
        """The settings with `device` in every port; a port that had a name before has it still."""
        new = _nameless(settings) - self._names.keys()
        if new:
            links = stable_names(self._by_id)
            self._names |= {port: device_name(port, links) for port in new}
        ports = tuple(msgspec.structs.replace(p, device=self._name(p)) for p in settings.ports)
        return msgspec.structs.replace(settings, device=self._name(settings), ports=ports)

    def keep(self, settings: SerialSourceSettings) -> None:
        """Forget the names of all other ports."""
        kept = _nameless(settings)
        self._names = {port: name for port, name in self._names.items() if port in kept}

    def _name(self, port: PortSettings) -> str | None:
        return port.device or self._names.get(port.port or "")


def _nameless(settings: SerialSourceSettings) -> set[str]:
    return {p.port for p in (settings, *settings.ports) if p.port is not None and p.device is None}


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
