"""Sensors that arrive as separate streams -> Chunks: joined by interpolation on the device's own clock."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hard.stats import Counters, Drop
from hard.types import F64, Chunk, Readings, Sensor

PATIENCE_S: Final = 1.5  # a sensor this far behind the acceleration is taken for absent
MAX_HOLE_S: Final = 0.25  # values are not interpolated over a longer silence of a sensor
BACK_S: Final = 1.0  # a clock that goes back further than this is a new recording
MAX_WAITING: Final = 4096  # readings of one sensor
LOOK_BACK: Final = 16  # intervals over which a sensor's period is measured
KEPT: Final = 64  # readings before the newest joined one, to average: an acceleration's period, up to 3 kHz


EXPECTED: Final = {
    Sensor.ACC: (Sensor.GYRO,),
    Sensor.LINEAR: (Sensor.GYRO, Sensor.GRAVITY),
}
"""Acceleration gives the times; these are interpolated at them."""


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


def periods(t: F64) -> F64:
    """At each of these times, (n,), the mean of the last LOOK_BACK intervals; 0 before there are so many."""
    mean = np.zeros(len(t))
    mean[LOOK_BACK:] = (t[LOOK_BACK:] - t[:-LOOK_BACK]) / LOOK_BACK
    return mean


class Joint:
    """One device's sensors."""

    def __init__(self, device: str, counters: Counters) -> None:
        self._device = device
        self.seen_s = 0.0  # monotonic
        self._counters = counters
        self._tracks: dict[Sensor, Track] = {}
        self._absent: set[Sensor] = set()  # waited for in vain
        self._began_s = np.inf
        self._joined: F64 = np.empty(0)  # newest times of acceleration, for its period
        self._waiting_s = -np.inf  # newest acceleration but for the last message: others come after it

    def push(self, r: Readings) -> list[Chunk]:
        self.seen_s = r.arrival_s
        t, xyz = self._sane(r)
        if not len(t):
            return []
        track = self._tracks.get(r.sensor)
        if track is not None and t[0] < track.newest_s - BACK_S:
            self._tracks.clear()  # a new recording, or a clock that was set
            self._absent.clear()
            self._joined = np.empty(0)
            self._began_s = np.inf
            self._waiting_s = -np.inf
            track = None
        if track is None:
            track = self._tracks[r.sensor] = Track()
        if r.sensor in EXPECTED:
            self._waiting_s = track.newest_s
        if t[0] > track.newest_s and (t[1:] > t[:-1]).all():
            self._counters.add(Drop.UNPAIRED, track.add(t, xyz))
        else:
            new = t > np.maximum.accumulate(np.concatenate([[track.newest_s], t[:-1]]))
            self._counters.add(Drop.LATE, int((~new).sum()))
            if new.any():
                self._counters.add(Drop.UNPAIRED, track.add(t[new], xyz[new]))
        self._absent.discard(r.sensor)
        return self._emit(r.arrival_s)

    def _sane(self, r: Readings) -> tuple[F64, F64]:
        """The finite readings, in the order of time."""
        if math.isfinite(r.xyz.sum() + r.t.sum()) and (r.t[1:] >= r.t[:-1]).all():
            return r.t, r.xyz  # nearly always
        ok = np.isfinite(r.t) & np.isfinite(r.xyz).all(axis=1)
        self._counters.add(Drop.NOT_FINITE, int((~ok).sum()))
        order = np.argsort(r.t[ok], kind="stable")
        return r.t[ok][order], r.xyz[ok][order]

    def _emit(self, arrival_s: float) -> list[Chunk]:
        """What has become complete: a chunk, or nothing yet."""
        source = Sensor.ACC if Sensor.ACC in self._tracks else Sensor.LINEAR
        base = self._tracks.get(source)
        if base is None or not len(base.t):
            return []
        self._began_s = min(self._began_s, float(base.t[0]))
        until_s = base.newest_s
        present: list[Sensor] = []
        for sensor in EXPECTED[source]:
            track = self._tracks.get(sensor)
            newest_s = track.newest_s if track else self._began_s
            if self._waiting_s - newest_s > PATIENCE_S:
                self._absent.add(sensor)
            if sensor not in self._absent:
                until_s = min(until_s, newest_s if track else -np.inf)
                present.append(sensor)
        t, xyz = base.take(until_s)
        return self._join(t, xyz, present, arrival_s) if len(t) else []

    def _join(self, t: F64, xyz: F64, present: list[Sensor], arrival_s: float) -> list[Chunk]:
        good = np.ones(len(t), bool)
        values = {sensor: np.zeros_like(xyz) for sensor in (Sensor.GYRO, Sensor.GRAVITY)}
        times = np.concatenate([self._joined, t])
        self._joined = times[-LOOK_BACK - 1 :]
        period_s = periods(times)[len(times) - len(t) :]
        for sensor in present:
            values[sensor], holds = self._tracks[sensor].at(t, period_s)
            good &= holds
            self._tracks[sensor].forget_before(float(t[-1]))
        self._counters.add(Drop.UNPAIRED, int((~good).sum()))
        if not good.any():
            return []
        samples = np.concatenate([xyz + values[Sensor.GRAVITY], values[Sensor.GYRO]], axis=1)
        gyro = Sensor.GYRO in present
        return [Chunk(self._device, t[good], samples[good].astype(np.float32), arrival_s, gyro)]


class Aligner:
    """All devices whose sensors come separately. Owner: the engine thread."""

    def __init__(self, counters: Counters, max_devices: int = 20_000) -> None:
        self._counters = counters
        self._max_devices = max_devices
        self._joints: dict[str, Joint] = {}

    def push(self, readings: Readings) -> list[Chunk]:
        """Take readings; the chunks that have become complete."""
        joint = self._joints.get(readings.device)
        if joint is None:
            if len(self._joints) >= self._max_devices:
                self._counters.add(Drop.TOO_MANY_DEVICES)
                return []
            joint = self._joints[readings.device] = Joint(readings.device, self._counters)
        return joint.push(readings)

    def evict(self, silent_since_s: float) -> None:
        """Forget devices that have sent nothing since this (monotonic) time."""
        gone = [device for device, joint in self._joints.items() if joint.seen_s < silent_since_s]
        for device in gone:
            del self._joints[device]
