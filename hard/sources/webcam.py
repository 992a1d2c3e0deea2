"""A camera, a stream or a video file: one thread grabs, another one watches that it does."""

from __future__ import annotations

import logging
import math
import sys
import threading
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

import cv2
import numpy as np

from hard.footage import Footage, open_footage
from hard.handoff import Latest
from hard.settings import WebcamSettings
from hard.sources.cameras import Address, Kind, explain
from hard.stats import Counters, Drop
from hard.types import U8, Frame, HardError
from hard.video import Grid

log = logging.getLogger(__name__)

OPEN_S: Final = 10.0  # a camera may take this long to its first frame
CHECK_S: Final = 0.25
BEAT_S: Final = 0.25
BACK_S: Final = 1.0  # frames of a film may be out of order by less
BACKOFF_S: Final = (1.0, 30.0)
STOP_S: Final = 1.0
MAX_HUNG: Final = 4  # threads that hang in a driver; beyond, nothing is opened until one returns
RATE_OVER_S: Final = 1.0


class LostError(Exception):
    """A camera gives no more pictures; the text says what is known."""


class Pictures(Protocol):
    """Something opened that gives frames: `grab` goes to the next one, `picture` decodes it."""

    def grab(self) -> float | None:
        """The frame's time in seconds on a clock of its own; None where there are no more."""
        ...

    def picture(self) -> U8 | None: ...

    def close(self) -> None: ...


class WebcamSource:
    """One camera, opened, read and opened again for ever. Owner: the main thread.

    A thread of its own watches a second one that reads: drivers and streams block where they should fail, and
    some give the last frame again and again. Neither is waited for; the clock decides.
    """

    def __init__(
        self,
        address: Address,
        settings: WebcamSettings,
        rate_hz: float,
        samples: Latest,
        view: Latest | None,
        counters: Counters,
    ) -> None:
        """`samples` gets the frames that the model wants, `rate_hz` of them a second; `view`, if any, all."""
        self.address = address
        self.ended = threading.Event()  # a file without `loop` has been played
        self._settings = settings
        self._desk = Desk(rate_hz, samples, view, counters)
        self._counters = counters
        self._stop = threading.Event()
        self._news = threading.Event()  # a reader has ended, or we are to
        self._thread: threading.Thread | None = None
        self._hung: list[Reader] = []
        self._turns = 0
        self._failing = False  # from a failure until the next new picture

    @property
    def turns(self) -> int:
        """A count that goes on as long as frames can come: not when every reader hangs in its driver."""
        return int(time.monotonic()) if self.ended.is_set() else self._turns

    def problem(self) -> str | None:
        return f"no picture from camera {self.address.device}" if self._failing else None

    def start(self) -> None:
        """Read in the background; a camera that is absent is tried for ever, a bad file is a HardError."""
        if self.address.kind is Kind.FILE:
            open_footage(Path(self.address.place)).close()
        name = f"camera {self.address.device}"
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End within a second; a thread that hangs in a driver delivers nothing any more."""
        self._stop.set()
        self._news.set()
        if self._thread is not None:
            self._thread.join(STOP_S)

    def _run(self) -> None:
        backoff_s = BACKOFF_S[0]
        while not self._stop.is_set():
            self._hung = [reader for reader in self._hung if not reader.done.is_set()]
            if len(self._hung) >= MAX_HUNG:
                self._stop.wait(CHECK_S)
                continue
            self._turns += 1
            reader = Reader(self.address, self._settings, self._desk, self._news)
            reader.start()
            trouble = self._watch(reader)
            if trouble is None:
                return
            self._complain(trouble)
            backoff_s = BACKOFF_S[0] if reader.lively else min(2 * backoff_s, BACKOFF_S[1])
            self._rest(backoff_s)

    def _watch(self, reader: Reader) -> str | None:
        """Until it ends or hangs: what was wrong, or None at the end of a file and of everything."""
        while not self._stop.is_set():
            self._turns += 1
            self._news.wait(CHECK_S)
            self._news.clear()
            if reader.lively:
                self._recovered()
            if reader.done.is_set():
                if reader.trouble is None:
                    log.info("%s: %s has been played", self.address.device, self.address)
                    self.ended.set()
                return reader.trouble
            silent_s = time.monotonic() - reader.beat_s
            if silent_s > (self._settings.timeout_s if reader.opened else OPEN_S):
                reader.leave()
                self._hung.append(reader)
                return f"no picture for {silent_s:.1f} s"
        reader.leave()
        return None

    def _rest(self, seconds: float) -> None:
        """Wait, or until we are to end; a camera that is away is no standstill."""
        end_s = time.monotonic() + seconds
        while (left_s := end_s - time.monotonic()) > 0 and not self._stop.wait(min(left_s, CHECK_S)):
            self._turns += 1

    def _recovered(self) -> None:
        if self._failing:
            log.info("%s: %s is back", self.address.device, self.address)
        self._failing = False

    def _complain(self, trouble: str) -> None:
        """One line an outage: it ends with the first new picture, not with the first open that succeeds."""
        if not self._failing:
            self._failing = True
            self._counters.add("camera_outages")
            log.warning(
                "%s: %s: %s; trying again every %g to %g s",
                self.address.device, self.address, trouble, *BACKOFF_S,
            )  # fmt: skip


class Desk:
    """Where readers hand in frames: counts time on, decides which are wanted. Owner: the newest reader."""

    def __init__(self, rate_hz: float, samples: Latest, view: Latest | None, counters: Counters) -> None:
        self._grid = Grid(rate_hz)
        self._samples = samples
        self._view = view
        self._counters = counters
        self._first_t = math.nan
        self._t = -math.inf
        self._wanted_s = 0.0  # monotonic, of the newest frame
        self._period_s = 0.0

    def wants(self, t: float) -> tuple[bool, int | None]:
        """Whether a frame at `t` seconds, on any clock, is worth decoding; and its place on the grid."""
        now_s = time.monotonic()
        if math.isnan(self._first_t):
            self._first_t = t
        elif t - self._first_t < self._t - BACK_S:  # a film that begins anew after an outage: time goes on
            self._first_t = t - (self._t + now_s - self._wanted_s)
        self._wanted_s = now_s
        t -= self._first_t
        step_s = t - self._t
        self._t = t
        if step_s < RATE_OVER_S:
            share = step_s / RATE_OVER_S if self._period_s else 1.0
            self._period_s += share * (step_s - self._period_s)
        self._counters.add("frames")
        place = self._grid.place(t)
        return place is not None or self._view is not None, place

    def bad(self) -> None:
        """The frame asked about last, which cannot be decoded."""
        self._counters.add(Drop.BAD_FRAME)

    def hand_in(self, pixels: U8, place: int | None, arrival_s: float) -> None:
        """The frame asked about last, decoded."""
        rate_hz = 1 / self._period_s if self._period_s else 0.0
        frame = Frame(pixels, self._t, place, arrival_s, rate_hz)
        if place is not None and self._samples.put(frame):
            self._counters.add(Drop.FRAME_REPLACED)
        if self._view is not None:
            self._view.put(frame)


class Reader:
    """One opening of a camera, by a thread of its own, until it ends; `done` is set then, and `news`."""

    def __init__(self, address: Address, settings: WebcamSettings, desk: Desk, news: threading.Event) -> None:
        self.beat_s = time.monotonic()  # the last sign of life
        self.opened = False  # a frame has come
        self.lively = False  # and another one that differs from it, if it has to
        self.trouble: str | None = None
        self.done = threading.Event()
        self._address = address
        self._settings = settings
        self._desk = desk
        self._news = news
        self._off = threading.Event()
        self._good_s = self.beat_s  # when a picture could last be decoded
        self._seen = 0  # a hash of the newest picture
        self._changed_s = math.inf

    def start(self) -> None:
        threading.Thread(target=self._run, name=f"reader {self._address.device}", daemon=True).start()

    def leave(self) -> None:
        """Deliver nothing any more, and end as soon as the driver lets go."""
        self._off.set()

    def _run(self) -> None:
        try:
            self._read()
        except (LostError, HardError) as e:
            self.trouble = str(e)
        except cv2.error as e:
            self.trouble = f"OpenCV: {e.err or e}"
        except Exception as e:  # of whatever kind, it is not the end of a film
            self.trouble = f"{type(e).__name__}: {e}"
            log.exception("%s: the reader failed", self._address.device)
        finally:
            self.done.set()
            self._news.set()

    def _read(self) -> None:
        address, settings = self._address, self._settings
        if address.kind is Kind.FILE:
            self._play(lambda: open_footage(Path(address.place)))
            return
        capture = open_camera(address, settings)
        if address.kind is Kind.URL and capture.get(cv2.CAP_PROP_FRAME_COUNT) > 0:  # a file on a web server
            capture.release()
            self._play(lambda: Footage(open_camera(address, settings)))
        else:
            self._follow(Live(capture))

    def _follow(self, pictures: Live) -> None:
        """A camera or a stream: every frame as it comes."""
        try:
            while not self._off.is_set():
                t = pictures.grab()
                self.beat_s = time.monotonic()
                if t is None:
                    raise LostError("no more pictures")
                self.opened = True
                if not self._off.is_set():
                    self._deliver(pictures, t, live=True)
        finally:
            pictures.close()

    def _play(self, opening: Callable[[], Footage]) -> None:
        """A file, in real time, once or for ever; its own time goes on from one round to the next."""
        began_s, offset_s = time.monotonic(), 0.0
        while not self._off.is_set():
            footage = opening()
            last_s = -1.0
            try:
                while (t := footage.grab()) is not None:
                    last_s = t
                    self._wait_until(began_s + offset_s + t)
                    if self._off.is_set():
                        return
                    self.opened = self.lively = True
                    self._deliver(footage, offset_s + t, live=False)
            finally:
                footage.close()
            if last_s < 0:
                raise LostError("holds no picture")
            if offset_s == 0.0 and footage.is_short(last_s):  # said once, however often it is played
                log.warning(
                    "%s: %s ends at %.1f of %.1f s; is it damaged, or its server gone?",
                    self._address.device, self._address, last_s, footage.duration_s,
                )  # fmt: skip
            if not self._settings.loop:
                return
            offset_s += last_s + 1 / footage.rate_hz

    def _wait_until(self, due_s: float) -> None:
        """Frames of a film may be further apart than a camera's may: our own waiting is no outage."""
        self.beat_s = time.monotonic()
        while self.beat_s < due_s and not self._off.wait(min(due_s - self.beat_s, BEAT_S)):
            self.beat_s = time.monotonic()

    def _deliver(self, pictures: Pictures, t: float, *, live: bool) -> None:
        arrival_s = self.beat_s
        wanted, place = self._desk.wants(t)
        if not wanted:
            return
        pixels = pictures.picture()
        if pixels is None:  # one torn on the cable is no outage
            self._desk.bad()
            if arrival_s - self._good_s > self._settings.timeout_s:
                raise LostError("pictures that cannot be decoded")
            return
        self._good_s = arrival_s
        if live:
            self._look_alive(pixels, arrival_s)
        if not self._off.is_set():
            self._desk.hand_in(pixels, place, arrival_s)

    def _look_alive(self, pixels: U8, now_s: float) -> None:
        """No two pictures of a camera are the same to the last bit: there is noise in every one."""
        seen = zlib.crc32(pixels[::8, ::8].tobytes())
        if seen != self._seen:
            self.lively = self._changed_s < math.inf or self._settings.frozen_s is None
            self._seen, self._changed_s = seen, now_s
        elif self._settings.frozen_s is not None and now_s - self._changed_s > self._settings.frozen_s:
            raise LostError(f"the same picture for {self._settings.frozen_s:g} s")


class Live:
    """A camera or stream, in seconds of our clock."""

    def __init__(self, capture: cv2.VideoCapture) -> None:
        self._capture = capture

    def grab(self) -> float | None:
        return time.monotonic() if self._capture.grab() else None

    def picture(self) -> U8 | None:
        got, pixels = self._capture.retrieve()
        return np.asarray(pixels, np.uint8) if got and pixels is not None else None

    def close(self) -> None:
        self._capture.release()


def open_camera(address: Address, settings: WebcamSettings) -> cv2.VideoCapture:
    """A camera or a stream; LostError with what is known where it does not open."""
    if address.kind is Kind.URL:
        wait_ms = round(settings.timeout_s * 1000)
        options = [
            cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, round(OPEN_S * 1000), cv2.CAP_PROP_READ_TIMEOUT_MSEC, wait_ms,
            cv2.CAP_PROP_N_THREADS, 1,  # more of them hold back a frame each
        ]  # fmt: skip
        capture = cv2.VideoCapture(address.place, cv2.CAP_FFMPEG, options)
    else:
        capture = cv2.VideoCapture(address.place, cv2.CAP_V4L2 if sys.platform == "linux" else cv2.CAP_ANY)
    if not capture.isOpened():
        raise LostError(explain(address))
    if address.kind is Kind.DEVICE:  # wishes: a camera takes what comes nearest
        capture.set(cv2.CAP_PROP_FRAME_WIDTH, settings.width)
        capture.set(cv2.CAP_PROP_FRAME_HEIGHT, settings.height)
        capture.set(cv2.CAP_PROP_FPS, settings.rate_hz)
    return capture
