"""Which stages stand still: what the watchdog and the health report go by."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from hard.runtime import Stage


class Progress:
    """When each stage's count last moved. Any thread may ask; `now_s` is monotonic seconds."""

    def __init__(self, stages: Callable[[], Sequence[Stage]], stuck_s: float) -> None:
        self._stages = stages
        self._stuck_s = stuck_s
        self._seen: dict[str, tuple[int, float]] = {}
        self._lock = threading.Lock()

    def idle_s(self, now_s: float) -> dict[str, float]:
        """For how long each stage has made no progress, as far as we have looked."""
        with self._lock:
            out: dict[str, float] = {}
            for stage in self._stages():
                count = stage.progress()
                before, since_s = self._seen.get(stage.name, (count - 1, now_s))
                if count != before:
                    since_s = now_s
                    self._seen[stage.name] = count, now_s
                out[stage.name] = now_s - since_s
            return out

    def stuck(self, now_s: float) -> list[str]:
        """The stages that have stood still for longer than may be."""
        idle_s = self.idle_s(now_s)
        return [
            stage.name
            for stage in self._stages()
            if idle_s.get(stage.name, 0.0) > self._stuck_s + stage.may_wait_s
        ]
