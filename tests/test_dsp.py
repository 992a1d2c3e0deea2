"""The filter is sosfilt, and the resampler keeps what it should and removes what it must."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import butter, sosfilt, sosfilt_zi

from hard.dsp import TICKS_PER_SAMPLE, GravityFilter, resample
from hard.imu import Imu, Limits
from hard.stats import Counters
from hard.types import Chunk, G, Windowing

RATE_HZ, HOP = 50.0, 64


def reference(x: np.ndarray) -> np.ndarray:
    """sosfilt with carried state over (n, 3), started as if the first sample had always been there."""
    sos = butter(3, 0.3, fs=RATE_HZ, output="sos")
    return sosfilt(sos, x, axis=0, zi=sosfilt_zi(sos)[:, :, None] * x[0])[0]


@given(devices=st.integers(1, 40), hops=st.integers(1, 12), seed=st.integers(0, 2**32 - 1))
def test_filter_equals_sosfilt_over_many_devices(devices: int, hops: int, seed: int) -> None:
    x = np.random.default_rng(seed).normal(0, 10, (devices, hops * HOP, 3))
    gravity = GravityFilter(0.3, 3, RATE_HZ, HOP)
    z = gravity.start(x[:, 0])
    out = []
    for k in range(hops):
        y, z = gravity(x[:, k * HOP : (k + 1) * HOP], z)
        out.append(y)
    got = np.concatenate(out, axis=1)
    for d in range(devices):
        np.testing.assert_allclose(got[d], reference(x[d]), rtol=0, atol=1e-9)


@given(seed=st.integers(0, 2**32 - 1), devices=st.integers(2, 30))
def test_filter_of_a_device_does_not_depend_on_the_batch(seed: int, devices: int) -> None:
    x = np.random.default_rng(seed).normal(0, 10, (devices, HOP, 3))
    gravity = GravityFilter(0.3, 3, RATE_HZ, HOP)
    together, _ = gravity(x, gravity.start(x[:, 0]))
    alone, _ = gravity(x[:1], gravity.start(x[:1, 0]))
    assert (together[:1] == alone).all()


@pytest.mark.parametrize("size", [1, 7, 25, 64, 100, 200])
def test_pipeline_gravity_equals_sosfilt_whatever_the_chunk_size(size: int) -> None:
    rng = np.random.default_rng(size)
    n = 20 * HOP
    samples = rng.normal([0, 0, 9.8, 0, 0, 0], 2.0, (n, 6)).astype(np.float32)
    imu = Imu(Windowing(), Limits(), Counters())
    seen = []
    for i in range(0, n, size):
        imu.push(Chunk("a", np.arange(i, min(i + size, n)) / RATE_HZ, samples[i : i + size], 0.0))
        windows = imu.prepare()
        if windows is not None:
            seen.append(windows.x)
    x = np.concatenate(seen)
    gravity = reference(samples[:, :3].astype(np.float64) / G)
    for k, window in enumerate(x):
        body = samples[k * HOP : k * HOP + 128, :3].astype(np.float64) / G - gravity[k * HOP : k * HOP + 128]
        assert (window[:, :3] == body.astype(np.float32)).mean() > 0.999  # float32 rounds a 1e-12 difference
        np.testing.assert_allclose(window[:, :3], body, rtol=0, atol=1e-6)


def batch_of_one(ticks: np.ndarray, values: np.ndarray) -> np.ndarray:
    samples = np.repeat(values[:, None], 6, axis=1).astype(np.float32)
    out = resample(ticks.astype(np.int32)[None], samples[None], np.array([len(ticks)]), HOP)
    return out[0, :, 0]


def test_samples_on_the_grid_are_unchanged() -> None:
    values = np.random.default_rng(0).normal(0, 10, HOP).astype(np.float32)
    assert (batch_of_one(np.arange(HOP) * TICKS_PER_SAMPLE, values) == values).all()


@given(seed=st.integers(0, 2**32 - 1), rate_hz=st.floats(20, 400))
def test_a_straight_line_is_kept_whatever_the_sampling(seed: int, rate_hz: float) -> None:
    """Up to 50 Hz exactly; above, delayed by at most half an output period, which the average costs."""
    rng = np.random.default_rng(seed)
    step = TICKS_PER_SAMPLE * RATE_HZ / rate_hz
    n = int(HOP * TICKS_PER_SAMPLE / step) + 4
    ticks = np.unique(np.rint((np.arange(n) + rng.uniform(-0.3, 0.3, n)) * step - step).astype(int))
    ticks -= max(
        ticks[0] + TICKS_PER_SAMPLE, 0
    )  # the first sample lies before the first grid point's average
    got = batch_of_one(ticks, ticks / TICKS_PER_SAMPLE)
    late = np.arange(HOP) - got
    assert (late > -1e-3).all()
    assert (late < (1e-3 if rate_hz < 47 else 0.5 + 1e-3)).all()


@pytest.mark.parametrize(("rate_hz", "tone_hz", "most"), [(100, 45, 0.25), (200, 45, 0.25), (400, 48, 0.2)])
def test_tones_that_would_alias_are_weakened(rate_hz: float, tone_hz: float, most: float) -> None:
    step = TICKS_PER_SAMPLE * RATE_HZ / rate_hz
    ticks = np.rint(np.arange(-4, HOP * TICKS_PER_SAMPLE / step + 1) * step)
    seconds = ticks / TICKS_PER_SAMPLE / RATE_HZ
    got = batch_of_one(ticks, np.sin(2 * np.pi * tone_hz * seconds))
    assert got.std() < most * np.sqrt(0.5)


@pytest.mark.parametrize("rate_hz", [50, 100, 200, 400])
def test_gait_frequencies_pass(rate_hz: float) -> None:
    step = TICKS_PER_SAMPLE * RATE_HZ / rate_hz
    ticks = np.rint(np.arange(-4, HOP * TICKS_PER_SAMPLE / step + 1) * step)
    tone_hz = 4.0
    got = batch_of_one(ticks, np.sin(2 * np.pi * tone_hz * ticks / TICKS_PER_SAMPLE / RATE_HZ))
    spectrum = np.abs(np.fft.rfft(got[:50]))  # one second: 4 Hz is bin 4
    assert spectrum[4] / 25 > 0.97
