"""Room for the raw samples that wait for their hop to be complete: tables in which a device has a slot."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from hard.dsp import Ticks
from hard.types import F32

FAR: Final = 1 << 23  # ticks: later than any point of a hop
Rows = NDArray[np.intp]


class Waiting:
    """Slots for so many samples each, of devices that need no more. Owner: one thread."""

    def __init__(self, room: int, slots: int) -> None:
        """Memory is taken when a slot is first written to."""
        self.room = room
        self._ticks: Ticks = np.zeros((slots, room), np.int32)
        self._samples: F32 = np.zeros((slots, room, 6), np.float32)
        self._free: list[int] = []
        self._used = 0

    def open(self) -> int:
        """A slot that is nobody's."""
        if self._free:
            return self._free.pop()
        if self._used == len(self._ticks):
            self._ticks = np.concatenate([self._ticks, np.zeros_like(self._ticks)])
            self._samples = np.concatenate([self._samples, np.zeros_like(self._samples)])
        self._used += 1
        return self._used - 1

    def close(self, slot: int) -> None:
        self._free.append(slot)

    def move(self, slot: int, other: Waiting) -> int:
        """A slot in larger tables with the same samples, for which this one is given up."""
        new = other.open()
        other._ticks[new, : self.room] = self._ticks[slot]
        other._samples[new, : self.room] = self._samples[slot]
        self.close(slot)
        return new

    def write(self, slots: Rows, fill: Rows, counts: Rows, ticks: Ticks, samples: F32) -> None:
        """Behind the `fill` samples of each slot, `counts` more (B,); ticks (n,), samples (n, 6)."""
        first = np.cumsum(counts) - counts
        at = np.repeat(slots * self.room + fill - first, counts) + np.arange(len(ticks))
        self._ticks.reshape(-1)[at] = ticks
        self._samples.reshape(-1, 6)[at] = samples

    def read(self, slots: Rows, fill: Rows) -> tuple[Ticks, F32]:
        """Copies of what waits in these slots: ticks (B, n), FAR behind the last; samples (B, n, 6)."""
        n = int(fill.max())
        ticks = self._ticks[slots, :n]
        ticks[np.arange(n) >= fill[:, None]] = FAR
        return ticks, self._samples[slots, :n]

    def rewrite(self, slots: Rows, ticks: Ticks, samples: F32) -> None:
        """From each slot's beginning: ticks (B, n), samples (B, n, 6)."""
        n = ticks.shape[1]
        self._ticks[slots, :n] = ticks
        self._samples[slots, :n] = samples
