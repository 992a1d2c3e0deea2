"""All devices' raw samples on their way to hops: the grid, gaps, late samples, clocks that jump."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from hard.dsp import TICKS_PER_SAMPLE, Ticks
from hard.stats import Counters, Drop
from hard.types import F32, F64, MAX_TIME_S, Chunk
from hard.waiting import FAR, Rows, Waiting

MAX_SAMPLES: Final = 1024  # a hop of 1.28 s at 800 Hz
CLOCK_BACK_S: Final = 10.0  # further back than this is a clock that was set, not a late message
LATE_RUN_S: Final = 2.0  # late samples that go on for this long are the device's new time
OFFSET_S: Final = 10.0  # see _hear
MAX_ACC: Final = 400.0  # m/s², 40 g: the widest range of phone and board accelerometers is 32 g
MAX_GYRO: Final = 80.0  # rad/s: the widest gyroscope range is 4,000 deg/s = 70 rad/s
_LIMITS = np.array([MAX_ACC] * 3 + [MAX_GYRO] * 3, np.float32)

STATE: Final = np.dtype(
    [
        ("origin", np.float64),  # device seconds of the segment's first sample
        ("index", np.int64),  # hops cut in this segment
        ("last", np.float64),  # ticks of the newest sample, relative to the current hop's start
        ("fill", np.intp),  # samples that wait; 0: the next one starts a segment
        ("late_from", np.float64),  # ticks since origin of the first of a run of late samples; NaN: none
        ("then", np.float64),  # see _hear
        ("now", np.float64),
        ("since_s", np.float64),
        ("seen_s", np.float64),  # monotonic arrival of the newest samples, good ones or not
        ("gaps", np.int64),
        ("size", np.intp),  # which of the sizes of rooms, and which slot there
        ("slot", np.intp),
    ]
)
State = NDArray[np.void]  # of STATE, (B,)
NEW: Final = np.zeros((), STATE)
NEW["then"] = NEW["now"] = np.inf
NEW["late_from"] = np.nan


class Hops(msgspec.Struct, frozen=True):
    """The raw samples of complete hops of B different devices; owns its arrays."""

    rows: Rows  # (B,) of the devices
    ticks: Ticks  # (B, n) relative to the hop's first grid point; FAR where there are no more samples
    samples: F32  # (B, n, 6)
    counts: Rows  # (B,) samples
    index: NDArray[np.int64]  # (B,) hops of the segment before it
    t_end: F64  # (B,) device seconds of the hop's last grid point
    rate_hz: F64  # (B,) measured
    gaps: NDArray[np.int64]  # (B,)
    arrival_s: F64  # (B,)
    end_s: F64  # (B,) monotonic time of t_end, by the quickest of the recent messages


class Streams:
    """Raw samples are cut into hops as they are pushed; a device is a row. Owner: one thread.

    A segment is an unbroken stretch of a device's clock; its first sample is the origin of the grid. What is
    kept, dropped or cut depends on the sequence of (t, sample) of a device alone, not on how it was split.
    """

    def __init__(self, hop: int, ticks_per_s: float, max_gap_s: float, rows: int, counters: Counters) -> None:
        """Tables of so many rows at first."""
        self._hop = hop
        self._hop_ticks = hop * TICKS_PER_SAMPLE
        self._end = (hop - 1) * TICKS_PER_SAMPLE  # the hop's last grid point
        self._clock = ticks_per_s
        self._max_gap = max_gap_s * ticks_per_s
        self._counters = counters
        self._state: State = np.zeros(rows, STATE)
        self._rooms = [Waiting(hop * 3 // 2, rows)]
        self.due: list[Hops] = []

    def open(self, row: int) -> None:
        """A device without any samples."""
        while row >= len(self._state):
            self._state = np.concatenate([self._state, np.zeros_like(self._state)])
        self._state[row] = NEW
        self._state["slot"][row] = self._rooms[0].open()

    def close(self, row: int) -> None:
        """Forget a device and its hops that are due."""
        s = self._state[row]
        self._rooms[s["size"]].close(int(s["slot"]))
        kept = [_part(hops, hops.rows != row) for hops in self.due]
        self.due = [hops for hops in kept if len(hops.rows)]

    def silent(self, rows: Rows, since_s: float) -> Rows:
        """Which of these devices have sent nothing since then, and have no hop that is due."""
        waiting = [hops.rows for hops in self.due]
        quiet = rows[self._state["seen_s"][rows] < since_s]
        return quiet[~np.isin(quiet, np.concatenate(waiting))] if waiting else quiet

    def newest(self, rows: Rows) -> tuple[F64, F64, NDArray[np.int64]]:
        """Of each: monotonic arrival and device seconds of its newest samples, and its gaps; (B,)."""
        s = self._state[rows]
        t = s["origin"] + (s["index"] * self._hop_ticks + s["last"]) / self._clock
        return s["seen_s"], t, s["gaps"]

    def push(self, row: int, chunk: Chunk) -> None:
        """Take any samples; complete hops are appended to `due`, and what is dropped is counted."""
        s = self._state[row : row + 1]  # a view
        s["seen_s"] = chunk.arrival_s
        t, samples = self._sane(chunk)
        while s["fill"][0] + len(t) > self._rooms[s["size"][0]].room and self._grow(s):
            pass  # for the next chunks, too, which then go on together with others'
        start = 0
        while start < len(t):
            if s["fill"][0] == 0:
                self._hear(s, t[start : start + 1], np.array([chunk.arrival_s]))
                self._begin(row, t[start], samples[start])
                start += 1
            elif s["fill"][0] == self._rooms[s["size"][0]].room:
                self._counters.add(Drop.RATE_TOO_HIGH, int(s["fill"][0]))
                self._restart(s, Drop.GAP)
            else:
                start += self._extend(row, t[start:], samples[start:], chunk.arrival_s)

    def push_many(self, rows: Sequence[int], chunks: Sequence[Chunk]) -> None:
        """`push` of one chunk each of different devices; those that simply go on are taken together."""
        counts = np.array([len(chunk.t) for chunk in chunks])
        t = np.concatenate([chunk.t for chunk in chunks])  # (n,)
        samples = np.concatenate([chunk.samples for chunk in chunks])  # (n, 6)
        arrival_s = np.array([chunk.arrival_s for chunk in chunks])
        at = np.array(rows, np.intp)
        s = self._state[at]
        first = np.cumsum(counts) - counts
        since = np.rint((t - np.repeat(s["origin"], counts)) * self._clock)  # ticks
        base = s["index"] * self._hop_ticks
        step = np.empty_like(since)
        np.subtract(since[1:], since[:-1], out=step[1:])
        step[first] = since[first] - (base + s["last"])
        good = (step > 0) & (step <= self._max_gap)  # false for NaN
        if not (samples.min() >= -MAX_GYRO and samples.max() <= MAX_GYRO):
            good &= (np.abs(samples) <= MAX_GYRO).all(axis=1)
        room = np.array([waiting.room for waiting in self._rooms])[s["size"]]
        goes_on = np.logical_and.reduceat(good, first)
        goes_on &= (s["fill"] > 0) & (s["fill"] + counts <= room)
        for i in np.flatnonzero(~goes_on).tolist():
            self.push(rows[i], chunks[i])
        ticks = since - np.repeat(base, counts)
        for size in range(len(self._rooms)):
            mine = goes_on & (s["size"] == size)
            if mine.all():  # nearly always
                self._hear(s, t[first + counts - 1], arrival_s)
                self._append(at, s, counts, ticks, samples, arrival_s)
                self._state[at] = s
            elif mine.any():
                part, of_part = s[mine], np.repeat(mine, counts)
                self._hear(part, t[(first + counts - 1)[mine]], arrival_s[mine])
                self._append(at[mine], part, counts[mine], ticks[of_part], samples[of_part], arrival_s[mine])
                self._state[at[mine]] = part

    def _hear(self, s: State, t: F64, arrival_s: F64) -> None:
        """Follow the devices' clocks: t (B,) are the newest samples' device seconds.

        Monotonic time minus a device's clock is the least of the last 10 to 20 s, as messages only come late;
        drift is followed, because old minima are forgotten.
        """
        old = arrival_s - s["since_s"] > OFFSET_S
        if old.any():
            s["since_s"][old] = arrival_s[old]
            s["then"][old] = s["now"][old]
            s["now"][old] = np.inf
        s["now"] = np.minimum(s["now"], arrival_s - t)
        s["seen_s"] = arrival_s

    def _append(self, rows: Rows, s: State, counts: Rows, ticks: F64, samples: F32, arrival_s: F64) -> None:
        """Samples that follow without a gap and have room, of devices with rooms of the same size.

        counts (B,); ticks (n,), relative to the current hops' starts, and samples (n, 6) of all.
        """
        waiting = self._rooms[s["size"][0]]
        waiting.write(s["slot"], s["fill"], counts, ticks.astype(np.int32), samples)
        s["fill"] += counts
        s["last"] = ticks[np.cumsum(counts) - 1]
        s["late_from"] = np.nan
        while (complete := s["last"] >= self._end).any():
            part = s[complete]
            self.due.append(self._cut(waiting, rows[complete], part, arrival_s[complete]))
            s[complete] = part

    def _begin(self, row: int, t: np.float64, sample: F32) -> None:
        s = self._state[row : row + 1]
        s["origin"], s["index"], s["fill"] = t, 0, 0
        self._append(np.array([row]), s, np.ones(1, np.intp), np.zeros(1), sample[None], np.zeros(1))

    def _restart(self, s: State, reason: Drop) -> None:
        self._counters.add(reason)
        s["then"] = s["now"] = np.inf  # the silence may have been a pause of its clock
        s["since_s"] = 0.0
        s["gaps"] += 1
        s["fill"] = 0

    def _grow(self, s: State) -> bool:
        """Move a device to the next larger rooms; False where there is none."""
        waiting = self._rooms[s["size"][0]]
        room = min(2 * waiting.room, MAX_SAMPLES)
        if room <= waiting.room:
            return False
        if s["size"][0] + 1 == len(self._rooms):
            self._rooms.append(Waiting(room, slots=16))
        s["size"] += 1
        s["slot"] = waiting.move(int(s["slot"][0]), self._rooms[s["size"][0]])
        return True

    def _extend(self, row: int, t: F64, samples: F32, arrival_s: float) -> int:
        """Append the samples before the first that is late or follows a gap; or deal with that one.

        Returns how many samples are dealt with.
        """
        s = self._state[row : row + 1]
        left = self._rooms[s["size"][0]].room - s["fill"][0]
        base = s["index"] * self._hop_ticks  # (1,)
        ticks = np.rint((t[:left] - s["origin"]) * self._clock) - base
        step = np.empty_like(ticks)
        step[0] = ticks[0] - s["last"][0]
        np.subtract(ticks[1:], ticks[:-1], out=step[1:])
        n = len(ticks)
        if not (step.min() > 0 and step.max() <= self._max_gap):
            n = int(((step > 0) & (step <= self._max_gap)).argmin())
        if n:
            self._hear(s, t[n - 1 : n], np.array([arrival_s]))
            self._append(np.array([row]), s, np.array([n]), ticks[:n], samples[:n], np.array([arrival_s]))
            return n  # the hop that these may complete has been cut before anything else happens
        if step[0] > 0:
            self._counters.add("gap_ms", int(step[0] / self._clock * 1000))
            self._restart(s, Drop.GAP)
            return 0
        return self._late(s, ticks + base)

    def _late(self, s: State, ticks: F64) -> int:
        """Drop the run of late samples that comes first (ticks since origin); returns its length.

        The run ends early where it turns out to be the device's new time, and a segment starts there.
        """
        last = s["last"][0] + s["index"][0] * self._hop_ticks
        newer = ticks > last
        n = int(newer.argmax()) if newer.any() else len(ticks)
        if np.isnan(s["late_from"][0]):
            s["late_from"] = ticks[0]
        reset = (ticks[:n] < last - CLOCK_BACK_S * self._clock) | (
            ticks[:n] > s["late_from"][0] + LATE_RUN_S * self._clock
        )
        if reset.any():
            n = int(reset.argmax())
            self._restart(s, Drop.CLOCK_JUMP)
        self._counters.add(Drop.LATE, n)
        return n

    def _cut(self, waiting: Waiting, rows: Rows, s: State, arrival_s: F64) -> Hops:
        """Take the complete hop of each of these devices (B,) out of its room."""
        ticks, samples = waiting.read(s["slot"], s["fill"])  # (B, n), (B, n, 6)
        every = np.arange(len(rows))
        last = (ticks < self._end).sum(axis=1)  # (B,) first sample at or after the hop's last grid point
        reached = (s["index"] + 1) * self._hop - 1  # that point, in samples since the origin
        t_end = s["origin"] + reached * TICKS_PER_SAMPLE / self._clock
        n = int(last.max()) + 1
        hops = Hops(
            rows=rows,
            ticks=np.where(np.arange(n) <= last[:, None], ticks[:, :n], FAR),
            samples=samples[:, :n],
            counts=last + 1,
            index=s["index"].copy(),
            t_end=t_end,
            rate_hz=last * self._clock / (ticks[every, last] - ticks[:, 0]),
            gaps=s["gaps"].copy(),
            arrival_s=arrival_s,
            end_s=t_end + np.minimum(s["then"], s["now"]),
        )
        keep = np.where(ticks[every, last] == self._end, last, last - 1)  # the next hop looks back one period
        left = s["fill"] - keep
        kept = np.minimum(keep[:, None] + np.arange(int(left.max())), ticks.shape[1] - 1)  # (B, left)
        rest = ticks[every[:, None], kept] - self._hop_ticks
        waiting.rewrite(s["slot"], rest, samples[every[:, None], kept])
        s["fill"] = left
        s["last"] -= self._hop_ticks
        s["index"] += 1
        return hops

    def _sane(self, chunk: Chunk) -> tuple[F64, F32]:
        """The samples that are finite and possible."""
        ok = (np.abs(chunk.samples) <= _LIMITS).all(axis=1)  # false for NaN
        ok &= np.abs(chunk.t) <= MAX_TIME_S
        if ok.all():
            return chunk.t, chunk.samples
        finite = np.isfinite(chunk.samples).all(axis=1) & np.isfinite(chunk.t)
        self._counters.add(Drop.NOT_FINITE, int((~finite).sum()))
        self._counters.add(Drop.ABSURD, int((finite & ~ok).sum()))
        return chunk.t[ok], chunk.samples[ok]


def joined(hops: Sequence[Hops]) -> Hops:
    """As one, in their order; a device may be there several times."""
    if len(hops) == 1:
        return hops[0]
    n = max(h.ticks.shape[1] for h in hops)
    out = {name: np.concatenate([getattr(h, name) for h in hops]) for name in _ONE_EACH}
    ticks = np.full((len(out["rows"]), n), FAR, np.int32)
    samples = np.zeros((*ticks.shape, 6), np.float32)
    at = 0
    for h in hops:
        end, width = at + len(h.rows), h.ticks.shape[1]
        ticks[at:end, :width], samples[at:end, :width] = h.ticks, h.samples
        at = end
    return Hops(ticks=ticks, samples=samples, **out)


def _part(hops: Hops, chosen: NDArray[np.bool_]) -> Hops:
    return Hops(**{name: getattr(hops, name)[chosen] for name in Hops.__struct_fields__})


_ONE_EACH: Final = [name for name in Hops.__struct_fields__ if name not in ("ticks", "samples")]
