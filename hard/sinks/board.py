"""Labels onto the Board, for the live table and the log."""

from __future__ import annotations

import logging
import re
import time

from hard.handoff import Board
from hard.log import duration
from hard.types import Event, Label

OLD_S = 10.0
LOGGED = 200  # devices whose changes are logged one by one; of more, the log would be a flood

log = logging.getLogger("hard.labels")


class BoardSink:
    """Keeps the newest label of each device, and logs every change of activity; of many devices at debug."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._said: dict[str, tuple[str, str | None]] = {}  # activity and reason
        self._many = False

    def emit(self, labels: list[Label]) -> None:
        self._board.put(labels)
        for label in labels:
            p = label.prediction
            said = (label.activity, label.reason and _kind(label.reason))
            if self._said.get(p.device) != said:
                self._said[p.device] = said
                if not self._logs():
                    continue
                why = f": {label.reason}" if label.reason else ""
                age_s = time.time() - label.window_end_s  # a retained one may be from last week
                ago = f", {duration(age_s)} ago" if age_s > OLD_S else ""
                log.log(
                    logging.DEBUG if self._many else logging.INFO,
                    "%s %s %.2f%s (%.1f Hz, %.0f ms%s)",
                    p.device, label.activity, label.confidence, why, p.rate_hz, label.latency_ms, ago,
                    extra={"device": p.device, "activity": label.activity, "kind": "activity"},
                )  # fmt: skip

    def _logs(self) -> bool:
        """Whether changes are to be seen in the log; says so when they no longer are."""
        many = len(self._said) > LOGGED
        if many and not self._many:
            log.info("more than %d devices: their activities are logged at level debug only", LOGGED)
        self._many = many
        return log.isEnabledFor(logging.DEBUG if many else logging.INFO)

    def announce(self, events: list[Event]) -> None:
        """The labels say it."""

    def forget(self, devices: list[str]) -> None:
        self._board.forget(devices)
        for device in devices:
            self._said.pop(device, None)


def _kind(reason: str) -> str:
    """A reason without its measured figures, which are others in every window."""
    return re.sub(r"[\d.]+", "", reason)
