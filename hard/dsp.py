"""Resampling and the causal gravity split: pure NumPy/SciPy, many devices in one call."""

from __future__ import annotations

from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.signal import butter, sosfilt, sosfilt_zi

from hard.types import F32, F64

TICKS_PER_SAMPLE: Final = 256
"""Time is kept in ticks of 1/256 output sample (78 µs at 50 Hz): integers, so that the place of a sample on
the grid does not depend on how a clock's offset rounds, nor on how samples were split into messages."""

Ticks = NDArray[np.int32]
Real = TypeVar("Real", np.float32, np.float64)


class GravityFilter:
    """Causal Butterworth low-pass as a block recursion: [y; z'] = M [x; z] for a fixed hop.

    M is built column by column by running `scipy.signal.sosfilt` on unit vectors, so the state z is exactly
    sosfilt's own `zi`. Every block is one product of the same shape whatever the batch, so a device's output
    does not depend, to the last bit, on which devices were filtered with it.
    """

    def __init__(self, cutoff_hz: float, order: int, rate_hz: float, hop: int) -> None:
        self.hop = hop
        self._sos: F64 = butter(order, cutoff_hz, fs=rate_hz, output="sos")
        sections = len(self._sos)
        self.states = 2 * sections
        self._rest: F64 = sosfilt_zi(self._sos).reshape(-1)  # (states,) per unit of a constant input
        basis = np.eye(hop + self.states)  # each column: one input sample or one state set to 1
        zi = basis[hop:].reshape(sections, 2, -1)
        y, zf = sosfilt(self._sos, basis[:hop], axis=0, zi=zi)
        self._m: F64 = np.concatenate([y, zf.reshape(self.states, -1)])  # (hop + states, hop + states)

    def start(self, x0: F64) -> F64:
        """State after an endless constant input x0: (B, 3) -> (B, states, 3)."""
        return self._rest[None, :, None] * x0[:, None, :]

    def __call__(self, x: F64, z: F64) -> tuple[F64, F64]:
        """Filter one hop: x (B, hop, 3), z (B, states, 3) -> low-passed (B, hop, 3) and the next state."""
        out = np.matmul(self._m, np.concatenate([x, z], axis=1))
        return out[:, : self.hop], out[:, self.hop :]


def resample(ticks: Ticks, samples: F32, counts: NDArray[np.intp], hop: int) -> F32:
    """Values on the grid 0, 256, ... (hop - 1) * 256 ticks, for a batch of irregular recordings.

    ticks (B, n) strictly increasing in each row's first `counts` entries and larger than any grid point in
    its padding; samples (B, n, 6). Returns (B, hop, 6). Rows at or below the output rate are interpolated
    linearly; faster rows are averaged over an output period (at twice the output rate and above; over less
    between), which ends at the grid point, against aliasing. Samples that lie on the grid come out unchanged.
    """
    out = _interpolate(ticks, samples, counts, hop)  # (B, hop, 6)
    rows = np.arange(len(ticks))
    span = ticks[rows, counts - 1] - ticks[:, 0]
    period = span / np.maximum(counts - 1, 1)  # (B,) mean input period, ticks
    fast = np.flatnonzero(period < 0.95 * TICKS_PER_SAMPLE)
    if fast.size:
        width = np.minimum(2 * (TICKS_PER_SAMPLE - period[fast]), TICKS_PER_SAMPLE)
        out[fast] = _average(ticks[fast], samples[fast], counts[fast], hop, width)
    return out


def _neighbours(
    ticks: Ticks, samples: NDArray[Real], counts: NDArray[np.intp], hop: int, early: F64
) -> tuple[NDArray[np.intp], NDArray[Real], NDArray[Real], F64, F64]:
    """Around the times `early` (B,) ticks before each grid point: the sample at or before each.

    Returns its index among all (B * n) samples, its value and the step to the next one, (B, hop, 6), the time
    since it and that from it to the next one, (B, hop). Beyond both ends of a row the signal is constant.
    """
    batch, n = ticks.shape
    point = np.ceil(
        (ticks + early[:, None]) / TICKS_PER_SAMPLE
    )  # the first grid point that a sample precedes
    point = np.clip(point, 0, hop).astype(np.intp) + np.arange(batch)[:, None] * (hop + 1)
    begun = np.bincount(point.ravel(), minlength=batch * (hop + 1)).reshape(batch, hop + 1)
    last = counts[:, None] - 1
    lo = np.clip(np.cumsum(begun[:, :hop], axis=1) - 1, 0, last)  # (B, hop)
    row = np.arange(batch)[:, None] * n
    at, after = row + lo, row + np.minimum(lo + 1, last)
    flat, times = samples.reshape(-1, samples.shape[2]), ticks.reshape(-1)
    before = flat[at]
    step = flat[after] - before
    elapsed = np.arange(hop) * TICKS_PER_SAMPLE - early[:, None] - times[at]
    total = np.maximum(times[after] - times[at], 1).astype(np.float64)
    outside = (elapsed < 0) | (after == at)
    if outside.any():
        step[outside] = 0
    return at, before, step, elapsed, total


def _interpolate(ticks: Ticks, samples: F32, counts: NDArray[np.intp], hop: int) -> F32:
    _, before, step, elapsed, total = _neighbours(ticks, samples, counts, hop, np.zeros(len(ticks)))
    step *= (elapsed / total).astype(np.float32)[..., None]
    before += step
    return before


def _average(ticks: Ticks, samples: F32, counts: NDArray[np.intp], hop: int, width: F64) -> F64:
    """Mean of the piecewise linear signal over `width` (B,) ticks before each grid point, by its integral."""
    x = samples.astype(np.float64)
    dt = np.diff(ticks, axis=1).astype(np.float64)
    area = 0.5 * (x[:, 1:] + x[:, :-1]) * dt[..., None]
    integral = np.concatenate([np.zeros_like(x[:, :1]), np.cumsum(area, axis=1)], axis=1).reshape(
        -1, x.shape[2]
    )

    def up_to(early: F64) -> F64:
        at, before, step, elapsed, total = _neighbours(ticks, x, counts, hop, early)
        e = elapsed[..., None]
        out: F64 = integral[at] + before * e + step / total[..., None] * (0.5 * e * e)
        return out

    mean: F64 = (up_to(np.zeros(len(ticks))) - up_to(width)) / width[:, None, None]
    return mean
