"""Seconds of each activity per device and local day, kept in SQLite across restarts."""

from __future__ import annotations

import logging
import re
import sqlite3
import threading
import time
from collections.abc import Callable
from datetime import date, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Final, TypeAlias

from hard.stats import Counters, Drop
from hard.synthetic import NAME
from hard.types import DayTotals, Event, Label

log = logging.getLogger(__name__)

PUBLISH_EVERY_S: Final = 60.0  # for each device
PUBLISH_MOST: Final = 200  # devices a second, so that thousands do not hold up the labels
FLEET: Final = 100  # sums; from here on they are taken together, every so many seconds
GATHER_S: Final = 5.0
BEGIN_AFTER_S: Final = 10.0  # of a day: the last windows of the old one may be late
SILENT_DAYS: Final = 7  # before the start; who has been silent for longer keeps the totals of their last day
PRUNE_AFTER_S: Final = 3600.0  # of a day: a clock that is wrong for a moment costs no history
MAX_PENDING: Final = 100_000  # sums that may wait for a disk that fails
FILE: Final = "totals.sqlite3"

Key: TypeAlias = tuple[str, str, str]  # day (ISO), device, activity
Publish: TypeAlias = Callable[[DayTotals], bool]


class Store:
    """The table of sums. Owner: one thread at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._db: sqlite3.Connection | None = None

    @property
    def is_open(self) -> bool:
        return self._db is not None

    @property
    def is_lost(self) -> bool:
        """Whether the open file has been deleted: nobody will read what is written to it."""
        return self._db is not None and not self.path.exists()

    def open(self) -> None:
        """Open or create it; one that is damaged is put aside. Raises OSError or sqlite3.Error."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._db = self._opened()
        except sqlite3.DatabaseError as e:
            if isinstance(e, sqlite3.OperationalError):
                raise  # the disk, or another process: not the file
            aside = self.path.with_name(f"{self.path.name}.damaged")
            self.path.replace(aside)
            for rest in ("-wal", "-shm"):
                self.path.with_name(self.path.name + rest).unlink(missing_ok=True)
            log.error("%s: %s; it is kept as %s, daily totals begin anew", self.path, e, aside.name)
            self._db = self._opened()

    def _opened(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, timeout=1.0, check_same_thread=False)
        try:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = NORMAL")  # a power cut may lose the last write, never the file
            with db:
                db.execute(
                    "CREATE TABLE IF NOT EXISTS totals (day TEXT, device TEXT, activity TEXT, seconds REAL, "
                    "PRIMARY KEY (day, device, activity)) WITHOUT ROWID"
                )
            (verdict,) = db.execute("PRAGMA quick_check(1)").fetchone()
            if verdict != "ok":
                raise sqlite3.DatabaseError(verdict)
        except sqlite3.Error:
            db.close()
            raise
        return db

    def add(self, sums: dict[Key, float]) -> None:
        """Add seconds to what is there, all or nothing."""
        assert self._db is not None
        with self._db:
            self._db.executemany(
                "INSERT INTO totals VALUES (?, ?, ?, ?) ON CONFLICT (day, device, activity) "
                "DO UPDATE SET seconds = seconds + excluded.seconds",
                [(*key, seconds) for key, seconds in sums.items()],
            )

    def prune(self, oldest: str) -> None:
        """Forget the days before `oldest`."""
        assert self._db is not None
        with self._db:
            self._db.execute("DELETE FROM totals WHERE day < ?", (oldest,))

    def read(self, day: str, device: str) -> dict[str, float]:
        """Seconds by activity."""
        assert self._db is not None
        query = "SELECT activity, seconds FROM totals WHERE day = ? AND device = ?"
        return dict(self._db.execute(query, (day, device)))

    def devices(self, since: str, before: str) -> dict[str, str]:
        """Newest day of each device, of the days between."""
        assert self._db is not None
        query = "SELECT device, MAX(day) FROM totals WHERE day >= ? AND day < ? GROUP BY device"
        return dict(self._db.execute(query, (since, before)))

    def close(self) -> None:
        db, self._db = self._db, None
        if db is not None:
            db.close()


class Totals:
    """Sums of steady labels: a sink in the engine's thread; `run` writes and publishes in one of its own."""

    def __init__(
        self,
        store: Store,
        publish: Publish,
        show: Callable[[DayTotals], None],
        counters: Counters,
        *,
        keep_days: int = 400,
        write_every_s: float = 30.0,
        longest_s: float = 10.0,
        tz: tzinfo | None = None,
    ) -> None:
        self._store = store
        self._publish = publish
        self._show = show
        self._counters = counters
        self._keep = timedelta(days=keep_days)
        self.longest_s = longest_s  # a longer step between two windows is nobody's
        self._tz = tz  # None: the machine's
        self._lock = threading.Lock()  # guards the next two
        self._fresh: dict[Key, float] = {}
        self._gone: set[str] = set()
        self._last_t: dict[str, float] = {}  # engine's thread: device seconds of the newest window
        self._quarter, self._quarters_day = -1, ""  # likewise
        self._pending: dict[Key, float] = {}  # this and the rest: the thread of `run`
        self._today: dict[str, DayTotals] = {}
        self._taken_s = -GATHER_S
        self._past: dict[str, DayTotals] = {}  # what an earlier day came to, where that is not published yet
        self._due: set[str] = set()  # devices whose totals changed since they were published
        self._leaving: set[str] = set()  # forgotten devices whose seconds may not be written yet
        self._published: dict[str, tuple[float, str]] = {}  # monotonic seconds and day; silent devices', too
        self._write_every_s = write_every_s  # what a kill can lose
        self._tried_s = -write_every_s
        self._date, self._date_since_s = "", 0.0  # today, and when that began (monotonic)
        self._pruned = ""  # the day on which it was
        self._begun = ""  # the day that devices which say nothing have begun
        self._failing: str | None = None  # why the disk took nothing the last time

    @property
    def trouble(self) -> str | None:
        """Why totals are not on the disk, for the health report; None where they are."""
        return f"daily totals are not written: {self._failing}" if self._failing else None

    # the engine's thread

    def emit(self, labels: list[Label]) -> None:
        """The time between two windows goes to the later one's steady activity and day."""
        with self._lock:
            for label in labels:
                device, t = label.prediction.device, label.prediction.t_end
                step_s = t - self._last_t.get(device, t)
                self._last_t[device] = t
                if 0 < step_s <= self.longest_s:
                    key = (self._day_of(label.window_end_s), device, label.activity)
                    self._fresh[key] = self._fresh.get(key, 0.0) + step_s

    def _day_of(self, utc_s: float) -> str:
        """ISO 8601; days begin with a quarter of an hour, in every time zone."""
        quarter = int(utc_s // 900)
        if quarter != self._quarter:
            self._quarter, self._quarters_day = quarter, self._day(utc_s).isoformat()
        return self._quarters_day

    def announce(self, events: list[Event]) -> None:
        """Totals come from labels, so that a kill loses little of an activity that lasts."""

    def forget(self, devices: list[str]) -> None:
        with self._lock:
            for device in devices:
                self._last_t.pop(device, None)
            self._gone.update(devices)

    # its own thread

    def run(self, stop: threading.Event) -> None:
        """Tick every second until `stop`; then write and publish what is left."""
        while not stop.wait(1.0):
            self.tick(time.monotonic(), time.time())
        self.tick(time.monotonic(), time.time(), last=True)
        self._store.close()

    def tick(self, now_s: float, utc_s: float, last: bool = False) -> None:
        """Take what the engine has summed; write and publish what is due; `now_s` monotonic seconds."""
        today = self._day(utc_s)
        if today.isoformat() != self._date:
            self._date, self._date_since_s = today.isoformat(), now_s
        writing = last or now_s - self._tried_s >= self._write_every_s
        fresh, gone = self._summed(now_s, writing)
        beginning = self._begun != self._date and now_s - self._date_since_s >= BEGIN_AFTER_S
        if writing and (fresh or self._pending or (beginning and self._store.path.exists())):
            self._tried_s = now_s
            self._open()
        for key, seconds in fresh.items():
            self._leaving.discard(key[1])
            self._take(key, seconds)
        if beginning:
            self._begin_day(today)
        for device in {device for _, device, _ in fresh} - gone:
            self._show(self._today[device])
        self._leaving |= gone
        if writing and self._pending:
            self._write(today, settled=now_s - self._date_since_s >= PRUNE_AFTER_S)
        self._publish_due(now_s, last)
        if not self._pending:
            self._let_go()

    def _summed(self, now_s: float, all_of_it: bool) -> tuple[dict[Key, float], set[str]]:
        """What the engine has summed, and whom it has forgotten, since it was last asked."""
        with self._lock:
            if len(self._fresh) >= FLEET and now_s - self._taken_s < GATHER_S and not all_of_it:
                return {}, set()
            self._taken_s = now_s
            fresh, self._fresh = self._fresh, {}
            gone, self._gone = self._gone, set()
        return fresh, gone

    def _day(self, utc_s: float) -> date:
        return datetime.fromtimestamp(utc_s, self._tz).date()

    def _take(self, key: Key, seconds: float) -> None:
        day, device, activity = key
        self._pending[key] = self._pending.get(key, 0.0) + seconds
        total = self._today.get(device)
        if total is not None and day < total.day <= self._date:
            return  # late by a moment, at midnight; or else the clock was ahead
        if total is None or day != total.day:
            total = self._begin(device, day)
        sums = total.seconds | {activity: total.seconds.get(activity, 0.0) + seconds}
        self._today[device] = DayTotals(device, day, sums)
        self._due.add(device)

    def _begin(self, device: str, day: str) -> DayTotals:
        """A device's total of another day than before; what that came to is still to be published."""
        before = self._today.get(device)
        if before is not None and device in self._due:
            self._past[device] = before
        self._today[device] = DayTotals(device, day, self._read(day, device))
        return self._today[device]

    def _begin_day(self, today: date) -> None:
        """Let the devices that say nothing begin the day, too: the broker still has another one's totals."""
        if not self._begun and self._store.is_open:
            since = (today - timedelta(days=SILENT_DAYS)).isoformat()
            for device, day in self._devices(since, self._date).items():
                if not re.fullmatch(NAME.format(r"\d+"), device):  # what those said goes with the daemon
                    self._published.setdefault(device, (-PUBLISH_EVERY_S, day))
        self._begun = self._date
        for device, (_, day) in self._published.items():
            if day != self._date and (device not in self._today or self._today[device].day != self._date):
                if device not in self._today:
                    self._leaving.add(device)
                self._begin(device, self._date)
                self._due.add(device)

    def _let_go(self) -> None:
        """Of forgotten devices nothing stays but the day of what the broker has, unless that is empty."""
        for device in self._leaving - self._due:
            total = self._today.pop(device, None)
            if total is not None and not total.seconds:
                self._published.pop(device, None)
        self._leaving &= self._due

    def _publish_due(self, now_s: float, last: bool) -> None:
        never = (-PUBLISH_EVERY_S, "")
        room = len(self._due) if last else PUBLISH_MOST
        for device in sorted(self._due, key=lambda d: self._published.get(d, never)[0]):
            total = self._today[device]
            at_s, day = self._published.get(device, (-PUBLISH_EVERY_S, total.day))
            due = last or day != total.day or now_s - at_s >= PUBLISH_EVERY_S
            if room <= 0:
                break
            if due and device in self._past:
                room -= 1
                self._publish(self._past.pop(device))
            room -= due
            if due and (self._publish(total) or device in self._leaving):  # it is renewed on the next connect
                self._published[device] = (now_s, total.day)
                self._due.discard(device)

    # the disk: an error is counted, and said once until it works again

    def _open(self) -> None:
        if self._store.is_lost:
            log.error("%s was deleted; daily totals begin anew, with today's", self._store.path)
            self._store.close()
            for device, total in self._today.items():
                self._pending |= {(total.day, device, name): s for name, s in total.seconds.items()}
        if self._store.is_open:
            return
        try:
            self._store.open()
        except (OSError, sqlite3.Error) as e:
            self._complain(e)
            return
        pending, self._pending = self._pending, {}
        for device, total in self._today.items():
            self._today[device] = DayTotals(device, total.day, self._read(total.day, device))
        for key, seconds in pending.items():  # again, on top of what is written
            self._take(key, seconds)

    def _read(self, day: str, device: str) -> dict[str, float]:
        if not self._store.is_open:
            return {}
        try:
            return self._store.read(day, device)
        except sqlite3.Error as e:
            self._complain(e)
            return {}

    def _devices(self, since: str, before: str) -> dict[str, str]:
        try:
            return self._store.devices(since, before)
        except sqlite3.Error as e:
            self._complain(e)
            return {}

    def _write(self, today: date, settled: bool) -> None:
        if self._store.is_open:
            try:
                self._store.add(self._pending)
                self._pending = {}
                self._failing = None
                if settled and self._pruned != today.isoformat():
                    self._store.prune((today - self._keep).isoformat())
                    self._pruned = today.isoformat()
            except sqlite3.Error as e:
                self._complain(e)
                self._store.close()  # opened again when the next write is due
        if len(self._pending) > MAX_PENDING:
            self._pending.clear()

    def _complain(self, error: OSError | sqlite3.Error) -> None:
        self._counters.add(Drop.TOTALS_NOT_WRITTEN)
        if not self._failing:
            log.error(
                "%s: %s; daily totals are kept in memory until it can be written", self._store.path, error
            )
        self._failing = str(error)
