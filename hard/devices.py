"""`hard devices`: serial ports and cameras that are there now, with the names that stay theirs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import msgspec
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from hard.sources.ports import stable_names
from hard.sources.serial import FoundPort, found_ports


class FoundCamera(msgspec.Struct, frozen=True):
    """A camera node that gives pictures."""

    device: str  # /dev/video0: may be another camera after a restart
    stable: str | None  # its link in /dev/v4l/by-id
    description: str


class Found(msgspec.Struct, frozen=True):
    """Everything that could be a source."""

    serial: list[FoundPort]
    cameras: list[FoundCamera]


def find(root: Path = Path("/")) -> Found:
    """What is there, without opening any of it; `root` is where dev/ and sys/ are."""
    return Found(found_ports(stable_names(root / "dev/serial/by-id")), found_cameras(root))


def found_cameras(root: Path) -> list[FoundCamera]:
    """Video nodes with their names. A camera's further nodes (index > 0) carry metadata, not pictures."""
    links = stable_names(root / "dev/v4l/by-id")
    out: list[FoundCamera] = []
    nodes = (root / "sys/class/video4linux").glob("video*")
    for node in sorted(nodes, key=lambda n: (len(n.name), n.name)):
        if _read(node / "index") not in ("0", None):
            continue
        device = root / "dev" / node.name
        link = links.get(os.path.realpath(device))
        out.append(FoundCamera(str(device), str(link) if link else None, _read(node / "name") or "n/a"))
    return out


def show(found: Found) -> RenderableType:
    """Both tables, or plain words where there is nothing."""
    return Group(
        _table(
            "serial ports", found.serial, "no serial ports: plug a board in, and see `dmesg` if it stays so"
        ),
        _table("cameras", found.cameras, "no cameras"),
    )


def _table(title: str, rows: Sequence[FoundPort | FoundCamera], none: str) -> RenderableType:
    if not rows:
        return Text(none)
    table = Table(title=title, title_style="bold", title_justify="left")
    for column in ("stable name", "device", "description"):
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(Text(row.stable or "-"), Text(row.device), Text(row.description))
    return table


def _read(file: Path) -> str | None:
    try:
        return file.read_text("utf-8", "replace").strip()
    except OSError:
        return None
