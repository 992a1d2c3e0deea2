"""Sensors that arrive as separate streams -> Chunks: joined by interpolation on the device's own clock."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection, Sequence
from typing import Final

import numpy as np

from hard.stats import Counters, Drop
from hard.track import KEPT, LOOK_BACK, Track, periods
from hard.types import F64, Chunk, Readings, Sensor

PATIENCE_S: Final = 1.5  # a sensor this far behind the acceleration is taken for absent
BACK_S: Final = 1.0  # a clock that goes back further than this is a new recording


EXPECTED: Final = {
    Sensor.ACC: (Sensor.GYRO,),
    Sensor.LINEAR: (Sensor.GYRO, Sensor.GRAVITY),
}
"""Acceleration gives the times; these are interpolated at them."""
PARTS: Final = (Sensor.LINEAR, Sensor.GRAVITY)  # of the acceleration: of no use where the whole comes


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
        self._even: deque[dict[Sensor, Readings]] = deque()  # joined at once, and not yet in the tracks
        self._even_count = 0  # readings of each sensor there

    def push_together(self, readings: Sequence[Readings]) -> list[Chunk]:
        """`push` of all that a message brought; in a quarter of the time where sensors share their times."""
        by = {r.sensor: r for r in readings}
        simple = len(by) == len(readings) > 1
        if len(by) > 2 and Sensor.ACC in by and self._whole():
            by = {sensor: r for sensor, r in by.items() if sensor not in PARTS}
        even = self._join_even(by) if simple else None
        return [even] if even else [chunk for r in readings for chunk in self.push(r)]

    def push(self, r: Readings) -> list[Chunk]:
        self.seen_s = r.arrival_s
        if r.sensor in PARTS and self._whole():
            return []
        if self._even:
            self._settle()
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
            if r.sensor is Sensor.ACC:
                for part in PARTS:
                    self._tracks.pop(part, None)
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

    def _whole(self) -> bool:
        """Whether acceleration with gravity comes."""
        return Sensor.ACC in self._tracks or (bool(self._even) and Sensor.ACC in self._even[0])

    def _join_even(self, by: dict[Sensor, Readings]) -> Chunk | None:
        """A chunk of readings with the same times, while no others wait; None where it is not so simple."""
        source = Sensor.ACC if Sensor.ACC in by else Sensor.LINEAR
        if by.keys() != {source, *(s for s in EXPECTED[source] if s not in self._absent)}:
            return None
        base = by[source]
        newest_s = self._newest_even(source, by)
        rises = (base.t[1:] > base.t[:-1]).all()
        if newest_s is None or not (base.t[0] > newest_s and rises and math.isfinite(base.t[-1])):
            return None
        times = base.t.tobytes()
        if any(r.t.tobytes() != times for r in by.values()):
            return None
        samples = np.zeros((len(base.t), 6), np.float32)
        samples[:, :3] = base.xyz + by[Sensor.GRAVITY].xyz if source is Sensor.LINEAR else base.xyz
        if Sensor.GYRO in by:
            samples[:, 3:] = by[Sensor.GYRO].xyz
        if not math.isfinite(samples.sum()):
            return None
        self.seen_s = base.arrival_s
        self._waiting_s = newest_s
        self._began_s = min(self._began_s, float(base.t[0]))
        self._even.append(by)
        self._even_count += len(base.t)
        while self._even_count - len(self._even[0][source].t) > KEPT:
            self._even_count -= len(self._even.popleft()[source].t)
        return Chunk(self._device, base.t, samples, base.arrival_s, Sensor.GYRO in by)

    def _newest_even(self, source: Sensor, sensors: Collection[Sensor]) -> float | None:
        """The time up to which all readings are joined; None where these sensors came to different times."""
        if self._even:
            newest = self._even[-1]
            return float(newest[source].t[-1]) if newest.keys() == set(sensors) else None
        if not self._tracks:
            return -np.inf
        base = self._tracks.get(source)
        if base is None or len(base.t) or (source is Sensor.LINEAR and Sensor.ACC in self._tracks):
            return None
        others = [self._tracks.get(sensor) for sensor in sensors if sensor is not source]
        even = all(  # also while periods are still measured from it
            other and np.array_equal(other.t[-LOOK_BACK - 1 :], self._joined) for other in others
        )
        return base.newest_s if even else None

    def _settle(self) -> None:
        """Put what was joined at once where the others are."""
        even, self._even, self._even_count = self._even, deque(), 0
        for sensor in even[0]:
            track = self._tracks.setdefault(sensor, Track())
            t = np.concatenate([by[sensor].t for by in even])
            track.add(t, np.concatenate([by[sensor].xyz for by in even]))
            if sensor in EXPECTED:
                track.take(np.inf)
                self._joined = np.concatenate([self._joined, t])[-LOOK_BACK - 1 :]
            else:
                track.forget_before(track.newest_s)

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
        return self.push_together([readings])

    def push_together(self, readings: Sequence[Readings]) -> list[Chunk]:
        """Take all that one message of a device brought."""
        device = readings[0].device
        joint = self._joints.get(device)
        if joint is None:
            if len(self._joints) >= self._max_devices:
                self._counters.add(Drop.TOO_MANY_DEVICES, len(readings))
                return []
            joint = self._joints[device] = Joint(device, self._counters)
        return joint.push_together(readings)

    def evict(self, silent_since_s: float) -> None:
        """Forget devices that have sent nothing since this (monotonic) time."""
        gone = [device for device, joint in self._joints.items() if joint.seen_s < silent_since_s]
        for device in gone:
            del self._joints[device]
