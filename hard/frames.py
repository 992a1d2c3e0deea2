"""Pictures in: video files and images, and how a frame becomes what a model looks at."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from hard.paths import unreadable
from hard.types import U8, HardError


def squeeze(frame: U8, size: int) -> U8:
    """A camera frame (h, w, 3) uint8 BGR, of any size -> (size, size, 3) uint8 RGB, whatever its aspect.

    Of a larger frame up to 4 x 4 evenly spaced pixels are averaged into one: of 640x480 that takes 100 us
    where averaging all takes 510 (timeit, one thread), and it adds noise that a model has to bear anyway.
    """
    fold = min(4, min(frame.shape[:2]) // size)
    if fold > 1:
        few = cv2.resize(frame, (fold * size, fold * size), interpolation=cv2.INTER_NEAREST)
        frame = np.asarray(few, np.uint8)
    small = cv2.resize(frame, (size, size), interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(small[:, :, ::-1], np.uint8)


def read_video(path: Path, size: int | None = None) -> tuple[U8, float]:
    """All frames of a file, squeezed or in their own size: (n, h, w, 3) uint8 RGB, and the rate in Hz."""
    _check(path)
    capture = cv2.VideoCapture(str(path))
    frames: list[U8] = []
    try:
        rate_hz = capture.get(cv2.CAP_PROP_FPS)
        while True:
            got, frame = capture.read()
            if not got:
                break
            image = np.asarray(frame, np.uint8)
            frames.append(np.ascontiguousarray(image[:, :, ::-1]) if size is None else squeeze(image, size))
    finally:
        capture.release()
    if not frames or not rate_hz > 0:
        raise HardError(f"{path}: no frames; expected a video that OpenCV can read")
    return np.stack(frames), rate_hz


def read_image(path: Path, size: int) -> U8:
    """(size, size, 3) uint8 RGB: the middle square of an image file."""
    _check(path)
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise HardError(f"{path}: not an image that OpenCV can read")
    h, w = image.shape[:2]
    edge = min(h, w)
    top, left = (h - edge) // 2, (w - edge) // 2
    return squeeze(np.asarray(image[top : top + edge, left : left + edge], np.uint8), size)


def _check(path: Path) -> None:
    if what := unreadable(path):
        raise HardError(f"{path}: {what}; expected a video or an image")
