"""Log lines for people: one line a record on stderr; messages that repeat are sampled, the rest counted."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def setup(level: str) -> None:
    """Plain lines on stderr, the time in front."""
    logging.basicConfig(
        level=level.upper(), format="%(asctime)s %(levelname)-7s %(message)s", datefmt="%H:%M:%S", force=True
    )


def setup_terminal(level: str, console: Console) -> None:
    """Lines above the live table."""
    from rich.logging import RichHandler

    handler = RichHandler(console=console, show_path=False, log_time_format="%H:%M:%S", highlighter=None)
    logging.basicConfig(level=level.upper(), format="%(message)s", handlers=[handler], force=True)


def duration(seconds: float) -> str:
    """12 s, 3 min, 5 h 07 min."""
    s = max(0, int(seconds))
    if s < 60:
        return f"{s} s"
    if s < 3600:
        return f"{s // 60} min {s % 60:02d} s"
    return f"{s // 3600} h {s % 3600 // 60:02d} min"


class Sampled:
    """At most one warning a key (of the newest 256) every 10 s, with how many were left out."""

    EVERY_S = 10.0
    KEYS = 256

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._seen: OrderedDict[str, tuple[float, int]] = OrderedDict()
        self._burst_s = 0.0
        self._burst = 0

    def warning(self, key: str, text: str) -> None:
        now_s = time.monotonic()
        last_s, left_out = self._seen.get(key, (-self.EVERY_S, 0))
        if now_s - last_s < self.EVERY_S or not self._room(now_s):
            self._seen[key] = (last_s, left_out + 1)
        else:
            self._seen[key] = (now_s, 0)
            self._log.warning("%s%s", text, f" ({left_out} more like it)" if left_out else "")
        self._seen.move_to_end(key)
        while len(self._seen) > self.KEYS:
            self._seen.popitem(last=False)

    def _room(self, now_s: float) -> bool:
        """At most 10 lines every 10 s over all keys: whoever makes up topics must not fill the disk."""
        if now_s - self._burst_s > self.EVERY_S:
            self._burst_s, self._burst = now_s, 0
        self._burst += 1
        return self._burst <= 10
