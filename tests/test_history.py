"""Labels and events: what begins ends once, in order, with its dwell time; silence ends it too."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hard.history import History
from hard.settings import SmoothingSettings
from hard.sinks.payload import decode, encode, encode_event
from hard.smoothing import Smoother
from hard.types import Event, Label, Prediction

NAMES = ("walking", "sitting", "standing")
TUNING = SmoothingSettings(hysteresis=1.0, min_hold_s=0.0, time_constant_s=0.01)  # steady is raw, nearly
UTC_S = 1.7e9


def history() -> History:
    return History(Smoother(TUNING), stale_s=10.0, offline_s=60.0)


def prediction(t: float, activity: str, arrival_s: float, reason: str | None = None) -> Prediction:
    probabilities = {name: 0.9 if name == activity else 0.05 for name in NAMES}
    return Prediction(
        "a", t, activity, 0.9, probabilities, 50.0, 0, arrival_s, arrival_s, "m", "0" * 12, reason
    )


steps = st.lists(
    st.tuples(st.sampled_from(NAMES), st.sampled_from([1.28, 1.28, 1.28, 15.0, 70.0, -50.0])), max_size=40
)


@given(steps)
def test_events_alternate_and_add_up(walk: list[tuple[str, float]]) -> None:
    """A device that changes, pauses and sets its clock back: every exit has its enter and its dwell time."""
    now_s = t = 100.0
    events: list[Event] = []
    labels: list[Label] = []
    made = history()
    for activity, step_s in walk:
        t += step_s
        now_s += abs(step_s)
        labels += made.silent(now_s, events)
        labels.append(made.label(prediction(t, activity, now_s), UTC_S + now_s, now_s, events))
    assert [e.type for e in events] == [("enter", "exit")[i % 2] for i in range(len(events))]
    for enter, leave in zip(events[::2], events[1::2], strict=False):
        assert leave.activity == enter.activity
        assert leave.dwell_s == pytest.approx(leave.t - enter.t)
        assert leave.dwell_s >= 0
        assert leave.utc_s >= enter.utc_s
    assert [label.seq for label in labels] == list(range(1, len(labels) + 1))
    if events:
        assert (events[-1].type, events[-1].activity) == ("enter", labels[-1].activity)


@given(st.lists(st.floats(0.1, 100.0), max_size=20))
def test_silence_is_said_once_each(pauses: list[float]) -> None:
    made, events = history(), []
    made.label(prediction(5.0, "walking", 0.0), UTC_S, 0.0, events)
    times = list(itertools.accumulate(pauses))
    said = [label for now_s in times for label in made.silent(now_s, events)]
    reasons = [label.reason for label in said]
    last_s = times[-1] if times else 0.0
    stale = any(10 <= s < 60 for s in times)
    assert reasons == ["stale"] * stale + ["offline"] * (last_s >= 60)
    assert all(label.activity == "unknown" and label.confidence == 0 for label in said)
    assert [e.type for e in events] == ["enter"] + ["exit"] * bool(said)


settings = st.tuples(st.floats(0.5, 50.0), st.floats(51.0, 200.0))


@given(st.lists(st.tuples(st.floats(0.1, 60.0), settings), max_size=20))
def test_other_settings_make_no_silence_end(steps: list[tuple[float, tuple[float, float]]]) -> None:
    """However often stale_s and offline_s change: stale at most once, then offline at most once."""
    made, events = history(), []
    now_s = 0.0
    made.label(prediction(5.0, "walking", now_s), UTC_S, now_s, events)
    said: list[str | None] = []
    for step_s, (stale_s, offline_s) in steps:
        now_s += step_s
        made.use(TUNING, stale_s=stale_s, offline_s=offline_s)
        said += [label.reason for label in made.silent(now_s, events)]
    assert said in ([], ["stale"], ["offline"], ["stale", "offline"])
    assert [e.type for e in events] == ["enter"] + ["exit"] * bool(said)


def test_a_change_is_an_exit_and_an_enter_at_the_same_moment() -> None:
    made, events = history(), []
    for i, activity in enumerate(["walking", "walking", "sitting"]):
        made.label(prediction(1.28 * i, activity, float(i)), UTC_S + i, float(i), events)
    assert events == [
        Event("a", "enter", "walking", 0.0, UTC_S),
        Event("a", "exit", "walking", 2.56, UTC_S + 2, 2.56),
        Event("a", "enter", "sitting", 2.56, UTC_S + 2),
    ]


def test_unknown_has_no_events() -> None:
    made, events = history(), []
    for i, reason in enumerate([None, "slow", "slow", None]):
        made.label(prediction(1.28 * i, "walking", float(i), reason), UTC_S + i, float(i), events)
    assert [(e.type, e.activity, e.t) for e in events] == [
        ("enter", "walking", 0.0), ("exit", "walking", 1.28), ("enter", "walking", 3 * 1.28),
    ]  # fmt: skip


def test_a_label_survives_its_json() -> None:
    made, events = history(), []
    label = made.label(prediction(1.28, "sitting", 2.0), UTC_S, 2.25, events)
    (stale,) = made.silent(20.0, events)
    for it in (label, stale):
        back = decode(encode(it))
        assert (back.activity, back.confidence, back.reason) == (
            it.activity,
            round(it.confidence, 4),
            it.reason,
        )
        assert (back.prediction.activity, back.prediction.confidence) == (
            it.prediction.activity, it.prediction.confidence,
        )  # fmt: skip
        assert (back.since_s, back.window_end_s, back.seq) == (it.since_s, it.window_end_s, it.seq)


def test_an_event_as_json() -> None:
    enter = Event("a", "enter", "walking", 1.28, 1.7e9)
    assert encode_event(enter) == (
        b'{"v":1,"device":"a","type":"enter","activity":"walking","t":1.28,"utc":"2023-11-14T22:13:20.000Z"}'
    )
    leave = Event("a", "exit", "walking", 5.12, 1.7e9 + 3.84, 3.84)
    assert encode_event(leave).endswith(b'"utc":"2023-11-14T22:13:23.840Z","dwell_s":3.84}')
