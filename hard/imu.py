"""From chunks to windows: per-device state, and prepare(), batched over every device that is due."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from hard.dsp import TICKS_PER_SAMPLE, GravityFilter, Ticks, resample
from hard.stats import Counters, Drop
from hard.stream import HopRaw, Stream
from hard.types import F32, F64, Chunk, G, Windowing, Windows

CHANNELS: Final = (
    *("body_acc_x", "body_acc_y", "body_acc_z"),
    *("gyro_x", "gyro_y", "gyro_z"),
    *("total_acc_x", "total_acc_y", "total_acc_z"),
)
MAX_ACC: Final = 400.0  # m/s², 40 g: the widest range of phone and board accelerometers is 32 g
MAX_GYRO: Final = 80.0  # rad/s: the widest gyroscope range is 4,000 deg/s = 70 rad/s
RESERVED: Final = 16_384  # rows of the tables at first: memory is taken when a row is first written to
WORTH_IT: Final = 3  # chunks; fewer are quicker one by one
_LIMITS = np.array([MAX_ACC] * 3 + [MAX_GYRO] * 3, np.float32)


class Limits(msgspec.Struct, frozen=True):
    """Bounds on devices and on their clocks; comes from the configuration."""

    max_gap_s: float = 0.2
    max_devices: int = 20_000
    evict_after_s: float = 300.0


class Imu:
    """All devices' state, and the only way from samples to windows: live, offline and in training.

    Raw samples wait until a hop (64 samples on the model's grid) is complete. They, the filter's state and
    the last hops are rows of tables, so that a batch is a gather, a product, a scatter. Owner: one thread.
    """

    def __init__(self, windowing: Windowing, limits: Limits, counters: Counters) -> None:
        if windowing.window % windowing.hop:
            raise ValueError(f"window {windowing.window} is not a multiple of hop {windowing.hop}")
        self.windowing = windowing
        self._limits = limits
        self._counters = counters
        self._filter = GravityFilter(windowing.cutoff_hz, windowing.order, windowing.rate_hz, windowing.hop)
        self._streams: dict[str, Stream] = {}
        self._clock = TICKS_PER_SAMPLE * windowing.rate_hz  # ticks a second
        self._max_gap = limits.max_gap_s * self._clock
        self._free: list[int] = []  # rows of devices that were forgotten
        self._used = 0  # rows that ever were somebody's
        rows, past = min(RESERVED, limits.max_devices), windowing.window - windowing.hop
        self._z: F64 = np.zeros((rows, self._filter.states, 3))
        self._history: F32 = np.zeros((rows, past, 9), np.float32)
        self._raw = _raw_tables(rows, windowing.hop)
        self._due: list[HopRaw] = []

    def __len__(self) -> int:
        return len(self._streams)

    def push(self, chunk: Chunk) -> None:
        """Take a chunk; every hop that it completes is cut here and waits for `prepare`."""
        stream = self._streams.get(chunk.device) or self._admit(chunk.device)
        if stream is None:
            self._counters.add(Drop.TOO_MANY_DEVICES)
            return
        t, samples = self._sane(chunk)
        if len(t):
            stream.seen_s = chunk.arrival_s
            stream.push(t, samples, chunk.arrival_s, self._due)

    def push_many(self, chunks: Sequence[Chunk]) -> None:
        """`push` of each; those that simply go on where their device stands are checked in one go."""
        while len(chunks) >= WORTH_IT:
            together: dict[str, tuple[Stream, Chunk]] = {}
            later: list[Chunk] = []  # the order of a device's samples matters
            for chunk in chunks:
                stream = self._streams.get(chunk.device)
                if chunk.device in together:
                    later.append(chunk)
                elif stream is not None and stream.room_for(len(chunk.t)):
                    together[chunk.device] = (stream, chunk)
                else:
                    self.push(chunk)
            if together:
                self._push_together(list(together.values()))
            chunks = later
        for chunk in chunks:
            self.push(chunk)

    def _push_together(self, pairs: list[tuple[Stream, Chunk]]) -> None:
        """`push` of chunks of different devices, none of them the first of its segment."""
        counts = np.array([len(chunk.t) for _, chunk in pairs])
        t = np.concatenate([chunk.t for _, chunk in pairs])  # (n,)
        samples = np.concatenate([chunk.samples for _, chunk in pairs])  # (n, 6)
        first = np.cumsum(counts) - counts
        origin, base, last = np.array([stream.place for stream, _ in pairs]).T
        since = np.rint((t - np.repeat(origin, counts)) * self._clock)  # ticks
        step = np.empty_like(since)
        np.subtract(since[1:], since[:-1], out=step[1:])
        step[first] = since[first] - last
        good = (step > 0) & (step <= self._max_gap)  # false for NaN
        if not (samples.min() >= -MAX_GYRO and samples.max() <= MAX_GYRO):
            good &= (np.abs(samples) <= MAX_GYRO).all(axis=1)
        goes_on = np.logical_and.reduceat(good, first).tolist()
        ticks = np.where(good, since - np.repeat(base, counts), 0.0).astype(np.int32)
        newest_t = t[first + counts - 1].tolist()
        at = 0
        for i, (stream, chunk) in enumerate(pairs):
            end = at + len(chunk.t)
            if goes_on[i]:
                stream.seen_s = chunk.arrival_s
                stream.extend(newest_t[i], ticks[at:end], chunk.samples, chunk.arrival_s, self._due)
            else:
                self.push(chunk)
            at = end

    def prepare(self, oldest_s: float = -np.inf) -> Windows | None:
        """Filter every hop that is due and return the windows that they complete, in arrival order.

        Hops that arrived before `oldest_s` (monotonic) advance the filter but give no window; counted.
        """
        if not self._due:
            return None
        due, self._due = self._due, []
        features = np.empty((len(due), self.windowing.hop, 9), np.float32)
        raw = self._resample(due)  # (B, hop, 6)
        windows: list[tuple[int, F32]] = []
        for turn in _turns(due):  # a device with several hops due takes several turns
            windows += self._advance(turn, due, raw, features)
        fresh = [(i, w) for i, w in windows if due[i].arrival_s >= oldest_s]
        if len(fresh) < len(windows):
            self._counters.add(Drop.STALE_HOP, len(windows) - len(fresh))
        if not fresh:
            return None
        fresh.sort(key=lambda item: item[0])
        hops = [due[i] for i, _ in fresh]
        return Windows(
            x=np.stack([w for _, w in fresh]),
            devices=[h.stream.device for h in hops],
            t_end=np.array([h.t_end for h in hops]),
            arrival_s=np.array([h.arrival_s for h in hops]),
            end_s=np.array([h.end_s for h in hops]),
            rate_hz=np.array([h.rate_hz for h in hops]),
            gaps=[h.gaps for h in hops],
        )

    def forget(self, device: str) -> bool:
        """Drop a device's state and its hops that are due; whether there was any."""
        stream = self._streams.pop(device, None)
        if stream is None:
            return False
        self._due = [h for h in self._due if h.stream is not stream]
        self._free.append(stream.row)
        return True

    def evict(self, now_s: float) -> list[str]:
        """Forget devices that have been silent for `evict_after_s`; returns their names."""
        waiting = {h.stream.device for h in self._due}
        limit = now_s - self._limits.evict_after_s
        gone = [d for d, s in self._streams.items() if s.seen_s < limit and d not in waiting]
        for device in gone:
            self.forget(device)
        return gone

    def _resample(self, due: list[HopRaw]) -> F64:
        counts = np.array([len(h.ticks) for h in due])
        ticks = np.full((len(due), counts.max()), 1 << 23, np.int32)
        samples = np.zeros((*ticks.shape, 6), np.float32)
        for i, h in enumerate(due):
            ticks[i, : counts[i]] = h.ticks
            samples[i, : counts[i]] = h.samples
        return resample(ticks, samples, counts, self.windowing.hop)

    def _advance(
        self, turn: NDArray[np.intp], due: list[HopRaw], raw: F64, features: F32
    ) -> list[tuple[int, F32]]:
        """One hop of each of these (distinct) devices through the filter; the windows completed."""
        rows = np.array([due[i].stream.row for i in turn])
        acc = raw[turn, :, :3] / G  # (B, hop, 3) g
        z = self._z[rows]
        first = np.array([due[i].index == 0 for i in turn])
        if first.any():
            z[first] = self._filter.start(acc[first, 0])
        gravity, self._z[rows] = self._filter(acc, z)
        hop = features[turn]
        hop[:, :, 0:3] = acc - gravity
        hop[:, :, 3:6] = raw[turn, :, 3:6]
        hop[:, :, 6:9] = acc
        span = np.concatenate([self._history[rows], hop], axis=1)  # (B, window, 9)
        self._history[rows] = span[:, self.windowing.hop :]
        needed = self.windowing.window // self.windowing.hop - 1
        return [(int(i), span[k]) for k, i in enumerate(turn) if due[i].index >= needed]

    def _sane(self, chunk: Chunk) -> tuple[F64, F32]:
        t, samples = chunk.t, chunk.samples
        if samples.min() >= -MAX_GYRO and samples.max() <= MAX_GYRO and math.isfinite(t.sum()):
            return t, samples  # nearly always: three passes instead of six; NaN compares false
        ok = (np.abs(chunk.samples) <= _LIMITS).all(axis=1)  # false for NaN
        ok &= np.isfinite(chunk.t)
        if ok.all():
            return chunk.t, chunk.samples
        finite = np.isfinite(chunk.samples).all(axis=1) & np.isfinite(chunk.t)
        self._counters.add(Drop.NOT_FINITE, int((~finite).sum()))
        self._counters.add(Drop.ABSURD, int((finite & ~ok).sum()))
        return chunk.t[ok], chunk.samples[ok]

    def _admit(self, device: str) -> Stream | None:
        if len(self._streams) >= self._limits.max_devices:
            return None
        row = self._row()
        stream = Stream(
            device, row, self.windowing.hop, self._clock, self._limits.max_gap_s, self._counters,
            *(table[row] for table in self._raw),
        )  # fmt: skip
        self._streams[device] = stream
        return stream

    def _row(self) -> int:
        """A row of the tables that is nobody's."""
        if self._free:
            return self._free.pop()
        rows = len(self._z)
        if self._used == rows:
            self._z = np.concatenate([self._z, np.zeros_like(self._z)])
            self._history = np.concatenate([self._history, np.zeros_like(self._history)])
            self._raw = _raw_tables(2 * rows, self.windowing.hop)  # who has a row of the old ones keeps it
        self._used += 1
        return self._used - 1


def _raw_tables(rows: int, hop: int) -> tuple[Ticks, F32]:
    """Room for the raw samples of one hop and a half of each device."""
    room = hop * 3 // 2
    return np.zeros((rows, room), np.int32), np.zeros((rows, room, 6), np.float32)


def _turns(due: list[HopRaw]) -> list[NDArray[np.intp]]:
    """Indices of the due hops, split so that each part holds a device at most once, in order."""
    turns: list[list[int]] = []
    taken: dict[int, int] = {}
    for i, h in enumerate(due):
        k = taken.get(h.stream.row, 0)
        taken[h.stream.row] = k + 1
        if k == len(turns):
            turns.append([])
        turns[k].append(i)
    return [np.array(turn) for turn in turns]
