"""python -m hard.doctor.frame: one picture of the camera named on stdin; a process, since OpenCV may hang."""

from __future__ import annotations

import sys
from typing import Final

import cv2

DARK: Final = 4.0  # of 255, on average


def main(camera: str) -> int:
    """0 and the size where there was a picture, 1 where not."""
    if cv2.haveImageReader(camera):  # the daemon takes no still
        return 1
    capture = cv2.VideoCapture(int(camera) if camera.isdecimal() else camera)
    got, image = capture.read()
    capture.release()
    if not got or image is None:
        return 1
    height, width = image.shape[:2]
    print(f"{width} x {height}{', dark' if image.mean() < DARK else ''}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.stdin.read()))
