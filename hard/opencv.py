"""OpenCV made ready, or one sentence about what it lacks."""

from __future__ import annotations

import os

from hard.types import HardError


def need_opencv() -> None:
    """To be called before the modules that import cv2; raises HardError with what to install."""
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")  # it writes to stderr; we say what matters
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    try:
        import cv2
    except ImportError as e:
        raise HardError(
            f"OpenCV does not load: {e}; pip install opencv-python, and on Debian or Ubuntu "
            "apt install libgl1 libglib2.0-0 libxcb1"
        ) from None
    cv2.setNumThreads(1)  # a 64x64 picture is done before a pool of threads has woken up
