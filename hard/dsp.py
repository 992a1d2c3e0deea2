"""Resampling and the causal gravity split: pure NumPy/SciPy, many devices in one call."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.signal import butter, sosfilt, sosfilt_zi

from hard.types import F32, F64

TICKS_PER_SAMPLE: Final = 256
"""Time is kept in ticks of 1/256 output sample (78 µs at 50 Hz): integers, so that the place of a sample on
the grid does not depend on how a clock's offset rounds, nor on how samples were split into messages."""

Ticks = NDArray[np.int32]


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


def resample(ticks: Ticks, samples: F32, counts: NDArray[np.intp], hop: int) -> F64:
    """Values on the grid 0, 256, ... (hop - 1) * 256 ticks, for a batch of irregular recordings.

    ticks (B, n) strictly increasing in each row's first `counts` entries and larger than any grid point in
    its padding; samples (B, n, 6). Returns (B, hop, 6). Rows at or below the output rate are interpolated
    linearly; faster rows are averaged over an output period (at twice the output rate and above; over less
    between), which ends at the grid point, against aliasing. Samples that lie on the grid come out unchanged.
    """
    grid = np.arange(hop, dtype=np.int64) * TICKS_PER_SAMPLE
    out = _interpolate(ticks, samples, counts, grid)  # (B, hop, 6)
    rows = np.arange(len(ticks))
    span = ticks[rows, counts - 1] - ticks[:, 0]
    period = span / np.maximum(counts - 1, 1)  # (B,) mean input period, ticks
    fast = np.flatnonzero(period < 0.95 * TICKS_PER_SAMPLE)
    if fast.size:
        width = np.minimum(2 * (TICKS_PER_SAMPLE - period[fast]), TICKS_PER_SAMPLE)
        out[fast] = _average(ticks[fast], samples[fast], counts[fast], grid, width)
    return out


def _locate(ticks: Ticks, counts: NDArray[np.intp], at: F64) -> NDArray[np.intp]:
    """Index of the last sample at or before each time, (B, m) -> (B, m); 0 before the first sample."""
    offset = np.arange(len(ticks), dtype=np.float64)[:, None] * (1 << 24)  # one search over all rows
    flat = (ticks + offset).ravel()
    found = np.searchsorted(flat, (at + offset).ravel(), side="right").reshape(at.shape) - 1
    found -= np.arange(len(ticks))[:, None] * ticks.shape[1]
    return np.clip(found, 0, counts[:, None] - 1)


def _neighbours(
    ticks: Ticks, samples: F32, counts: NDArray[np.intp], at: F64
) -> tuple[NDArray[np.intp], F64, F64, F64]:
    """The sample at or before each time, the step to the next one, the elapsed and the total time between."""
    lo = _locate(ticks, counts, at)
    hi = np.minimum(lo + 1, counts[:, None] - 1)
    rows = np.arange(len(ticks))[:, None]
    before = samples[rows, lo].astype(np.float64)  # (B, m, 6)
    step = samples[rows, hi] - before
    elapsed = at - ticks[rows, lo]
    total = np.maximum(ticks[rows, hi] - ticks[rows, lo], 1)
    inside = (elapsed >= 0) & (hi > lo)  # constant beyond both ends
    return lo, before, step * inside[..., None], np.stack([elapsed, total.astype(np.float64)])


def _interpolate(ticks: Ticks, samples: F32, counts: NDArray[np.intp], grid: NDArray[np.int64]) -> F64:
    at = np.broadcast_to(grid.astype(np.float64), (len(ticks), len(grid)))
    _, before, step, (elapsed, total) = _neighbours(ticks, samples, counts, at)
    out: F64 = before + step * (elapsed / total)[..., None]
    return out


def _average(
    ticks: Ticks, samples: F32, counts: NDArray[np.intp], grid: NDArray[np.int64], width: F64
) -> F64:
    """Mean of the piecewise linear signal over [grid - width, grid], from its integral."""
    rows = np.arange(len(ticks))[:, None]
    x = samples.astype(np.float64)
    dt = np.diff(ticks, axis=1).astype(np.float64)
    area = 0.5 * (x[:, 1:] + x[:, :-1]) * dt[..., None]
    integral = np.concatenate([np.zeros_like(x[:, :1]), np.cumsum(area, axis=1)], axis=1)  # (B, n, 6)
    ends = np.broadcast_to(grid.astype(np.float64), (len(ticks), len(grid)))

    def up_to(at: F64) -> F64:
        lo, before, step, (elapsed, total) = _neighbours(ticks, samples, counts, at)
        e = elapsed[..., None]
        out: F64 = integral[rows, lo] + before * e + step / total[..., None] * (0.5 * e * e)
        return out

    mean: F64 = (up_to(ends) - up_to(ends - width[:, None])) / width[:, None, None]
    return mean
