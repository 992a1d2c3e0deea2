"""Where threads meet: Inbox (bounded, drops oldest, counts), Latest (one slot) and Board (labels now)."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence

from hard.stats import Counters, Drop
from hard.types import DayTotals, Frame, Label, Message


class Inbox:
    """Messages from any thread to the engine, bounded in number and bytes; when full, the oldest goes."""

    def __init__(self, max_messages: int, max_bytes: int, counters: Counters) -> None:
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._counters = counters
        self._queue: deque[Message] = deque()
        self._bytes = 0
        self._ready = threading.Condition()
        self.gather_s = 0.0  # how long sources are to wait for more before they put it; set by the engine

    def put(self, message: Message) -> None:
        self.put_many((message,))

    def put_many(self, messages: Sequence[Message]) -> None:
        """Append messages that came together."""
        with self._ready:
            if messages and not self._queue:
                self._ready.notify()
            for message in messages:
                self._queue.append(message)
                self._bytes += len(message.payload)
                while len(self._queue) > self._max_messages or (
                    self._bytes > self._max_bytes and len(self._queue) > 1
                ):
                    self._bytes -= len(self._queue.popleft().payload)
                    self._counters.add(Drop.INBOX_FULL)

    def wait(self, timeout_s: float) -> bool:
        """Block until there is something, `wake` or the time-out; whether there is."""
        with self._ready:
            if not self._queue:
                self._ready.wait(timeout_s)
            return bool(self._queue)

    def drain(self, timeout_s: float = 0.0) -> deque[Message]:
        """Everything that waits; blocks until there is something, `wake` or the time-out."""
        if timeout_s:
            self.wait(timeout_s)
        with self._ready:
            taken, self._queue = self._queue, deque()
            self._bytes = 0
            return taken

    def wake(self) -> None:
        """Let a waiting `wait` or `drain` return with nothing."""
        with self._ready:
            self._ready.notify()


class Latest:
    """The newest frame of a camera, for one reader: a slow one misses frames, but never sees an old one."""

    def __init__(self) -> None:
        self._frame: Frame | None = None
        self._ready = threading.Condition()

    def put(self, frame: Frame) -> bool:
        """Offer a frame; whether it replaced one that nobody had taken."""
        with self._ready:
            replaced = self._frame is not None
            self._frame = frame
            self._ready.notify()
        return replaced

    def take(self, timeout_s: float) -> Frame | None:
        """The newest frame that has not been taken yet; blocks until there is one, `wake` or the time-out."""
        with self._ready:
            if self._frame is None:
                self._ready.wait(timeout_s)
            frame, self._frame = self._frame, None
            return frame

    def wake(self) -> None:
        """Let a waiting `take` return with nothing."""
        with self._ready:
            self._ready.notify()


class Board:
    """Each device's newest label and totals, for showing; copies out, so readers never wait long."""

    def __init__(self) -> None:
        self._labels: dict[str, Label] = {}
        self._totals: dict[str, DayTotals] = {}
        self._lock = threading.Lock()

    def put(self, labels: list[Label]) -> None:
        with self._lock:
            for label in labels:
                self._labels[label.prediction.device] = label

    def put_totals(self, totals: DayTotals) -> None:
        with self._lock:
            self._totals[totals.device] = totals

    def forget(self, devices: list[str]) -> None:
        with self._lock:
            for device in devices:
                self._labels.pop(device, None)
                self._totals.pop(device, None)

    def labels(self) -> list[Label]:
        """Newest label of every device, by name."""
        with self._lock:
            return [self._labels[d] for d in sorted(self._labels)]

    def totals(self) -> dict[str, DayTotals]:
        """Newest totals of every device, by name."""
        with self._lock:
            return dict(self._totals)
