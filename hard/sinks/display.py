"""The window: a camera's picture with what is recognised in it, on the main thread; films it, too."""

from __future__ import annotations

import ctypes
import logging
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from hard.footage import Film
from hard.handoff import Board, Latest
from hard.overlay import Caption, draw
from hard.types import U8, Frame, HardError

log = logging.getLogger(__name__)

KEYS: Final = (("q", "quit"), ("s", "picture"), ("f", "full screen"))
WAIT_S: Final = 0.05  # for a frame; keys are looked at as often
REDRAW_S: Final = 0.25  # without a new frame: how long there has been none
CHECK_S: Final = 1.0
FASTEST_S: Final = 1 / 40  # no eye needs every frame of a camera that gives 60 or 120 a second
LARGEST: Final = (1280, 800)  # of the window at first; it can be drawn larger
BLANK: Final = np.zeros((480, 640, 3), np.uint8)
FILM_HZ: Final = 25.0
HEADLESS: Final = "without --overlay labels go out over MQTT all the same, and --record out.mp4 films them"


class Display:
    """Shows the newest frame until `q` or the end. Owner: the main thread."""

    def __init__(
        self, device: str, view: Latest, board: Board, *, window: bool, record: Path | None, folder: Path
    ) -> None:
        """`window`: show it; `record`: film it, with or without a window; `folder`: where pictures go."""
        self._device = device
        self._view = view
        self._board = board
        self._film = Film(record, FILM_HZ) if record else None
        self._window = window
        self._folder = folder
        self._full = False
        self._size = (0, 0)  # of the window
        self._frame: Frame | None = None
        self._began_s = 0.0

    def run(self, ended: Callable[[], bool], check: Callable[[], None], quit_: Callable[[], None]) -> None:
        """Until `ended`; `check` is called every second, `quit_` after `q` or when the window is shut."""
        self._began_s = time.monotonic()
        if self._window:
            cv2.namedWindow(self._device, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)
        try:
            self._loop(ended, check, quit_)
        finally:
            if self._window:
                cv2.destroyAllWindows()
            self._finish()

    def _loop(self, ended: Callable[[], bool], check: Callable[[], None], quit_: Callable[[], None]) -> None:
        drawn_s = checked_s = 0.0
        while not ended():
            frame = self._view.take(WAIT_S)
            now_s = time.monotonic()
            if frame is not None:
                self._frame = frame
            if now_s - drawn_s >= (FASTEST_S if frame is not None else REDRAW_S):
                drawn_s = now_s
                image = self._picture(now_s)
                if self._film and self._frame is not None:
                    self._film.show(image, now_s)
                if self._window:
                    self._show(image)
            if self._window and not self._obey(cv2.waitKey(1) & 0xFF, now_s):
                quit_()
            if now_s - checked_s >= CHECK_S:
                checked_s = now_s
                check()
                if self._film and not self._film.room():
                    log.error("%s: the disk is nearly full: the film ends here", self._film.path)
                    self._finish()

    def _finish(self) -> None:
        """Close the film, if there is one that is open."""
        film, self._film = self._film, None
        if film:
            film.close()
            if film.seconds:
                log.info("filmed %.1f s: %s", film.seconds, film.path)

    def _picture(self, now_s: float) -> U8:
        """What is to be seen now: the newest frame, or a dark one where there has been none yet."""
        labels = {label.prediction.device: label for label in self._board.labels()}
        label = labels.pop(self._device, None)
        pixels, since_s, rate_hz = BLANK, self._began_s, 0.0
        if self._frame is not None:
            pixels, since_s, rate_hz = self._frame.pixels, self._frame.arrival_s, self._frame.rate_hz
        keys = KEYS if self._window else ()
        return draw(
            pixels, Caption(self._device, label, list(labels.values()), now_s - since_s, rate_hz, keys)
        )

    def _show(self, image: U8) -> None:
        height, width = image.shape[:2]
        if (width, height) != self._size:
            self._size = (width, height)
            scale = min(1.0, LARGEST[0] / width, LARGEST[1] / height)
            cv2.resizeWindow(self._device, round(width * scale), round(height * scale))
        cv2.imshow(self._device, image)

    def _obey(self, key: int, now_s: float) -> bool:
        """Do what a key asks for; False: to end."""
        if key in (ord("q"), 27) or not self._is_open():
            return False
        if key == ord("f"):
            self._full = not self._full
            state = cv2.WINDOW_FULLSCREEN if self._full else cv2.WINDOW_NORMAL
            cv2.setWindowProperty(self._device, cv2.WND_PROP_FULLSCREEN, state)
        if key == ord("s"):
            self._save(self._picture(now_s))
        return True

    def _is_open(self) -> bool:
        try:
            return cv2.getWindowProperty(self._device, cv2.WND_PROP_VISIBLE) >= 1
        except cv2.error:  # Qt's part has ended with its last window
            return False

    def _save(self, image: U8) -> None:
        path = self._folder / f"{self._device}-{time.strftime('%Y%m%d-%H%M%S')}.png"
        try:
            path.write_bytes(cv2.imencode(".png", image)[1].tobytes())  # imwrite ends at a name not in UTF-8
        except OSError as e:
            log.error("%s: %s; start in a folder that can be written", path, e.strerror)
        else:
            log.info("saved %s", path)


def need_window() -> None:
    """HardError where no window can be opened: Qt would end the whole process without a word to us."""
    kind = cv2.currentUIFramework()
    if not kind:
        raise HardError(
            f"this OpenCV has no windows: pip install opencv-python (not -headless); or {HEADLESS}"
        )
    if sys.platform != "linux":
        return
    display = os.environ.get("DISPLAY")
    bundled = Path(cv2.__file__).parent / "qt/plugins/platforms/libqxcb.so"
    if (bundled.exists() or "WAYLAND_DISPLAY" not in os.environ) and not _x11_answers():
        what = f"nothing answers at DISPLAY={display}" if display else "DISPLAY is not set"
        raise HardError(f"no screen for a window ({what}); {HEADLESS}")
    if bundled.exists():
        os.environ["QT_QPA_PLATFORM"] = "xcb"  # the wheel has no other, whatever the desktop's setting says
        try:
            ctypes.CDLL(str(bundled))
        except OSError as e:
            raise HardError(
                f"OpenCV's window needs a library: {e}; apt install libsm6 libxext6; or {HEADLESS}"
            ) from None


def _x11_answers() -> bool:
    try:
        x11 = ctypes.CDLL("libX11.so.6")
    except OSError:
        return False
    x11.XOpenDisplay.restype = ctypes.c_void_p
    x11.XOpenDisplay.argtypes = [ctypes.c_char_p]
    # The connection stays open: a server without other clients (xinit, Xvfb) resets or ends when its last one
    # leaves, and Qt, which comes next, would end this process.
    return bool(x11.XOpenDisplay(None))
