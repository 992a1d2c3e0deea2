"""The readings of one sensor that are still needed, and their values at other times."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from hard.types import F64

MAX_HOLE_S: Final = 0.25  # values are not interpolated over a longer silence of a sensor
MAX_WAITING: Final = 4096  # readings
LOOK_BACK: Final = 16  # intervals over which a sensor's period is measured
KEPT: Final = 64  # readings before the newest joined one, to average: an acceleration's period, up to 3 kHz


def periods(t: F64) -> F64:
    """At each of these times, (n,), the mean of the last LOOK_BACK intervals; 0 before there are so many."""
    mean = np.zeros(len(t))
    mean[LOOK_BACK:] = (t[LOOK_BACK:] - t[:-LOOK_BACK]) / LOOK_BACK
    return mean


class Track:
    """The readings of one sensor that are still needed, in the order of time."""

    def __init__(self) -> None:
        self.t: F64 = np.empty(0)
        self.xyz: F64 = np.empty((0, 3))
        self.newest_s = -np.inf

    def add(self, t: F64, xyz: F64) -> int:
        """Append readings newer than all before; returns how many old ones had to go."""
        self.t = np.concatenate([self.t, t])
        self.xyz = np.concatenate([self.xyz, xyz])
        self.newest_s = float(self.t[-1])
        over = max(0, len(self.t) - MAX_WAITING)
        self.t, self.xyz = self.t[over:], self.xyz[over:]
        return over

    def at(self, t: F64, period_s: F64) -> tuple[F64, NDArray[np.bool_]]:
        """Values at times, (n,) -> (n, 3), and where they hold: between two readings close to each other.

        Where this sensor is faster than the times' own period, (n,), its mean over up to one period that
        ends at the time: against aliasing, with the widths of `dsp.resample`.
        """
        n = len(self.t)
        if not n:
            return np.zeros((len(t), 3)), np.zeros(len(t), bool)
        after = np.searchsorted(self.t, t)  # the first reading at or after each time
        upper, lower = np.minimum(after, n - 1), np.maximum(after - 1, 0)
        end_s, begin_s = self.t[upper], self.t[lower]
        hole_s = end_s - begin_s
        values = self._between(t, lower, upper)
        newest = np.where(end_s == t, upper, lower)  # the last reading at or before each time
        own_s = np.where(
            newest >= LOOK_BACK, (self.t[newest] - self.t[np.maximum(newest - LOOK_BACK, 0)]) / LOOK_BACK, 0.0
        )
        fast = np.flatnonzero((own_s > 0) & (own_s < 0.95 * period_s))
        if fast.size:
            width_s = np.minimum(2 * (period_s - own_s), period_s)
            values[fast] = self._mean(t[fast], width_s[fast], values[fast])
        near = (after > 0) & (hole_s <= MAX_HOLE_S)
        return values, (after < n) & (near | (end_s == t))

    def _interpolate(self, t: F64) -> F64:
        """Values at times, (n,) -> (n, 3); before the first reading, and after the last, theirs."""
        after = np.searchsorted(self.t, t)
        return self._between(t, np.maximum(after - 1, 0), np.minimum(after, len(self.t) - 1))

    def _between(self, t: F64, lower: NDArray[np.intp], upper: NDArray[np.intp]) -> F64:
        begin_s, begin, end = self.t[lower], self.xyz[lower], self.xyz[upper]
        span_s = self.t[upper] - begin_s
        span_s[span_s == 0] = 1.0  # both are the same reading
        share = np.clip((t - begin_s) / span_s, 0.0, 1.0)[:, None]
        out: F64 = begin * (1 - share) + end * share  # exact at both ends
        return out

    def _mean(self, t: F64, width_s: F64, last: F64) -> F64:
        """Mean of the piecewise linear signal over the `width_s` before each time; `last` is its end value.

        Always a sum of KEPT parts, so that it does not depend, to the last bit, on how messages were split.
        """
        rows = np.searchsorted(self.t, t, side="right")[:, None] + np.arange(-KEPT, 0)  # (n, KEPT)
        rows = np.maximum(rows, 0)
        begin = np.maximum(t - width_s, self.t[rows[:, 0]])[:, None]  # (n, 1)
        times = np.concatenate([np.maximum(self.t[rows], begin), t[:, None]], axis=1)
        inside = (self.t[rows] >= begin)[..., None]
        knots = np.where(inside, self.xyz[rows], self._interpolate(begin[:, 0])[:, None])
        knots = np.concatenate([knots, last[:, None]], axis=1)  # (n, KEPT + 1, 3)
        area = (0.5 * (knots[:, 1:] + knots[:, :-1]) * np.diff(times)[..., None]).sum(axis=1)
        span = t[:, None] - begin
        return np.where(span > 0, area / np.where(span > 0, span, 1.0), last)

    def take(self, until_s: float) -> tuple[F64, F64]:
        """Remove and return the readings up to this time."""
        n = int(np.searchsorted(self.t, until_s, side="right"))
        taken = self.t[:n], self.xyz[:n]
        self.t, self.xyz = self.t[n:], self.xyz[n:]
        return taken

    def forget_before(self, t_s: float) -> None:
        """Keep some readings at or before this time, to interpolate and average from."""
        gone = max(0, int(np.searchsorted(self.t, t_s, side="right")) - KEPT)
        self.t, self.xyz = self.t[gone:], self.xyz[gone:]
