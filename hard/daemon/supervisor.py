"""What the main thread looks after each second: systemd, the published health, and the last log lines."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from hard.health import Examiner, Health, status_line
from hard.log import Spread
from hard.runtime import Runtime
from hard.sdnotify import Notifier

log = logging.getLogger(__name__)

STATUS_EVERY_S: Final = 5.0
SETTLE_EVERY_S: Final = 5.0
DUMP_EVERY_S: Final = 60.0
START_S: Final = 30.0  # systemd is asked for this much more while the broker is waited for
LOG_FILE: Final = "last.log"

Publish = Callable[[bytes], bool]


class Supervisor:
    """Says how the daemon is. Owner: the main thread."""

    def __init__(
        self,
        notifier: Notifier,
        examiner: Examiner,
        runtime: Runtime,
        publish: Publish,
        spread: Spread,
        state: Path,
        *,
        health_every_s: float,
    ) -> None:
        """`publish` puts a health report onto its topic; `state` is the folder for the last log lines."""
        self._notifier = notifier
        self._examiner = examiner
        self._runtime = runtime
        self._publish = publish
        self._spread = spread
        self._log_file = state / LOG_FILE
        self._health_every_s = health_every_s
        self._watchdog_every_s = (notifier.watchdog_s or 30.0) / 3
        self._ready = False
        self._stuck: list[str] = []
        self._warnings = 0  # of the log, when its lines were last written
        self._said: tuple[str, bool, list[str]] | None = None
        self._due_s = dict.fromkeys(("watchdog", "status", "health", "settle", "dump"), 0.0)

    def turn(self, now_s: float) -> None:
        """To be called about every second, with monotonic seconds."""
        health = self._examiner.examine()
        stuck = self._examiner.stuck()
        self._complain(stuck)
        if not self._ready:
            self._start(health, stuck)
        if not stuck and self._is_due("watchdog", now_s, self._watchdog_every_s):
            self._notifier.watchdog()
        said = (health.state, health.connected, health.problems)
        news, self._said = said != self._said, said
        if self._is_due("status", now_s, STATUS_EVERY_S) or news:
            self._notifier.status(status_line(health, self._runtime.board.labels()))
        if health.connected and (self._is_due("health", now_s, self._health_every_s) or news):
            self._publish(msgspec.json.encode(health))
        if self._is_due("settle", now_s, SETTLE_EVERY_S):
            self._spread.settle()
        if self._spread.warnings > self._warnings and self._is_due("dump", now_s, DUMP_EVERY_S):
            self._dump()

    def stop(self) -> None:
        """The last words: to systemd, to the broker while it is still connected, and the log's last lines."""
        self._notifier.stopping()
        self._notifier.status("stopping")
        health = self._examiner.examine(stopped=True)
        if health.connected:
            self._publish(msgspec.json.encode(health))
        self._spread.settle()
        self._dump()

    def _start(self, health: Health, stuck: list[str]) -> None:
        if health.ready:
            self._ready = True
            self._notifier.ready()
        elif not stuck:
            self._notifier.extend_timeout(START_S)

    def _complain(self, stuck: list[str]) -> None:
        for name in stuck:
            if name not in self._stuck:
                log.critical(
                    "%s stands still; systemd's watchdog gets nothing more", name, extra={"kind": "stuck"}
                )
        for name in self._stuck:
            if name not in stuck:
                log.warning("%s goes on again", name)
        self._stuck = stuck

    def _is_due(self, what: str, now_s: float, every_s: float) -> bool:
        if now_s < self._due_s[what]:
            return False
        self._due_s[what] = now_s + every_s
        return True

    def _dump(self) -> None:
        """The last lines, for a support bundle after the end; a disk that fails has been told of already."""
        self._warnings = self._spread.warnings
        try:
            self._log_file.parent.mkdir(parents=True, exist_ok=True)
            self._log_file.touch(mode=0o600)
            text = "\n".join(self._spread.lines()) + "\n"
            self._log_file.write_text(text, "utf-8", "replace")  # paths may be any bytes
        except OSError as e:
            log.debug("%s: %s", self._log_file, e.strerror)
