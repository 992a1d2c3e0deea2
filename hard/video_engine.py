"""The loop of a camera: take the newest frame -> look at it -> label -> emit."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Final

from hard.engine import LISTEN_EVERY_S, emit, end
from hard.handoff import Latest
from hard.history import History
from hard.sinks import Sink
from hard.stats import Counters
from hard.types import Event, Frame
from hard.video import VideoRecognizer

IDLE_S: Final = 1.0


class VideoEngine:
    """Owns the camera's recognizer and its labels' history; runs in one thread."""

    def __init__(
        self,
        samples: Latest,
        recognizer: VideoRecognizer,
        history: History,
        sinks: Sequence[Sink],
        counters: Counters,
    ) -> None:
        self._samples = samples
        self._recognizer = recognizer
        self._history = history
        self._sinks = sinks
        self._counters = counters
        self.ticks = 0  # progress, for whoever watches

    def run(self, stop: threading.Event) -> None:
        """Take frames until `stop` is set; then the activity ends."""
        listen_s = 0.0
        while not stop.is_set():
            frame = self._samples.take(IDLE_S)
            if frame is not None:
                self.look(frame)
            now_s = time.monotonic()
            if now_s - listen_s > LISTEN_EVERY_S:
                listen_s = now_s
                self.listen(now_s)
            self.ticks += 1
        end(self._history, self._sinks, self._counters)

    def look(self, frame: Frame) -> None:
        """Look at a frame, and hand the label that it completes, if any, to the sinks."""
        prediction = self._recognizer.push(frame)
        self._counters.add("frames_seen")
        if prediction is None:
            return
        events: list[Event] = []
        label = self._history.label(prediction, time.time(), time.monotonic(), events)
        emit(self._sinks, self._counters, [label], events)

    def listen(self, now_s: float) -> None:
        """Tell of a camera that has fallen silent."""
        events: list[Event] = []
        labels = self._history.silent(now_s, events)
        emit(self._sinks, self._counters, labels, events)
