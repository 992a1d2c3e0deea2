"""Labels onto the Board, for the live table and the log."""

from __future__ import annotations

import logging
import time

from hard.handoff import Board
from hard.log import duration
from hard.types import Label

OLD_S = 10.0

log = logging.getLogger("hard.labels")


class BoardSink:
    """Keeps the newest label of each device and logs every change of activity."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._activity: dict[str, str] = {}

    def emit(self, labels: list[Label]) -> None:
        self._board.put(labels)
        for label in labels:
            p = label.prediction
            if self._activity.get(p.device) != p.activity:
                self._activity[p.device] = p.activity
                why = f": {p.reason}" if p.reason else ""
                age_s = time.time() - label.window_end_s  # a retained one may be from last week
                ago = f", {duration(age_s)} ago" if age_s > OLD_S else ""
                log.info(
                    "%s %s %.2f%s (%.1f Hz, %.0f ms%s)",
                    p.device, p.activity, p.confidence, why, p.rate_hz, label.latency_ms, ago,
                )  # fmt: skip

    def forget(self, devices: list[str]) -> None:
        self._board.forget(devices)
        for device in devices:
            self._activity.pop(device, None)
