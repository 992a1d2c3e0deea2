"""From chunks to windows: per-device state, and prepare(), batched over every device that is due."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Final

import msgspec
import numpy as np

from hard.dsp import TICKS_PER_SAMPLE, GravityFilter, resample
from hard.roster import RESERVED, Roster
from hard.stats import Counters, Drop
from hard.stream import Hops, Streams, joined
from hard.types import F32, F64, Chunk, G, Windowing, Windows
from hard.waiting import Rows

WINDOWLESS_S: Final = 10.0  # samples that come for so long, or two windows, and make none want a word
PAUSE_S: Final = 5.0  # whoever was silent for this long begins anew

CHANNELS: Final = (
    *("body_acc_x", "body_acc_y", "body_acc_z"),
    *("gyro_x", "gyro_y", "gyro_z"),
    *("total_acc_x", "total_acc_y", "total_acc_z"),
)


class Limits(msgspec.Struct, frozen=True):
    """Bounds on devices and on their clocks; comes from the configuration."""

    max_gap_s: float = 0.2
    max_devices: int = 20_000
    evict_after_s: float = 300.0


class Windowless(msgspec.Struct, frozen=True):
    """A device whose samples come and make no window."""

    device: str
    t: float  # device seconds of its newest sample
    seen_s: float  # monotonic arrival of that
    waits_s: float  # seconds since its last window, or since it began to send
    gaps: int  # in these
    all_gaps: int


_WAIT = np.dtype(
    [
        ("since_s", np.float64),  # monotonic: of the newest window, or since when samples come
        ("gaps", np.int64),  # until then
        ("told_s", np.float64),  # arrival of the newest samples that `windowless` told of
    ]
)


class Imu:
    """All devices' state, and the only way from samples to windows: live, offline and in training.

    Raw samples wait until a hop (64 samples on the model's grid) is complete. The filter's state and the
    last hops are rows of tables, so that a batch is a gather, a product, a scatter. Owner: one thread.
    """

    def __init__(self, windowing: Windowing, limits: Limits, counters: Counters) -> None:
        self.windowing = windowing
        self._limits = limits
        self._counters = counters
        self._filter = GravityFilter(windowing.cutoff_hz, windowing.order, windowing.rate_hz, windowing.hop)
        rows, past = min(RESERVED, limits.max_devices), windowing.window - windowing.hop
        self._streams = Streams(
            windowing.hop, TICKS_PER_SAMPLE * windowing.rate_hz, limits.max_gap_s, rows, counters
        )
        self._roster = Roster()
        self._z: F64 = np.zeros((rows, self._filter.states, 3))
        self._history: F32 = np.zeros((rows, past, 9), np.float32)
        self._wait = np.zeros(rows, _WAIT)
        self._patience_s = max(WINDOWLESS_S, 2 * windowing.window / windowing.rate_hz)

    def __len__(self) -> int:
        return len(self._roster)

    def push(self, chunk: Chunk) -> None:
        """Take a chunk; every hop that it completes is cut here and waits for `prepare`."""
        self.push_many([chunk])

    def push_many(self, chunks: Sequence[Chunk]) -> None:
        """Take chunks, in the order of each device's time."""
        queues: dict[int, list[Chunk]] = {}
        for chunk in chunks:
            row = self._roster.row(chunk.device)
            if row is None and (row := self._admit(chunk.device, chunk.arrival_s)) is None:
                self._counters.add(Drop.TOO_MANY_DEVICES)
            elif len(chunk.t):
                queues.setdefault(row, []).append(chunk)
        turn = 0
        while queues:
            self._streams.push_many(list(queues), [queue[turn] for queue in queues.values()])
            turn += 1
            queues = {row: queue for row, queue in queues.items() if len(queue) > turn}

    def prepare(self, oldest_s: float = -np.inf) -> Windows | None:
        """Filter every hop that is due and return the windows that they complete, in arrival order.

        Hops that arrived before `oldest_s` (monotonic) advance the filter but give no window; counted.
        """
        if not self._streams.due:
            return None
        due = joined(self._streams.due)
        self._streams.due = []
        raw = resample(due.ticks, due.samples, due.counts, self.windowing.hop)  # (B, hop, 6)
        # a device with several hops due takes several turns
        turns = [np.array(turn) for turn in in_turns(due.rows.tolist())]
        x = self._advance(turns[0], due, raw)
        if len(turns) > 1:
            first, x = x, np.empty((len(raw), *x.shape[1:]), np.float32)
            x[turns[0]] = first
        for turn in turns[1:]:
            x[turn] = self._advance(turn, due, raw)
        complete = due.index >= self.windowing.window // self.windowing.hop - 1
        self._wait["since_s"][due.rows[complete]] = due.arrival_s[complete]
        self._wait["gaps"][due.rows[complete]] = due.gaps[complete]
        fresh = complete & (due.arrival_s >= oldest_s)
        self._counters.add(Drop.STALE_HOP, int((complete & ~fresh).sum()))
        if not fresh.any():
            return None
        chosen = slice(None) if fresh.all() else fresh
        return Windows(
            x=x[chosen],
            devices=[self._roster.name(row) for row in due.rows[chosen].tolist()],
            t_end=due.t_end[chosen],
            arrival_s=due.arrival_s[chosen],
            end_s=due.end_s[chosen],
            rate_hz=due.rate_hz[chosen],
            gaps=due.gaps[chosen].tolist(),
        )

    def forget(self, device: str) -> bool:
        """Drop a device's state and its hops that are due; whether there was any."""
        row = self._roster.remove(device)
        if row is not None:
            self._streams.close(row)
        return row is not None

    def evict(self, now_s: float) -> list[str]:
        """Forget devices that have been silent for `evict_after_s`; returns their names."""
        rows = np.fromiter(self._roster.rows(), np.intp, len(self._roster))
        silent = self._streams.silent(rows, now_s - self._limits.evict_after_s)
        gone = [self._roster.name(row) for row in silent.tolist()]
        for device in gone:
            self.forget(device)
        return gone

    def windowless(self, now_s: float) -> list[Windowless]:
        """Devices that have sent for long without a window, once for new samples; to be asked each second."""
        rows = np.fromiter(self._roster.rows(), np.intp, len(self._roster))
        seen_s, t, gaps = self._streams.newest(rows)
        wait = self._wait[rows]
        paused = seen_s < now_s - PAUSE_S
        wait["since_s"][paused], wait["gaps"][paused] = now_s, gaps[paused]
        waits_s = seen_s - wait["since_s"]
        found = np.flatnonzero((waits_s >= self._patience_s) & (seen_s > wait["told_s"]))
        wait["told_s"][found] = seen_s[found]
        self._wait[rows] = wait
        lost = gaps - wait["gaps"]
        return [
            Windowless(
                self._roster.name(int(rows[i])), float(t[i]), float(seen_s[i]), float(waits_s[i]),
                int(lost[i]), int(gaps[i]),
            )
            for i in found
        ]  # fmt: skip

    def _advance(self, turn: Rows, due: Hops, raw: F32) -> F32:
        """One hop of each of these (distinct) devices through the filter; their spans (n, window, 9)."""
        rows = due.rows[turn]
        acc = np.divide(raw[turn, :, :3], G, dtype=np.float64)  # (n, hop, 3) g
        z = self._z[rows]
        first = due.index[turn] == 0
        if first.any():
            z[first] = self._filter.start(acc[first, 0])
        gravity, self._z[rows] = self._filter(acc, z)
        past = self.windowing.window - self.windowing.hop
        span = np.empty((len(rows), self.windowing.window, 9), np.float32)
        span[:, :past] = self._history[rows]
        span[:, past:, 0:3] = acc - gravity
        span[:, past:, 3:6] = raw[turn, :, 3:6]
        span[:, past:, 6:9] = acc
        self._history[rows] = span[:, self.windowing.hop :]
        return span

    def _admit(self, device: str, now_s: float) -> int | None:
        """A row for a new device; None where there are too many."""
        if len(self._roster) >= self._limits.max_devices:
            return None
        row = self._roster.add(device)
        if row == len(self._z):
            self._z = np.concatenate([self._z, np.zeros_like(self._z)])
            self._history = np.concatenate([self._history, np.zeros_like(self._history)])
            self._wait = np.concatenate([self._wait, np.zeros_like(self._wait)])
        self._streams.open(row)
        self._wait[row] = now_s, 0, -np.inf
        return row


def in_turns(devices: Sequence[Hashable]) -> list[list[int]]:
    """Indices of these, split so that each part holds a device at most once, in order."""
    if len(set(devices)) == len(devices):
        return [list(range(len(devices)))]  # nearly always
    turns: list[list[int]] = []
    taken: Counter[Hashable] = Counter()
    for i, device in enumerate(devices):
        if taken[device] == len(turns):
            turns.append([])
        turns[taken[device]].append(i)
        taken[device] += 1
    return turns
