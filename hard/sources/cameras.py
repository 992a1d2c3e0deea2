"""Where pictures come from: an index, a device, a URL or a file, and the name that it gets."""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec

from hard.sources.ports import stable_names
from hard.types import HardError

BY_ID: Final = Path("/dev/v4l/by-id")
SCHEMES: Final = ("rtsp", "rtsps", "http", "https", "rtmp", "udp", "tcp")


class Kind(enum.Enum):
    """What a camera is: a file has an end and no noise, and is played in real time."""

    DEVICE = "camera"
    URL = "stream"
    FILE = "file"


class Address(msgspec.Struct, frozen=True):
    """A camera as the settings name it."""

    kind: Kind
    place: str  # what is opened: /dev/video0, a URL or a path
    device: str  # its name in topics

    def __str__(self) -> str:
        """For logs: a URL's user, password and query are left out."""
        if self.kind is not Kind.URL:
            return self.place
        parts = urlsplit(self.place)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def parse(camera: str, device: str | None = None, links: Mapping[str, Path] | None = None) -> Address:
    """What `sources.webcam.camera` names; HardError for a scheme or a file that cannot be.

    `links`: real path -> link in /dev/v4l/by-id; default: those of this machine.
    """
    camera = camera.strip()
    if "://" in camera:
        parts = urlsplit(camera)
        if parts.scheme not in SCHEMES or not parts.netloc:
            raise HardError(
                f"camera: {parts.scheme}://... is no stream; expected {', '.join(SCHEMES)}, a path, an index"
            )
        try:
            parts.port  # noqa: B018  # it is looked at only here
        except ValueError as e:
            raise HardError(f"camera {parts.scheme}://{parts.hostname}: {e}") from None
        return Address(Kind.URL, camera, device or _clean(parts.hostname or ""))
    if camera.isdecimal():
        camera = f"/dev/video{int(camera)}"
    if camera.startswith("/dev/"):
        real = str(Path(camera).resolve())
        name = (stable_names(BY_ID) if links is None else links).get(real, Path(camera)).name
        return Address(Kind.DEVICE, camera, device or _clean(re.sub(r"^usb-|-video-index\d+$", "", name)))
    path = Path(camera).expanduser()
    if not path.is_file():
        what = "a folder" if path.is_dir() else "no such file"
        raise HardError(
            f"camera {camera}: {what}; expected an index, /dev/..., a URL or a video file; see `hard devices`"
        )
    return Address(Kind.FILE, str(path), device or _clean(path.stem))


def _clean(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name).strip("-")[:64] or "camera"
