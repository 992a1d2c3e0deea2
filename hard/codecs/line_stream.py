"""One device's rows of numbers -> SI units and times: learns layout, units and pace, then converts."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

import numpy as np

from hard.codecs import AXES, CodecOptions, units
from hard.codecs.pace import Pace
from hard.log import Sampled
from hard.stats import Counters, Drop
from hard.types import F64, MAX_TIME_S, Chunk

log = logging.getLogger(__name__)

LAYOUTS: Final = {6: AXES, 7: ("t", *AXES), 3: AXES[:3], 4: ("t", *AXES[:3])}
LEARN_S: Final = 1.0  # samples looked at to tell units, by their own timestamps
LEARN_STEPS: Final = 20
MOST_STUDIED: Final = 402  # rows: LEARN_S at 400 Hz
SWITCH: Final = 50  # consecutive lines of another length after which that is the stream's new layout,
SWITCH_EARLY: Final = 3  # and before as many have come, so that one stray line does not cost a second
FORGET_S: Final = 3.0  # a board silent for this long may come back with another program


class LineStream:
    """What is known of one device's lines: layout, scales, pace; rows are held until that is learned."""

    def __init__(self, device: str, options: CodecOptions, counters: Counters, complaints: Sampled) -> None:
        self._device = device
        self._options = options
        self._counters = counters
        self._complaints = complaints
        self._heard_s = -np.inf
        self._odd = (0, 0)  # length of the lines that do not fit, and how many of those came in a row
        self._pace = Pace()
        self._layout: Sequence[str] = options.columns
        self._forget()

    def _forget(self) -> None:
        self._layout = self._options.columns
        self._held = np.empty((0, len(self._layout)))
        self.fitted = 0  # lines of the layout so far
        self._pace.restart()
        self._units: tuple[str, str, str] | None = None  # of time, acceleration, angular velocity
        self._fast = 0  # samples too fast for rad/s, where that was a guess

    def hear(self, arrival_s: float) -> None:
        """Note that something came; after a long silence everything is learned anew."""
        if arrival_s - self._heard_s > FORGET_S:
            self._lose(len(self._held))
            self._forget()
        self._heard_s = arrival_s

    def fits(self, length: int) -> bool:
        """Whether a line of this many numbers is a sample; many of another length change the layout."""
        if length == len(self._layout):
            self._odd = (0, 0)
            self.fitted += 1
            return True
        if self._options.columns or length not in LAYOUTS:
            return False
        before, run = self._odd
        self._odd = (length, run + 1 if before == length else 1)
        if self._layout and self._odd[1] < (SWITCH if self.fitted >= SWITCH else SWITCH_EARLY):
            return False
        self._odd = (0, 0)
        self._lose(len(self._held))
        self._forget()
        self._layout = LAYOUTS[length]
        self._held = np.empty((0, length))
        return True

    def take(self, rows: list[list[float]], arrival_s: float) -> list[Chunk]:
        """The chunk that these rows, and those held before, make; none while there is something to learn."""
        self._held = np.concatenate([self._held, np.array(rows)])
        with np.errstate(all="ignore"):  # what overflows or is NaN is dropped as such further on
            if "t" in self._layout:
                return self._stamped(arrival_s)
            times, lost = self._pace.take(arrival_s, len(rows))
            if lost:
                self._complaints.warning(
                    self._device + " pace",
                    f"{self._device}: {lost} lines could not be timed: the board paused, or sends more than "
                    "1,000 lines a second",
                )
            self._lose(lost)
            if not len(times):
                return []
            if self._units is None and not self._learn(self._held, "s"):
                return []
            return self._chunk(times, arrival_s)

    def _stamped(self, arrival_s: float) -> list[Chunk]:
        column = self._layout.index("t")
        while self._units is None:
            if not self._study(self._held[:MOST_STUDIED, column]):
                return []
        t = self._held[:, column] * units.TIME_UNITS[self._units[0]]
        return self._chunk(t, arrival_s)

    def _study(self, t: F64) -> bool:
        """Settle the units by the first second, or drop it where it tells nothing; False: too few rows yet.

        What is settled depends on the rows alone, not on how they came.
        """
        s = self._options
        if len(t) <= LEARN_STEPS and "auto" in (s.time_unit, s.acc_unit, s.gyro_unit):
            return False
        unit = s.time_unit if s.time_unit != "auto" else units.time_unit(t[: LEARN_STEPS + 1])
        if unit is None:
            self._refuse(LEARN_STEPS + 1, f"column t steps by {np.median(np.diff(t)):g}: not 20-400 Hz in s, "
                         "ms or us; set columns or time_unit")  # fmt: skip
            return True
        enough = (t - t[0]) * units.TIME_UNITS[unit] >= LEARN_S
        if enough.any():
            self._learn(self._held[: int(enough.argmax()) + 1], unit)
        elif "auto" not in (s.acc_unit, s.gyro_unit):
            self._learn(self._held, unit)
        elif len(t) < MOST_STUDIED:
            return False
        else:
            self._refuse(MOST_STUDIED, "column t does not go forward; set columns")
        return True

    def _learn(self, rows: F64, time_unit: str) -> bool:
        """Settle the units by these rows; False where gravity is not found in them, and they are dropped."""
        s = self._options
        samples = self._axes(rows)
        acc = units.acc_unit(samples[:, :3], s.acc_scale) if s.acc_unit == "auto" else s.acc_unit
        if acc is None:
            norm = units.median_norm(samples[:, :3])
            self._refuse(len(rows), f"acceleration has a median norm of {norm:.4g}: neither m/s2, g nor "
                         f"counts of {s.acc_scale:g} a g; set acc_unit and acc_scale")  # fmt: skip
            return False
        guessed = s.gyro_unit == "auto"
        gyro = units.gyro_unit(samples[:, 3:], acc) if guessed else s.gyro_unit
        self._units = (time_unit, acc, gyro)
        time = f"t in {time_unit}" if "t" in self._layout else f"no times, {self._pace.rate_hz:.1f} Hz"
        turning = f"angular velocity in {gyro}" + (" (assumed; see gyro_unit)" if guessed else "")
        turning = turning if "gx" in self._layout else "no gyroscope"
        what = f"{len(self._layout)} values a line, {time}, acceleration in {acc}, {turning}"
        log.info("%s: %s", self._device, what)
        return True

    def _chunk(self, t: F64, arrival_s: float) -> list[Chunk]:
        assert self._units is not None
        rows, self._held = self._held, self._held[:0]
        samples = self._axes(rows)
        samples[:, :3] *= units.acc_scale(self._units[1], self._options.acc_scale)
        gyro: F64 = samples[:, 3:].copy()
        samples[:, 3:] *= units.gyro_scale(self._units[2], self._options.gyro_scale)
        if self._units[2] == "rad/s" and self._options.gyro_unit == "auto":
            self._correct(samples, gyro)
        t = np.where(np.abs(t) <= MAX_TIME_S, t, np.nan)
        return [Chunk(self._device, t, samples.astype(np.float32), arrival_s, "gx" in self._layout)]

    def _axes(self, rows: F64) -> F64:
        """ax ay az gx gy gz of rows, (n, 6); zero where there is no gyroscope."""
        out = np.zeros((len(rows), 6))
        for i, axis in enumerate(AXES):
            if axis in self._layout:
                out[:, i] = rows[:, self._layout.index(axis)]
        return out

    def _correct(self, samples: F64, gyro: F64) -> None:
        """From the fifth sample on that no gyroscope can measure in rad/s, it is deg/s."""
        self._fast, since = units.too_fast(gyro, self._fast)
        if since < len(gyro):
            samples[since:, 3:] = gyro[since:] * units.gyro_scale("deg/s", 1.0)
            assert self._units is not None
            self._units = (*self._units[:2], "deg/s")
            log.warning("%s: too fast for rad/s, taken as deg/s from now on; set gyro_unit", self._device)

    def _refuse(self, n: int, why: str) -> None:
        self._complaints.warning(self._device + " units", f"{self._device}: {why}")
        self._lose(n)
        self._pace.restart()

    def _lose(self, n: int) -> None:
        """Drop the n oldest rows that are held."""
        self._counters.add(Drop.NOT_LEARNED, n)
        self._held = self._held[n:]
