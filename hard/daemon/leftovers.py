"""Labels that an earlier run left on the broker, of devices that do not come back: they become `offline`."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Final

from hard.broker import Broker
from hard.handoff import Board
from hard.history import OFFLINE, quiet
from hard.settings import OutputSettings
from hard.sinks.payload import decode
from hard.stats import Counters
from hard.types import UNKNOWN, Label

log = logging.getLogger(__name__)

LOOK_S: Final = 0.1
SETTLED_S: Final = 1.0  # without another retained label: that was all


class Leftovers:
    """One look at the retained labels, `offline_s` after the start or as soon as there is a broker, over a
    connection of its own.

    What is newer than that is another daemon's, whose devices are well. Runs in one thread.
    """

    def __init__(
        self, broker: Broker, settings: OutputSettings, board: Board, emit: Callable[[list[Label]], None]
    ) -> None:
        self._broker = broker
        self._settings = settings
        self._board = board
        self._emit = emit
        self._found: dict[str, Label] = {}
        self._came_s = 0.0  # monotonic

    def run(self, stop: threading.Event) -> None:
        if not self._settings.retain or stop.wait(self._settings.offline_s):
            return
        while not self._broker.wait_ready(LOOK_S):
            if stop.is_set():
                return
        broker = Broker(self._broker.url, Counters())
        broker.listen({f"{self._settings.prefix}/+/activity": 0}, self._take)
        broker.start()
        try:
            while not stop.wait(LOOK_S):
                if not broker.wait_ready(0):
                    self._came_s = time.monotonic()  # they are still to come
                elif time.monotonic() - self._came_s >= SETTLED_S:
                    break
        finally:
            broker.stop()
        if stop.is_set():
            return
        here = {label.prediction.device for label in self._board.labels()}
        long_ago_s = time.time() - self._settings.offline_s
        gone = [
            quiet(label, OFFLINE, label.seq + 1)
            for device, label in self._found.items()
            if device not in here and label.activity != UNKNOWN and label.window_end_s < long_ago_s
        ]
        if gone:
            log.info("%d device(s) of an earlier run are offline", len(gone))
            self._emit(gone)

    def _take(self, topic: str, payload: bytes) -> None:
        """In the connection's thread."""
        try:
            label = decode(payload)
        except ValueError:
            return  # nobody's label, or taken back
        device = label.prediction.device
        if topic == f"{self._settings.prefix}/{device}/activity":
            if device not in self._found:
                self._came_s = time.monotonic()
            self._found[device] = label
