"""Times for samples that carry none: steady under jitter, in step with drift, never back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hard.codecs.pace import Pace


class Wire:
    """A board without timestamps: samples at `rate_hz`, read after a delay, `batch` samples at a time."""

    def __init__(self, rate_hz: float, jitter_s: float, batch: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.messages: list[tuple[float, int]] = []  # (arrival, samples in it)
        self._true = 100.0 + np.arange(int(60 * rate_hz)) / rate_hz
        latest = 0.0
        for k in range(batch, len(self._true) + 1, batch):
            latest = max(latest, self._true[k - 1] + rng.uniform(0, jitter_s))
            self.messages.append((latest, batch))

    def times(self) -> tuple[np.ndarray, np.ndarray]:
        """What Pace makes of it, and when the samples were truly taken."""
        pace, got = Pace(), []
        for arrival_s, n in self.messages:
            times, lost = pace.take(arrival_s, n)
            assert lost == 0
            got += times.tolist()
        return np.array(got), self._true[: len(got)]


@settings(max_examples=40)
@given(
    rate_hz=st.floats(20, 400),
    jitter_s=st.floats(0, 0.1),
    batch_s=st.floats(0, 0.4),
    seed=st.integers(0, 1000),
)
def test_times_without_timestamps_are_steady_whatever_the_jitter(
    rate_hz: float, jitter_s: float, batch_s: float, seed: int
) -> None:
    times, true = Wire(rate_hz, jitter_s, max(1, int(batch_s * rate_hz)), seed).times()
    assert len(times) > 50 * rate_hz
    steps = np.diff(times) * rate_hz
    assert steps.min() > 0.85
    assert steps.max() < 1.15
    error = times - true
    assert np.ptp(error) < 0.02 + 2.5 * jitter_s
    late = error[len(error) // 2 :]
    assert np.ptp(late) < 0.01 + jitter_s


def test_drift_of_the_boards_clock_is_followed_without_a_jump() -> None:
    """50 Hz that becomes 50.5 Hz: a second of error within 100 s, were it not followed."""
    true = np.cumsum(np.r_[np.full(3000, 1 / 50), np.full(9000, 1 / 50.5)])
    pace = Pace()
    times = np.concatenate([pace.take(float(t), 1)[0] for t in true])
    assert np.ptp(times - true) < 0.05
    assert np.abs(np.diff(times) - 0.02).max() < 0.001
    assert pace.rate_hz == pytest.approx(50.5, rel=1e-3)


@pytest.mark.parametrize("pause_s", [1.3, 40.0])
def test_a_pause_is_a_gap_and_time_goes_on(pause_s: float) -> None:
    true = np.r_[np.arange(500) * 0.02, 10 + pause_s + np.arange(500) * 0.02]
    pace = Pace()
    times = np.concatenate([pace.take(float(t), 1)[0] for t in true])
    assert len(times) == 1000
    steps = np.diff(times)
    assert (steps > 0).all()
    assert steps[499] == pytest.approx(pause_s, abs=0.1)
    assert np.delete(steps, 499).max() < 0.025


def test_samples_that_come_too_fast_to_be_true_are_a_gap_and_time_never_goes_back() -> None:
    """A bridge that held 3 s of samples back and then sends them at once."""
    true = np.r_[np.arange(500) * 0.02, np.full(150, 13.0), 13.0 + np.arange(500) * 0.02]
    pace = Pace()
    times = np.concatenate([pace.take(float(t), 1)[0] for t in true])
    assert (np.diff(times) > 0).all()
    assert len(times) > 900


def test_a_board_that_is_set_to_another_rate_starts_anew_and_time_never_goes_back() -> None:
    true = np.r_[np.arange(500) / 50, 10 + np.arange(2000) / 200]
    pace = Pace()
    answers = [pace.take(float(t), 1) for t in true]
    times = np.concatenate([t for t, _ in answers])
    assert (np.diff(times) > 0).all()
    assert len(times) + sum(lost for _, lost in answers) == len(true)
    assert pace.rate_hz == pytest.approx(200, rel=0.01)


def test_too_many_samples_to_be_listened_to_are_counted_out() -> None:
    pace = Pace()
    lost = sum(pace.take(1.0 + i * 1e-5, 1)[1] for i in range(5000))
    assert lost == 2 * 2049
    assert pace.rate_hz == 0
