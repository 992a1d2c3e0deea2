"""Where pictures come from: an index, a device, a URL or a file, and the name that it gets."""

from __future__ import annotations

import enum
import os
import re
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec

from hard.paths import unreadable
from hard.sources.ports import stable_names
from hard.types import HardError

BY_ID: Final = Path("/dev/v4l/by-id")
SCHEMES: Final = ("rtsp", "rtsps", "http", "https", "rtmp", "udp", "tcp")
PORTS: Final = {"http": 80, "https": 443, "rtsp": 554, "rtsps": 322, "rtmp": 1935}


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
    try:
        camera.encode()  # OpenCV ends the process at what is not UTF-8
    except UnicodeEncodeError:
        raise HardError(f"camera {camera!a}: not UTF-8; rename it, or write the URL with %XX") from None
    if "://" in camera:
        try:
            parts = urlsplit(camera)
        except ValueError as e:
            raise HardError(f"camera {camera.partition('://')[0]}://...: {e}; expected a URL") from None
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
    path = Path(os.path.expanduser(camera))
    if what := unreadable(path):
        raise HardError(
            f"camera {camera}: {what}; expected an index, /dev/..., a URL or a video file; see `hard devices`"
        )
    return Address(Kind.FILE, str(path), device or _clean(path.stem))


def explain(address: Address) -> str:
    """Why a camera could not be opened, and what mends it; OpenCV does not say."""
    if address.kind is Kind.DEVICE:
        if not os.path.exists(address.place):
            return "is not there; plug it in, or see `hard devices`"
        if not os.access(address.place, os.R_OK | os.W_OK):
            return "permission denied; put this user into the group video"
        return f"cannot be opened; does another program use it? (fuser -v {address.place})"
    if address.kind is Kind.FILE:
        return "holds no video that OpenCV can read; convert it to MP4"
    parts = urlsplit(address.place)
    port = parts.port or PORTS.get(parts.scheme)
    if parts.scheme == "udp":  # nothing listens there but we
        return (
            f"nothing comes to port {port}; does the camera send to this machine, and a firewall let it in?"
        )
    if port is not None:
        try:
            socket.create_connection((parts.hostname or "", port), 2.0).close()
        except UnicodeError:
            return f"{parts.hostname} is no name of a host"
        except OSError as e:
            return f"port {port}: {e.strerror or e}"
    return "answers, but with no video that OpenCV can read; check path, user and password"


def _clean(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name).strip("-")[:64] or "camera"
