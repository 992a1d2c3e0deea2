"""Video files: reading them frame by frame with their times, and writing one."""

from __future__ import annotations

import math
import os
import shutil
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from hard.paths import unreadable
from hard.types import U8, HardError

FOURCC: Final = {".mp4": "mp4v", ".m4v": "mp4v", ".mov": "mp4v", ".mkv": "mp4v", ".avi": "MJPG"}
USUAL_HZ: Final = 25.0  # for files that do not tell
CATCH_UP_S: Final = 2.0
LARGEST_TERM: Final = 65_535  # of a rate in MPEG-4
RESERVE: Final = 32 * 2**20  # bytes of the disk; of an hour of film, the end is up to 2 MB
SHORT_S: Final = 0.5
KEPT: Final = 0.9  # of the pictures, by a container that only estimates their number


def check_output(option: str, out: Path, source: Path) -> None:
    """HardError where a video is to be written over the one that is read."""
    same = out.resolve() == source.resolve()
    if same or (os.path.exists(out) and os.path.exists(source) and out.samefile(source)):
        raise HardError(f"{option} {out}: that is the video itself; name another file")


def check_film(out: Path) -> None:
    """HardError where no video can be written, which OpenCV says at the first picture only."""
    _check_name(out)
    if out.suffix.lower() not in FOURCC:
        raise HardError(f"{out}: cannot write this kind of video; expected {', '.join(FOURCC)}")
    if not os.path.isdir(out.parent):
        raise HardError(f"{out}: no folder {out.parent}")
    if os.path.isdir(out):
        raise HardError(f"{out}: a folder; name a file in it")
    if not os.access(out if os.path.exists(out) else out.parent, os.W_OK):
        raise HardError(f"{out}: this user may not write there; name a file in another folder")


def _check_name(path: Path) -> None:
    """OpenCV ends the process at a name that is not UTF-8."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise HardError(f"{str(path)!a}: its name is not UTF-8; rename it") from None


def open_footage(path: Path) -> Footage:
    """A video file; HardError for what is none."""
    _check_name(path)
    if what := unreadable(path):
        raise HardError(f"{path}: {what}; expected a video file")
    if cv2.haveImageReader(str(path)):
        raise HardError(f"{path}: a still image; an activity can only be told from a video")
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    if not capture.isOpened():
        raise HardError(f"{path}: not a video that OpenCV can read; ffmpeg -i {path.name} out.mp4 may help")
    return Footage(capture)


class Footage:
    """A video with a beginning and an end, frame after frame. Owner: one thread."""

    def __init__(self, capture: cv2.VideoCapture) -> None:
        self._capture = capture
        rate_hz = self._capture.get(cv2.CAP_PROP_FPS)
        self.rate_hz = rate_hz if 1.0 <= rate_hz <= 1000.0 else USUAL_HZ
        count = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.duration_s = count / self.rate_hz if 0 < count < 1e9 else None  # as the file says
        self._first_s = math.nan
        self._t = -1 / self.rate_hz

    def grab(self) -> float | None:
        """Go to the next frame; its time in seconds from the first one, or None at the end."""
        if not self._capture.grab():
            return None
        at_s = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000.0
        if math.isnan(self._first_s):
            self._first_s = at_s
        t = at_s - self._first_s
        self._t = t if t > self._t else self._t + 1 / self.rate_hz  # some files have no times
        return self._t

    def picture(self) -> U8 | None:
        """The frame, (h, w, 3) BGR, or None where it cannot be decoded."""
        got, pixels = self._capture.retrieve()
        return np.asarray(pixels, np.uint8) if got and pixels is not None else None

    def is_short(self, last_s: float) -> bool:
        """Whether a last frame at that time comes so much earlier than the file says that it is damaged."""
        return self.duration_s is not None and last_s < KEPT * self.duration_s - SHORT_S

    def close(self) -> None:
        self._capture.release()


class Film:
    """A video file being written, at a constant rate, in the size of its first picture. Owner: one thread."""

    def __init__(self, path: Path, rate_hz: float) -> None:
        check_film(path)
        self.path = path
        self._rate_hz = writable_hz(rate_hz)
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)
        self._start_s = 0.0
        self._written = 0

    def add(self, image: U8) -> None:
        """The next picture; one of another size than the first is fitted into it."""
        if self._writer is None:
            self._writer = self._open(image)
        self._writer.write(fit(image, self._size))
        self._written += 1

    def show(self, image: U8, now_s: float) -> None:
        """The picture from `now_s` on (monotonic): as often as the rate asks for, so that time is kept."""
        if self._written == 0:
            self._start_s = now_s
        due = int((now_s - self._start_s) * self._rate_hz + 0.5) + 1 - self._written
        for _ in range(min(due, int(CATCH_UP_S * self._rate_hz))):
            self.add(image)

    def room(self) -> bool:
        """Whether the disk has room for more: an MP4 whose end cannot be written is lost as a whole."""
        try:
            return shutil.disk_usage(self.path.parent).free >= RESERVE
        except OSError:  # nobody knows; closing the film will tell
            return True

    @property
    def seconds(self) -> float:
        """How long it is so far."""
        return self._written / self._rate_hz

    def close(self) -> None:
        """Finish the file; HardError where it holds less than was written: OpenCV does not say so."""
        writer, self._writer = self._writer, None
        if writer is None:
            return
        writer.release()
        capture = cv2.VideoCapture(str(self.path), cv2.CAP_FFMPEG)
        kept = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if capture.isOpened() else 0
        capture.release()
        if kept < KEPT * self._written - 2:
            held = f"{kept}" if kept >= 0 else "only a part"  # of one without its end, the number is unknown
            raise HardError(f"{self.path}: holds {held} of {self._written} pictures; is the disk full?")

    def _open(self, image: U8) -> cv2.VideoWriter:
        height, width = image.shape[:2]
        self._size = (width - width % 2, height - height % 2)  # codecs want even numbers
        fourcc = cv2.VideoWriter.fourcc(*FOURCC[self.path.suffix.lower()])
        writer = cv2.VideoWriter(str(self.path), fourcc, self._rate_hz, self._size)
        if not writer.isOpened():
            raise HardError(f"{self.path}: cannot be written; is the folder writable, is the disk full?")
        return writer


def writable_hz(rate_hz: float) -> float:
    """About this rate, as a fraction of thousandths, hundredths or tenths whose terms MPEG-4 can hold."""
    return round(rate_hz, 3 if rate_hz < LARGEST_TERM / 1000 else 2 if rate_hz < LARGEST_TERM / 100 else 1)


def fit(image: U8, size: tuple[int, int]) -> U8:
    """The whole picture in `size` (width, height), its aspect kept, with black around it."""
    height, width = image.shape[:2]
    if (width, height) == size:
        return image
    scale = min(size[0] / width, size[1] / height)
    inner = (max(1, round(width * scale)), max(1, round(height * scale)))
    out = np.zeros((size[1], size[0], 3), np.uint8)
    left, top = (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2
    out[top : top + inner[1], left : left + inner[0]] = cv2.resize(image, inner, interpolation=cv2.INTER_AREA)
    return out
