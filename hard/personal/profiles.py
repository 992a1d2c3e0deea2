"""What is kept of each device: a small readable file apiece, which the daemon takes up when it changes."""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Generic, Protocol, TypeAlias, TypeVar
from urllib.parse import quote

import msgspec
import numpy as np
from numpy.typing import ArrayLike

from hard.types import F64, HardError

log = logging.getLogger(__name__)

MAX_STEM: Final = 120  # characters; a device's name has up to 64, and in a file's name each may become twelve
SETTLED_S: Final = 2.0  # a folder changed less long ago may change again within the resolution of its time


def checked_rotation(rotation: ArrayLike) -> F64:
    """(3, 3); raises ValueError where it is not orthonormal, or mirrors."""
    try:
        r = np.asarray(rotation, np.float64)
    except (TypeError, ValueError):  # rows of several lengths, or no numbers
        r = np.zeros(0)
    if r.shape != (3, 3) or not np.allclose(r @ r.T, np.eye(3), atol=1e-3) or np.linalg.det(r) < 0:
        raise ValueError("rotation: expected a rotation, three rows of three")
    return r


class Calibration(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a device is worn; see gait.py."""

    device: str
    made: str  # UTC, ISO 8601
    rotation: tuple[tuple[float, ...], ...]  # (3, 3): the phone's axes -> the models'
    likeness: float

    def __post_init__(self) -> None:
        checked_rotation(self.rotation)


class Head(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one person's recordings add to a model; see personalize.py."""

    device: str
    made: str  # UTC, ISO 8601
    model: str
    sha256: str  # of the model's weights: it fits no others
    calibrated: bool  # whether the recordings went through a calibration; any will do, none will not
    labels: tuple[str, ...]  # the activities it tells apart, k of them
    mean: tuple[float, ...]  # (3,) of a window's mean acceleration, g
    scale: tuple[float, ...]  # (3,)
    weights: tuple[tuple[float, ...], ...]  # (k, 4), the last column for the mean itself
    seconds: dict[str, float]  # recorded, by activity
    before: float  # share right on windows left out, 0-1, of the model alone
    after: float  # and with the head

    def __post_init__(self) -> None:
        if len(self.mean) != 3 or len(self.scale) != 3 or min(self.scale) <= 0:
            raise ValueError("mean, scale: expected three numbers each, the scales above 0")
        if len(self.weights) != len(self.labels) or any(len(row) != 4 for row in self.weights):
            raise ValueError("weights: expected four numbers for each of the labels")


class Kept(Protocol):
    """What a shelf can hold."""

    @property
    def device(self) -> str: ...


T = TypeVar("T", bound=Kept)


def stem(device: str) -> str:
    """A name for a device's file or folder; any good name makes one of its own."""
    name = quote(device, safe=" ").replace(".", "%2E")
    if len(name) > MAX_STEM:
        return f"{name[:MAX_STEM]}-{hashlib.sha256(device.encode()).hexdigest()[:12]}"
    return name


class Shelf(Generic[T]):
    """Files <folder>/<device>.<kind>.json, one a device; each is replaced as a whole. Owner: one thread."""

    def __init__(self, folder: Path, kind: str, type_: type[T]) -> None:
        self._folder = folder
        self._suffix = f".{kind}.json"
        self._type = type_
        self._known: dict[Path, tuple[tuple[int, int], T | None]] = {}  # inode and time, content
        self._looked_at = -1

    def path(self, device: str) -> Path:
        """Where a device's file is."""
        return self._folder / (stem(device) + self._suffix)

    def put(self, value: T) -> Path:
        """Write a device's file in one step; HardError where it cannot be written."""
        path = self.path(value.device)
        part = path.with_suffix(".part")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as file:
                file.write(msgspec.json.format(msgspec.json.encode(value), indent=1) + b"\n")
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        except OSError as e:
            raise HardError(f"{path}: {e.strerror}; set state_dir to a folder that can be written") from None
        return path

    def get(self, device: str) -> T | None:
        """A device's file; HardError where it cannot be read."""
        path = self.path(device)
        return self._read(path) if path.exists() else None

    def remove(self, device: str) -> bool:
        """Whether there was a file."""
        path = self.path(device)
        try:
            path.unlink()
        except FileNotFoundError:
            return False
        except OSError as e:
            raise HardError(f"{path}: {e.strerror}") from None
        return True

    def all(self) -> list[T]:
        """Every file, by device; one that cannot be read is left out, with a line in the log."""
        return sorted((value for _, value in self._files().values() if value), key=lambda value: value.device)

    def changed(self) -> dict[str, T | None]:
        """What is new since the last call: a device's content, or None where its file has gone.

        One look at the folder's time where nothing is.
        """
        try:
            at = self._folder.stat().st_mtime_ns
        except OSError:  # there is none yet, or none that we may see
            at = 0
        if at == self._looked_at:
            return {}
        settled = at < time.time_ns() - SETTLED_S * 1e9
        before, self._known = self._known, self._files()
        self._looked_at = at if settled else -1
        out: dict[str, T | None] = {
            old.device: None for path, (_, old) in before.items() if old and path not in self._known
        }
        for path, (stamp, value) in self._known.items():
            if value is not None and (path not in before or before[path][0] != stamp):
                out[value.device] = value
        return out

    def _files(self) -> dict[Path, tuple[tuple[int, int], T | None]]:
        """Every file with its stamp; those that are as they were are not read again."""
        out: dict[Path, tuple[tuple[int, int], T | None]] = {}
        for path in sorted(self._folder.glob(f"*{self._suffix}")):
            try:
                status = path.stat()
            except OSError:
                continue  # just gone
            stamp = status.st_ino, status.st_mtime_ns
            known = self._known.get(path)
            if known is not None and known[0] == stamp:
                out[path] = known
                continue
            try:
                out[path] = stamp, self._read(path)
            except HardError as e:
                log.warning("%s", e)
                out[path] = stamp, None
        return out

    def _read(self, path: Path) -> T:
        try:
            return msgspec.json.decode(path.read_bytes(), type=self._type)
        except OSError as e:
            raise HardError(f"{path}: {e.strerror}") from None
        except (msgspec.DecodeError, UnicodeDecodeError) as e:
            raise HardError(f"{path}: {e}; remove the file, and make it again") from None


def calibrations(state: Path) -> Shelf[Calibration]:
    """The shelf of calibrations in a state folder."""
    return Shelf(state / "devices", "calibration", Calibration)


def heads(state: Path) -> Shelf[Head]:
    """The shelf of personal heads in a state folder."""
    return Shelf(state / "devices", "head", Head)


Take: TypeAlias = Callable[[str, "F64 | None", "Head | None"], None]


class Profiles:
    """What counts for each device now, from a state folder. Owner: the engine's thread."""

    def __init__(self, state: Path) -> None:
        self._calibrations = calibrations(state)
        self._heads = heads(state)
        self._rotations: dict[str, Calibration] = {}
        self._known: dict[str, Head] = {}

    def refresh(self, take: Take) -> None:
        """Hand on every device whose files changed since the last call: its rotation (3, 3), its head."""
        calibrations, heads = self._calibrations.changed(), self._heads.changed()
        _merge(self._rotations, calibrations)
        _merge(self._known, heads)
        for device in sorted({*calibrations, *heads}):
            calibration, head = self._rotations.get(device), self._known.get(device)
            if head is not None and head.calibrated != (calibration is not None):
                made, now = ("with a", "without") if head.calibrated else ("without a", "with")
                log.warning(
                    "%s: its personal head was made %s calibration and is not used %s one; `hard personalize "
                    "%s` makes it anew",
                    *(device, made, now, device),
                )
                head = None
            take(device, None if calibration is None else np.array(calibration.rotation), head)
            parts = [name for name, part in (("calibration", calibration), ("personal head", head)) if part]
            log.info("%s: now with %s", device, " and ".join(parts) or "neither calibration nor head")


def _merge(known: dict[str, T], changed: dict[str, T | None]) -> None:
    for device, value in changed.items():
        if value is None:
            known.pop(device, None)
        else:
            known[device] = value


def now() -> str:
    """UTC to the second, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
