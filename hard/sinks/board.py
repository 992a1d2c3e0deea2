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


class Changes:
    """Which labels say something new of their device."""

    def __init__(self) -> None:
        self._said: dict[str, tuple[str, str | None]] = {}  # activity and reason

    def __len__(self) -> int:
        """Devices."""
        return len(self._said)

    def new(self, label: Label) -> bool:
        said = (label.activity, label.reason and _kind(label.reason))
        if self._said.get(label.prediction.device) == said:
            return False
        self._said[label.prediction.device] = said
        return True

    def forget(self, device: str) -> None:
        self._said.pop(device, None)


def line(label: Label, utc_s: float) -> str:
    """alice walking 0.93 (50.0 Hz, 8 ms)."""
    p = label.prediction
    why = f": {label.reason}" if label.reason else ""
    age_s = utc_s - label.window_end_s  # a retained one may be from last week
    ago = f", {duration(age_s)} ago" if age_s > OLD_S else ""
    figures = f"({p.rate_hz:.1f} Hz, {label.latency_ms:.0f} ms{ago})"
    return f"{p.device} {label.activity} {label.confidence:.2f}{why} {figures}"


class BoardSink:
    """Keeps the newest label of each device, and logs every change of activity; of many devices at debug."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._changes = Changes()
        self._many = False

    def emit(self, labels: list[Label]) -> None:
        self._board.put(labels)
        for label in labels:
            if self._changes.new(label) and self._logs():
                log.log(
                    logging.DEBUG if self._many else logging.INFO,
                    "%s",
                    line(label, time.time()),
                    extra={
                        "device": label.prediction.device, "activity": label.activity, "kind": "activity"
                    },
                )  # fmt: skip

    def _logs(self) -> bool:
        """Whether changes are to be seen in the log; says so when they no longer are."""
        many = len(self._changes) > LOGGED
        if many and not self._many:
            log.info("more than %d devices: their activities are logged at level debug only", LOGGED)
        self._many = many
        return log.isEnabledFor(logging.DEBUG if many else logging.INFO)

    def announce(self, events: list[Event]) -> None:
        """The labels say it."""

    def forget(self, devices: list[str]) -> None:
        self._board.forget(devices)
        for device in devices:
            self._changes.forget(device)


def _kind(reason: str) -> str:
    """A reason without its measured figures, which are others in every window."""
    return re.sub(r"[\d.]+", "", reason)
