"""Daily totals: nothing lost over a restart, little over a kill, and a disk that fails is not the end."""

from __future__ import annotations

import io
import logging
import shutil
import sqlite3
import threading
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from hard.sinks.payload import decode_totals, encode_totals
from hard.stats import Counters, Drop
from hard.table import render
from hard.totals import Store, Totals
from hard.types import DayTotals, Label, Prediction

NOON_S = datetime(2026, 3, 1, 12, tzinfo=UTC).timestamp()
MIDNIGHT_S = datetime(2026, 3, 2, tzinfo=UTC).timestamp()


class Wire:
    """Where totals are published; refuses while `up` is false."""

    def __init__(self) -> None:
        self.sent: list[DayTotals] = []
        self.shown: dict[str, DayTotals] = {}
        self.up = True

    def publish(self, totals: DayTotals) -> bool:
        if self.up:
            self.sent.append(totals)
        return self.up

    def show(self, totals: DayTotals) -> None:
        self.shown[totals.device] = totals


def keeper(path: Path, keep_days: int = 400) -> tuple[Totals, Wire, Counters]:
    wire, counters = Wire(), Counters()
    made = Totals(Store(path), wire.publish, wire.show, counters, keep_days=keep_days, tz=UTC)
    return made, wire, counters


def label(t: float, activity: str, utc_s: float = NOON_S, device: str = "a") -> Label:
    p = Prediction(device, t, activity, 0.9, {}, 50.0, 0, 0.0, 0.0, "m", "0")
    return Label(p, activity, 0.9, None, utc_s, utc_s, 1, 1.0)


def walk(first_s: float, seconds: int, utc_s: float = NOON_S, device: str = "a") -> list[Label]:
    """A window a second, from `first_s` on: adds up to `seconds`."""
    return [label(first_s + i, "walking", utc_s, device) for i in range(seconds + 1)]


def stored(path: Path, day: str = "2026-03-01", device: str = "a") -> dict[str, float]:
    store = Store(path)
    store.open()
    try:
        return store.read(day, device)
    finally:
        store.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "totals.sqlite3"


@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["walking", "sitting", "unknown"]),
            st.sampled_from([1.28, 5.0, 60.0, -9.0, 0.0]),
            st.sampled_from(["go", "tick", "restart", "midnight"]),
        ),
        max_size=30,
    )
)
def test_sums_are_those_of_the_labels_however_often_it_restarts(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, float, str]]
) -> None:
    path = tmp_path_factory.mktemp("totals") / "t.sqlite3"
    made, wire, counters = keeper(path)
    expected: dict[tuple[str, str], float] = defaultdict(float)
    t, now_s, utc_s, fresh = 0.0, 1000.0, MIDNIGHT_S - 100.0, True
    for activity, step_s, then in steps:
        t += step_s
        made.emit([label(t, activity, utc_s)])
        if not fresh and 0 < step_s <= 10.0:
            expected[datetime.fromtimestamp(utc_s, UTC).date().isoformat(), activity] += step_s
        fresh = then == "restart"
        now_s += 20.0
        if then == "tick":
            made.tick(now_s, utc_s)
        elif then == "restart":
            end(made, now_s, utc_s)
            made, wire, counters = keeper(path)
        elif then == "midnight":
            utc_s = max(utc_s, MIDNIGHT_S + 100.0)
    end(made, now_s, utc_s)
    for day in ("2026-03-01", "2026-03-02"):
        assert stored(path, day) == pytest.approx({a: s for (d, a), s in expected.items() if d == day})
    assert counters.drops() == {}
    if wire.sent:  # what was published last is what is stored
        assert wire.sent[-1].seconds == pytest.approx(stored(path, wire.sent[-1].day))


def end(totals: Totals, now_s: float, utc_s: float) -> None:
    totals.tick(now_s, utc_s, last=True)
    stop = threading.Event()
    stop.set()
    totals.run(stop)  # closes the store


def test_it_writes_every_thirty_seconds_and_at_the_end(path: Path) -> None:
    made, _, _ = keeper(path)
    made.emit(walk(0, 10))
    made.tick(100.0, NOON_S)
    assert stored(path) == {"walking": 10}
    made.emit(walk(11, 9))
    made.tick(129.0, NOON_S)
    assert stored(path) == {"walking": 10}  # what a kill now would leave
    made.tick(130.0, NOON_S)
    assert stored(path) == {"walking": 20}
    made.emit([label(21, "sitting")])
    end(made, 131.0, NOON_S)
    assert stored(path) == {"walking": 20, "sitting": 1}


def test_it_publishes_once_a_minute_on_a_new_day_and_at_the_end(path: Path) -> None:
    made, wire, _ = keeper(path)
    for now_s in range(100, 200):
        made.emit([label(now_s, "walking")])
        made.tick(now_s, NOON_S)
    assert [t.seconds["walking"] for t in wire.sent] == [1, 61]
    assert wire.shown["a"].seconds == {"walking": 99}  # the table is always up to date
    made.emit([label(200, "walking", MIDNIGHT_S)])
    made.tick(200, MIDNIGHT_S)
    assert wire.sent[2:] == [
        DayTotals("a", "2026-03-01", {"walking": 99}),  # what the old day came to
        DayTotals("a", "2026-03-02", {"walking": 1}),
    ]
    made.emit([label(201, "sitting", MIDNIGHT_S)])
    made.tick(201, MIDNIGHT_S)
    assert len(wire.sent) == 4
    end(made, 202, MIDNIGHT_S)
    assert wire.sent[-1].seconds == {"walking": 1, "sitting": 1}


@pytest.mark.parametrize("then", ["silent", "forgotten", "restarted"])
def test_a_device_that_says_nothing_begins_the_day_all_the_same(path: Path, then: str) -> None:
    """A subscriber that shows `today` has nothing else to go by: the retained totals are yesterday's."""
    made, wire, _ = keeper(path)
    made.emit(walk(0, 5) + walk(0, 5, device="synthetic-1"))
    made.tick(100.0, NOON_S)
    made.emit([label(6, "sitting")])
    made.tick(101.0, NOON_S)
    if then == "forgotten":
        made.forget(["a"])
    made.tick(170.0, NOON_S)
    assert wire.sent[-1] == DayTotals("a", "2026-03-01", {"walking": 5, "sitting": 1})
    if then == "restarted":
        end(made, 180.0, NOON_S)
        made, wire, _ = keeper(path)
    for day in range(3):
        for second in range(20):
            made.tick(200.0 + 86_400 * day + second, MIDNIGHT_S + 86_400 * day + second)
    begun = [DayTotals("a", f"2026-03-0{day}", {}) for day in (2, 3, 4)]
    sent = [t for t in wire.sent if t.device == "a" and t.day > "2026-03-01"]
    assert sent == (begun if then == "silent" else begun[:1])  # once is enough for who does not return
    if then == "restarted":
        assert {t.device for t in wire.sent} == {"a"}  # and not the phone that does not exist
    made.emit(walk(1000, 2, utc_s=NOON_S + 2 * 86_400))
    made.tick(200.0 + 2 * 86_400 + 100, NOON_S + 2 * 86_400)
    assert wire.sent[-1].seconds == {"walking": 2}
    assert stored(path) == {"walking": 5, "sitting": 1}


def test_a_last_window_that_is_late_at_midnight_is_published_with_its_day(path: Path) -> None:
    made, wire, _ = keeper(path)
    made.emit(walk(0, 5, utc_s=MIDNIGHT_S - 10))
    made.tick(100.0, MIDNIGHT_S - 1)
    made.tick(102.0, MIDNIGHT_S + 1)
    made.emit([label(6, "walking", MIDNIGHT_S - 0.1)])
    made.tick(103.0, MIDNIGHT_S + 2)
    made.tick(113.0, MIDNIGHT_S + 12)
    assert wire.sent[1:] == [DayTotals("a", "2026-03-01", {"walking": 6}), DayTotals("a", "2026-03-02", {})]


def test_devices_that_went_while_the_disk_failed_leave_nothing_in_memory(path: Path) -> None:
    path.parent.write_text("a file where the folder should be")
    made, _, _ = keeper(path)
    for i in range(50):
        made.emit(walk(0, 5, device=f"d{i}"))
        made.tick(100.0 + 40 * i, NOON_S)
        made.forget([f"d{i}"])
    path.parent.unlink()
    for i in range(50, 100):
        made.tick(100.0 + 40 * i, NOON_S)
    assert stored(path, device="d49") == {"walking": 5}
    assert made._today == {}


def test_what_no_broker_takes_is_published_later(path: Path) -> None:
    made, wire, _ = keeper(path)
    wire.up = False
    made.emit(walk(0, 5))
    made.tick(100.0, NOON_S)
    assert wire.sent == []
    wire.up = True
    made.tick(101.0, NOON_S)
    assert wire.sent == [DayTotals("a", "2026-03-01", {"walking": 5})]


def test_silence_and_gaps_are_nobodys_time(path: Path) -> None:
    made, _, _ = keeper(path)
    made.emit([label(0, "walking"), label(1, "walking"), label(1, "unknown"), label(500, "walking")])
    end(made, 100.0, NOON_S)
    assert stored(path) == {"walking": 1}


def test_a_forgotten_device_leaves_nothing_in_memory_and_finds_its_totals_again(path: Path) -> None:
    made, wire, _ = keeper(path)
    made.emit(walk(0, 5))
    made.tick(100.0, NOON_S)
    made.emit(walk(6, 4))
    made.forget(["a"])
    made.tick(101.0, NOON_S)  # not written yet: kept
    made.tick(131.0, NOON_S)
    assert stored(path) == {"walking": 10}
    wire.shown.clear()
    made.emit(walk(1000, 2))
    made.tick(200.0, NOON_S)
    assert wire.shown["a"].seconds == {"walking": 12}


def test_old_days_are_forgotten(path: Path) -> None:
    made, _, _ = keeper(path, keep_days=1)
    made.emit(walk(0, 5))
    end(made, 100.0, NOON_S)
    assert stored(path) == {"walking": 5}
    made, _, _ = keeper(path, keep_days=1)
    made.emit(walk(0, 5, utc_s=NOON_S + 2 * 86_400))
    made.tick(100.0, NOON_S + 2 * 86_400)
    assert stored(path) == {"walking": 5}  # that date may be a mistake of the clock
    made.emit(walk(6, 5, utc_s=NOON_S + 2 * 86_400 + 3700))
    end(made, 3800.0, NOON_S + 2 * 86_400 + 3700)
    assert stored(path) == {}
    assert stored(path, "2026-03-03") == {"walking": 11}


def test_a_clock_that_was_years_ahead_for_a_while_costs_nothing(path: Path) -> None:
    made, wire, _ = keeper(path)
    made.emit(walk(0, 5))
    made.tick(100.0, NOON_S)
    made.emit(walk(6, 50, utc_s=NOON_S + 500 * 86_400))
    made.tick(150.0, NOON_S + 500 * 86_400)
    for t in range(60, 200):
        made.emit([label(t, "walking")])
        made.tick(100.0 + t, NOON_S)
    assert wire.shown["a"].day == "2026-03-01"  # and not that of the future, until it comes
    assert wire.sent[-1].day == "2026-03-01"
    end(made, 400.0, NOON_S)
    assert stored(path) == {"walking": 5 + 143}
    assert wire.sent[-1].seconds == stored(path)


def test_a_device_that_fell_silent_while_the_disk_failed_is_published_when_it_works(path: Path) -> None:
    made, wire, counters = keeper(path)
    wire.up = False
    made.emit(walk(0, 5, device="silent"))
    made.tick(100.0, NOON_S)
    busy = sqlite3.connect(path, isolation_level=None)
    busy.execute("BEGIN EXCLUSIVE")  # a backup
    made.emit(walk(0, 5))
    made.tick(140.0, NOON_S)
    assert counters[Drop.TOTALS_NOT_WRITTEN] == 1
    busy.close()
    wire.up = True
    made.emit(walk(6, 5))
    made.tick(180.0, NOON_S)
    assert {t.device: t.seconds for t in wire.sent} == {"silent": {"walking": 5}, "a": {"walking": 11}}
    end(made, 181.0, NOON_S)


def test_a_disk_that_fails_is_said_once_counted_and_survived(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path.parent.write_text("a file where the folder should be")
    made, wire, counters = keeper(path)
    with caplog.at_level(logging.ERROR):
        for now_s in (100.0, 140.0, 180.0):
            made.emit(walk(now_s, 5))
            made.tick(now_s, NOON_S)
    assert len(caplog.records) == 1
    assert counters[Drop.TOTALS_NOT_WRITTEN] == 3
    assert wire.shown["a"].seconds == {"walking": 15}
    path.parent.unlink()  # somebody mends it
    made.emit(walk(300.0, 5))
    made.tick(300.0, NOON_S)
    assert stored(path) == {"walking": 20}
    end(made, 301.0, NOON_S)
    assert wire.sent[-1].seconds == {"walking": 20}


def test_a_damaged_file_is_put_aside_and_totals_begin_anew(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path.parent.mkdir()
    path.write_bytes(b"this is not SQLite " * 100)
    made, wire, counters = keeper(path)
    made.emit(walk(0, 5))
    end(made, 100.0, NOON_S)
    assert counters[Drop.TOTALS_NOT_WRITTEN] == 0
    assert "not a database; it is kept as totals.sqlite3.damaged" in caplog.text
    assert wire.sent[-1].seconds == {"walking": 5}
    assert stored(path) == {"walking": 5}
    assert path.with_name("totals.sqlite3.damaged").read_bytes().startswith(b"this is not SQLite")


def test_a_folder_that_is_deleted_costs_no_seconds_of_today(path: Path) -> None:
    """An open file outlives its deletion, and takes whatever is written; nobody would find it again."""
    totals, _, _ = keeper(path)
    totals.emit(walk(0, 60))
    totals.tick(0.0, NOON_S)
    shutil.rmtree(path.parent)
    totals.emit(walk(61, 9))
    totals.tick(60.0, NOON_S + 60.0)
    totals.emit(walk(71, 9))
    end(totals, 120.0, NOON_S + 120.0)
    assert stored(path) == {"walking": 80}


def test_totals_survive_their_json() -> None:
    totals = DayTotals("a", "2026-03-01", {"walking": 12.8, "unknown": 1.28})
    assert decode_totals(encode_totals(totals)) == totals
    assert msgspec.json.decode(encode_totals(totals)) == {
        "v": 1, "device": "a", "day": "2026-03-01", "seconds": {"walking": 12.8, "unknown": 1.28},
    }  # fmt: skip
    with pytest.raises(ValueError, match="missing required field"):
        decode_totals(b"{}")


def test_the_table_shows_what_took_longest_today() -> None:
    day = datetime.fromtimestamp(NOON_S).date().isoformat()
    seconds = {"walking": 754.0, "sitting": 3921.0, "unknown": 4.0}
    totals = {"a": DayTotals("a", day, seconds)}
    console = Console(width=140, record=True, file=io.StringIO())
    console.print(render("t", [label(0, "walking")], {}, NOON_S, totals))
    assert "sitting 1h05, walking 12m, unknown 4s" in console.export_text()
    console.print(render("t", [label(0, "walking")], {}, NOON_S + 86_400, totals))
    assert "sitting" not in console.export_text()  # yesterday's
