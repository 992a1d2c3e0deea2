"""Steady labels: a function of (t_end, probabilities) alone, steady, held, and the same at any overlap."""

from __future__ import annotations

import itertools

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hard.settings import SmoothingSettings
from hard.smoothing import LOW_CONFIDENCE, Smoother, Steady
from hard.types import Prediction

NAMES = ("walking", "sitting", "standing")
HOP_S = 1.28
DEFAULTS = SmoothingSettings()


def prediction(
    t: float, shares: tuple[float, ...], device: str = "a", reason: str | None = None
) -> Prediction:
    """Shares of NAMES; a fourth number is the movement in g."""
    total = sum(shares[:3])
    probabilities = {name: share / total for name, share in zip(NAMES, shares, strict=False)}
    movement_g = shares[3] if len(shares) > 3 else 1.0
    return Prediction(device, t, "", 0.0, probabilities, 50.0, 0, 0.0, 0.0, "m", "0", reason, movement_g)


def sure(activity: str, share: float = 0.94) -> tuple[float, ...]:
    return tuple(share if name == activity else (1 - share) / 2 for name in NAMES)


def run(windows: list[Prediction], settings: SmoothingSettings = DEFAULTS) -> list[Steady]:
    smoother = Smoother(settings)
    return [smoother.update(p) for p in windows]


def series(rows: list[tuple[float, ...]], first_s: float = 0.0, hop_s: float = HOP_S) -> list[Prediction]:
    return [prediction(first_s + i * hop_s, row) for i, row in enumerate(rows)]


shares = st.tuples(*[st.floats(0.01, 1.0)] * 3, st.sampled_from([0.01, 0.3]))
sequences = st.lists(shares, min_size=1, max_size=30)
tunings = st.builds(
    SmoothingSettings,
    time_constant_s=st.floats(0.1, 4.0),
    still_time_constant_s=st.floats(4.0, 9.0),
    settle_s=st.floats(0.0, 9.0),
    hysteresis=st.floats(1.0, 40.0),
    min_hold_s=st.floats(0.0, 9.0),
    min_confidence=st.floats(0.0, 0.5),
)


@given(sequences, sequences, tunings)
def test_devices_do_not_touch_each_other(
    mine: list[tuple[float, ...]], other: list[tuple[float, ...]], tuning: SmoothingSettings
) -> None:
    alone = run(series(mine), tuning)
    smoother, got = Smoother(tuning), []
    for p, q in itertools.zip_longest(series(mine), series(other)):
        got += [smoother.update(p)] if p else []
        if q:
            smoother.update(msgspec.structs.replace(q, device="b"))
    assert got == alone


@given(sequences, sequences, tunings, st.floats(10.1, 1e6) | st.floats(-1e6, 0.0))
def test_after_a_gap_or_a_clock_that_jumps_nothing_earlier_counts(
    before: list[tuple[float, ...]], after: list[tuple[float, ...]], tuning: SmoothingSettings, gap_s: float
) -> None:
    first_s = (len(before) - 1) * HOP_S + gap_s
    got = run(series(before) + series(after, first_s), tuning)
    assert got[len(before) :] == run(series(after, first_s), tuning)
    assert [s.restarted for s in got] == [i in (0, len(before)) for i in range(len(got))]


@given(sequences, tunings)
def test_changes_are_at_least_the_hold_apart(
    rows: list[tuple[float, ...]], tuning: SmoothingSettings
) -> None:
    windows = series(rows)
    said = run(windows, tuning)
    changes = [
        windows[i].t_end for i in range(len(said)) if i == 0 or said[i].activity != said[i - 1].activity
    ]
    assert all(b - a >= tuning.min_hold_s - 1e-9 for a, b in itertools.pairwise(changes))


@given(sequences, tunings)
def test_confidence_is_a_share_and_only_unknown_has_a_reason(
    rows: list[tuple[float, ...]], tuning: SmoothingSettings
) -> None:
    for steady in run(series(rows), tuning):
        unknown = steady.activity == "unknown"
        assert (steady.reason is not None) == unknown
        assert (steady.confidence == 0) == unknown
        assert 0 <= steady.confidence <= 1


@given(st.sampled_from([2, 3, 4, 8]), st.floats(0.6, 0.98), st.floats(0.2, 3.0))
def test_more_overlap_does_not_change_what_the_settings_mean(
    parts: int, share: float, time_constant_s: float
) -> None:
    """Somebody sits down at 20 s: the delay in seconds is that of the coarse hop, to within one."""
    tuning = SmoothingSettings(time_constant_s=time_constant_s, hysteresis=2.0)

    def changed_s(hop_s: float) -> float:
        rows = [
            sure("walking", share) if i * hop_s < 20 else sure("sitting", share)
            for i in range(int(60 / hop_s))
        ]
        said = run(series(rows, 0.0, hop_s), tuning)
        assert {s.activity for s in said} == {"walking", "sitting"}
        return next(i for i, s in enumerate(said) if s.activity == "sitting") * hop_s

    assert abs(changed_s(HOP_S / parts) - changed_s(HOP_S)) <= HOP_S + 1e-9


def activities(rows: list[tuple[float, ...]], tuning: SmoothingSettings = DEFAULTS) -> list[str]:
    return [s.activity for s in run(series(rows), tuning)]


def test_a_doubtful_window_does_not_change_the_activity() -> None:
    flap = (0.25, 0.65, 0.1)  # the model would say sitting
    assert activities([sure("walking")] * 3 + [flap] + [sure("walking")] * 3) == ["walking"] * 7


def test_two_clear_windows_change_it() -> None:
    assert activities([sure("walking")] * 3 + [sure("sitting")] * 2)[-1] == "sitting"


def test_the_confidence_is_that_of_the_steady_activity() -> None:
    flap = (0.25, 0.65, 0.1)
    said = run(series([sure("walking")] * 3 + [flap]))
    assert said[2].confidence == pytest.approx(0.94, abs=0.01)
    assert said[3].activity == "walking"
    assert 0.2 < said[3].confidence < 0.5


def test_doubt_that_lasts_is_unknown_and_says_why() -> None:
    doubt = (0.34, 0.33, 0.33)
    said = run(series([sure("walking")] * 3 + [doubt] * 6 + [sure("sitting")] * 3))
    assert [s.activity for s in said[:5]] == ["walking"] * 5
    assert (said[8].activity, said[8].reason) == ("unknown", LOW_CONFIDENCE)
    assert said[-1].activity == "sitting"


def test_windows_that_are_unknown_by_themselves_keep_their_reason() -> None:
    walk = series([sure("walking")] * 3)
    slow = [prediction(3.84 + i * HOP_S, sure("walking"), reason=f"rate {i}") for i in range(4)]
    said = run(walk + slow)
    assert [s.activity for s in said] == ["walking"] * 4 + ["unknown"] * 3  # one window alone changes nothing
    assert said[-1].reason == "rate 3"


def test_thirty_devices_of_noise_stay_bounded() -> None:
    """What is kept is one state a device, and `forget` drops it."""
    smoother = Smoother(DEFAULTS)
    rng = np.random.default_rng(0)
    for i in range(300):
        smoother.update(prediction(i * HOP_S, tuple(rng.uniform(0.1, 1, 3)), f"d{i % 30}"))
    smoother.forget([f"d{i}" for i in range(30)])
    again = smoother.update(prediction(400.0, sure("sitting"), "d3"))
    assert (again.activity, again.restarted) == ("sitting", True)


def test_a_posture_does_not_change_while_the_phone_lies_still_unless_the_model_insists() -> None:
    def still(rows: list[tuple[float, ...]]) -> list[Prediction]:
        return [msgspec.structs.replace(p, movement_g=0.02) for p in series(rows)]

    rows = [sure("sitting")] * 10 + [sure("standing")] * 3 + [sure("sitting")] * 3
    assert {s.activity for s in run(still(rows))} == {"sitting"}
    assert "standing" in {s.activity for s in run(series(rows))}  # with movement they would
    insisting = [sure("sitting")] * 10 + [sure("standing")] * 16
    assert run(still(insisting))[-1].activity == "standing"


@given(sequences, st.floats(0.1, 4.0))
def test_a_model_that_averages_is_averaged_no_longer_than_it_says(
    rows: list[tuple[float, ...]], longest_s: float
) -> None:
    said = [msgspec.structs.replace(p, averaging_s=longest_s) for p in series(rows)]
    both = SmoothingSettings(time_constant_s=longest_s, still_time_constant_s=longest_s)
    capped = SmoothingSettings(time_constant_s=longest_s, still_time_constant_s=6.0)
    assert run(said, capped) == run(series(rows), both)
