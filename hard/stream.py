"""One device's raw samples on their way to hops: the grid, gaps, late samples, clocks that jump."""

from __future__ import annotations

from typing import Final

import msgspec
import numpy as np

from hard.dsp import TICKS_PER_SAMPLE, Ticks
from hard.stats import Counters, Drop
from hard.types import F32, F64

MAX_SAMPLES: Final = 1024  # a hop of 1.28 s at 800 Hz
CLOCK_BACK_S: Final = 10.0  # further back than this is a clock that was set, not a late message
LATE_RUN_S: Final = 2.0  # late samples that go on for this long are the device's new time


class HopRaw(msgspec.Struct, frozen=True):
    """The raw samples of one complete hop; owns its arrays."""

    stream: Stream
    ticks: Ticks  # (n,) relative to the hop's first grid point
    samples: F32  # (n, 6)
    index: int  # hops of this segment before it
    t_end: float  # device seconds of the hop's last grid point
    rate_hz: float  # measured
    gaps: int
    arrival_s: float
    end_s: float  # monotonic time of t_end, by the quickest of the recent messages


class Offset:
    """Monotonic time minus a device's clock: the least of the last 10-20 s, as messages only come late.

    Drift is followed, because old minima are forgotten.
    """

    __slots__ = ("_now", "_since_s", "_then")

    HOLD_S = 10.0

    def __init__(self) -> None:
        self._then = self._now = float("inf")
        self._since_s = 0.0

    def update(self, t: float, arrival_s: float) -> None:
        if arrival_s - self._since_s > self.HOLD_S:
            self._since_s = arrival_s
            self._then, self._now = self._now, float("inf")
        self._now = min(self._now, arrival_s - t)

    @property
    def seconds(self) -> float:
        return min(self._then, self._now)


class Stream:
    """Raw samples of one device, cut into hops as they are pushed.

    A segment is an unbroken stretch of the device's clock; its first sample is the origin of the grid.
    What is kept, dropped or cut depends on the sequence of (t, sample) alone, not on how it was split.
    """

    __slots__ = (
        "_clock", "_counters", "_fill", "_hop", "_index", "_last", "_late_from", "_max_gap", "_offset",
        "_origin", "_samples", "_ticks", "device", "gaps", "row", "seen_s",
    )  # fmt: skip

    def __init__(
        self,
        device: str,
        row: int,
        hop: int,
        ticks_per_s: float,
        max_gap_s: float,
        counters: Counters,
        ticks: Ticks,
        samples: F32,
    ) -> None:
        """`ticks` (n,) and `samples` (n, 6) are room for what waits; `row` is its owner's business."""
        self.device = device
        self.row = row
        self.gaps = 0
        self.seen_s = 0.0
        self._clock = ticks_per_s
        self._hop = hop
        self._max_gap = max_gap_s * ticks_per_s
        self._counters = counters
        self._ticks = ticks  # relative to the current hop's start
        self._samples = samples
        self._fill = 0  # 0: the next sample starts a segment
        self._origin = 0.0  # device seconds
        self._index = 0  # hops cut in this segment
        self._last = 0.0  # ticks of the newest sample, relative to the current hop's start
        self._offset = Offset()
        self._late_from: float | None = None  # ticks since origin of the first of a run of late samples

    def push(self, t: F64, samples: F32, arrival_s: float, due: list[HopRaw]) -> None:
        """Take samples (finite, n >= 1); completed hops are appended to `due`."""
        self._offset.update(float(t[-1]), arrival_s)
        start = 0
        while start < len(t):
            if self._fill == 0:
                self._begin(t[start], samples[start])
                start += 1
            elif self._fill == len(self._ticks) and not self._grow():
                self._counters.add(Drop.RATE_TOO_HIGH, self._fill)
                self._restart(Drop.GAP)
            else:
                start += self._extend(t[start:], samples[start:])
                while self._last >= (self._hop - 1) * TICKS_PER_SAMPLE:
                    due.append(self._cut(arrival_s))

    @property
    def place(self) -> tuple[float, float, float]:
        """Origin [device s], and the current hop's start and the newest sample [ticks since the origin]."""
        base = self._index * self._hop * TICKS_PER_SAMPLE
        return self._origin, base, base + self._last

    def room_for(self, n: int) -> bool:
        """Whether a segment goes on here and has room for n samples, so that `extend` may be called."""
        return 0 < self._fill <= len(self._ticks) - n

    def extend(self, t: float, ticks: Ticks, samples: F32, arrival_s: float, due: list[HopRaw]) -> None:
        """`push` of samples that are known to follow without a gap; t: device seconds of the last one.

        ticks: relative to the current hop's start.
        """
        self._offset.update(t, arrival_s)
        fill = self._fill + len(ticks)
        self._ticks[self._fill : fill] = ticks
        self._samples[self._fill : fill] = samples
        self._fill = fill
        self._last = float(ticks[-1])
        self._late_from = None
        while self._last >= (self._hop - 1) * TICKS_PER_SAMPLE:
            due.append(self._cut(arrival_s))

    def _begin(self, t: np.float64, sample: F32) -> None:
        self._origin = float(t)
        self._index = 0
        self._ticks[0] = 0
        self._samples[0] = sample
        self._fill = 1
        self._last = 0.0
        self._late_from = None

    def _restart(self, reason: Drop) -> None:
        self._counters.add(reason)
        self._offset = Offset()  # the silence may have been a pause of its clock
        self.gaps += 1
        self._fill = 0
        self._last = 0.0

    def _grow(self) -> bool:
        size = min(2 * len(self._ticks), MAX_SAMPLES)
        if size == len(self._ticks):
            return False
        self._ticks = np.resize(self._ticks, size)
        self._samples = np.resize(self._samples, (size, 6))
        return True

    def _extend(self, t: F64, samples: F32) -> int:
        """Append the samples before the first that is late or follows a gap; or deal with that one.

        Returns how many samples are dealt with.
        """
        room = len(self._ticks) - self._fill
        base = self._index * self._hop * TICKS_PER_SAMPLE
        ticks = np.rint((t[:room] - self._origin) * self._clock) - base
        step = np.empty_like(ticks)
        step[0] = ticks[0] - self._last
        np.subtract(ticks[1:], ticks[:-1], out=step[1:])
        n = len(ticks)
        if not (step.min() > 0 and step.max() <= self._max_gap):
            n = int(((step > 0) & (step <= self._max_gap)).argmin())
        if n:
            self._ticks[self._fill : self._fill + n] = ticks[:n]
            self._samples[self._fill : self._fill + n] = samples[:n]
            self._fill += n
            self._last = float(ticks[n - 1])
            self._late_from = None
            return n  # the hop that these may complete is cut before anything else happens
        if step[0] > 0:
            self._counters.add("gap_ms", int(step[0] / self._clock * 1000))
            self._restart(Drop.GAP)
            return 0
        return self._late(ticks + base)

    def _late(self, ticks: F64) -> int:
        """Drop the run of late samples that comes first (ticks since origin); returns its length.

        The run ends early where it turns out to be the device's new time, and a segment starts there.
        """
        last = self._last + self._index * self._hop * TICKS_PER_SAMPLE
        newer = ticks > last
        n = int(newer.argmax()) if newer.any() else len(ticks)
        if self._late_from is None:
            self._late_from = float(ticks[0])
        reset = (ticks[:n] < last - CLOCK_BACK_S * self._clock) | (
            ticks[:n] > self._late_from + LATE_RUN_S * self._clock
        )
        if reset.any():
            n = int(reset.argmax())
            self._restart(Drop.CLOCK_JUMP)
        self._counters.add(Drop.LATE, n)
        return n

    def _cut(self, arrival_s: float) -> HopRaw:
        end = (self._hop - 1) * TICKS_PER_SAMPLE
        ticks = self._ticks[: self._fill]
        last = int(np.searchsorted(ticks, end))  # first sample at or after the hop's last grid point
        n = last + 1
        span = int(ticks[last] - ticks[0])
        reached = (self._index + 1) * self._hop - 1  # the hop's last grid point, in samples since the origin
        t_end = self._origin + reached * TICKS_PER_SAMPLE / self._clock
        hop = HopRaw(
            stream=self,
            ticks=ticks[:n].copy(),
            samples=self._samples[:n].copy(),
            index=self._index,
            t_end=t_end,
            rate_hz=last * self._clock / span,
            gaps=self.gaps,
            arrival_s=arrival_s,
            end_s=t_end + self._offset.seconds,
        )
        keep = last if ticks[last] == end else last - 1  # the next hop looks back one output period
        left = self._fill - keep
        self._ticks[:left] = ticks[keep:] - self._hop * TICKS_PER_SAMPLE
        self._samples[:left] = self._samples[keep : self._fill]
        self._fill = left
        self._last -= self._hop * TICKS_PER_SAMPLE
        self._index += 1
        return hop
