"""Log lines: for people, the journal or machines; what repeats is counted, secrets are blotted out."""

from __future__ import annotations

import logging
import os
import time
from collections import OrderedDict, deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from hard.journal import JournalHandler, JsonFormatter, wanted

if TYPE_CHECKING:
    from rich.console import Console

KEPT: Final = 1000  # lines, for the support bundle
BLOT: Final = "********"
PLAIN: Final = logging.Formatter("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S")
DATED: Final = logging.Formatter("%(asctime)s %(levelname)-7s %(message)s", "%Y-%m-%dT%H:%M:%S%z")


def setup(
    level: str, style: str = "text", console: Console | None = None, secrets: Iterable[str] = ()
) -> Spread:
    """Send all records to where `style` says: text, json, journal, or auto (by where stderr goes).

    `console`: a terminal with the live table, whose lines appear above it. `secrets` are shown by no record.
    """
    spread = Spread(_handler(style, console), secrets)
    logging.basicConfig(level=level.upper(), handlers=[spread], force=True)
    return spread


def _handler(style: str, console: Console | None) -> logging.Handler:
    handler: logging.Handler = logging.StreamHandler()
    handler.setFormatter(PLAIN)
    if style == "journal" or (style == "auto" and wanted(os.environ)):
        return JournalHandler()
    if style == "json":
        handler.setFormatter(JsonFormatter())
    elif console is not None:
        from rich.logging import RichHandler

        handler = RichHandler(console=console, show_path=False, log_time_format="%H:%M:%S", highlighter=None)
    return handler


class Spread(logging.Handler):
    """The one handler of the root logger: blots out, counts repetitions, passes on, keeps the last lines.

    Records come from any thread; logging holds this handler's lock meanwhile.
    """

    def __init__(self, handler: logging.Handler, secrets: Iterable[str] = ()) -> None:
        super().__init__()
        self._handler = handler
        self._secrets = sorted({s for s in secrets if s}, key=len, reverse=True)
        self._repeats = Repeats()
        self._kept: deque[str] = deque(maxlen=KEPT)
        self.warnings = 0  # and worse, so far

    def emit(self, record: logging.LogRecord) -> None:
        self._blot(record)
        if self._repeats.allow(record, time.monotonic()):
            self._pass(record)

    def settle(self) -> None:
        """Say how often messages were left out; to be called every few seconds."""
        self.acquire()
        try:
            for record in self._repeats.summaries(time.monotonic()):
                self._pass(record)
        finally:
            self.release()

    def lines(self) -> list[str]:
        """The last lines, oldest first."""
        return list(self._kept)

    def blotted(self, text: str) -> str:
        """A text that is shown elsewhere, without the secrets."""
        return blot(text, self._secrets)

    def hide(self, secrets: Iterable[str]) -> None:
        """Blot these out too, from now on."""
        self._secrets = sorted({*self._secrets, *(s for s in secrets if s)}, key=len, reverse=True)

    def close(self) -> None:
        self._handler.close()
        super().close()

    def _pass(self, record: logging.LogRecord) -> None:
        self.warnings += record.levelno >= logging.WARNING
        self._kept.append(DATED.format(record))
        self._handler.handle(record)

    def _blot(self, record: logging.LogRecord) -> None:
        """The text, and a traceback's, with the secrets blotted out."""
        if not self._secrets:
            return
        record.msg, record.args = blot(record.getMessage(), self._secrets), ()
        if record.exc_info:
            record.exc_text = blot(DATED.formatException(record.exc_info), self._secrets)
            record.exc_info = None


class Repeats:
    """The same text at most 5 times in 10 s, a line of the code at most 100 times; the rest is counted."""

    WINDOW_S: Final = 10.0
    SAME: Final = 5
    LIKE: Final = 100
    KEYS: Final = 512

    def __init__(self) -> None:
        self._seen: OrderedDict[tuple[str, str], _Run] = OrderedDict()
        self._over: deque[_Run] = deque(maxlen=self.KEYS)  # ended, and something was left out

    def allow(self, record: logging.LogRecord, now_s: float) -> bool:
        if not self._count((record.name, record.getMessage()), self.SAME, record, now_s):
            return False
        return self._count((record.pathname, str(record.lineno)), self.LIKE, record, now_s)

    def summaries(self, now_s: float) -> list[logging.LogRecord]:
        """A record for each text of which some were left out, once its 10 s are over."""
        for key, run in list(self._seen.items()):
            if now_s - run.began_s >= self.WINDOW_S:
                self._end(key)
        over, self._over = self._over, deque(maxlen=self.KEYS)
        return [run.summary() for run in over]

    def _count(self, key: tuple[str, str], most: int, record: logging.LogRecord, now_s: float) -> bool:
        run = self._seen.get(key)
        if run is not None and now_s - run.began_s >= self.WINDOW_S:
            self._end(key)
            run = None
        if run is None:
            run = self._seen[key] = _Run(now_s, most, record)
            if len(self._seen) > self.KEYS:
                self._end(next(iter(self._seen)))
        run.n += 1
        self._seen.move_to_end(key)
        return run.n <= most

    def _end(self, key: tuple[str, str]) -> None:
        run = self._seen.pop(key)
        if run.n > run.most:
            self._over.append(run)


class _Run:
    """How often one text came since a moment."""

    def __init__(self, began_s: float, most: int, first: logging.LogRecord) -> None:
        self.began_s = began_s
        self.most = most
        self.n = 0
        self._first = first

    def summary(self) -> logging.LogRecord:
        r = self._first
        text = f"{self.n - self.most} more like this: {r.getMessage()}"
        more = logging.LogRecord(r.name, r.levelno, r.pathname, r.lineno, text, (), None, r.funcName)
        more.kind = "lost"
        return more


def blot(text: str, secrets: Iterable[str]) -> str:
    """A text without these secrets, the longest first."""
    for secret in secrets:
        text = text.replace(secret, BLOT)
    return text


def duration(seconds: float) -> str:
    """12 s, 3 min 05 s, 5 h 07 min."""
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
