"""Times for samples that carry none: sample number / measured rate, kept in step with their arrival."""

from __future__ import annotations

from typing import Final

import numpy as np

from hard.types import F64

LISTEN_S: Final = 2.0  # a window takes 2.56 s, so no label waits for this
MIN_SAMPLES: Final = 20
MAX_HELD: Final = 2048  # samples within LISTEN_S: 1,000 Hz
PAUSE_S: Final = 1.0  # out of step by more than this is a pause, not jitter
LOOP_RAD_S: Final = 0.1  # natural frequency of the loop: drift is followed within some 10 s
MAX_PULL: Final = 0.05  # the share by which a step may be longer or shorter than the period


class Pace:
    """A clock for one stream: listens for 2 s, then follows the arrivals as a slow, critically damped loop.

    A message arrives when its last sample has just been taken, give or take the jitter of USB and operating
    system, so only message ends are looked at: bursts of any regular size cost nothing. Times increase by
    the period, at most 5 % longer or shorter, and never jump, except after a pause. All in seconds of the
    arrivals' clock.
    """

    def __init__(self) -> None:
        self.period_s = 0.0  # 0 while listening
        self._ends: list[tuple[float, int]] = []  # (arrival, samples so far) of each message heard
        self._count = 0
        self._next_s = 0.0
        self._shift_s = 0.0  # of our clock to the arrivals'
        self._behind_s = 0.0  # how much later than expected the newest message came
        self._last_s: float | None = None  # the newest time given out

    def take(self, arrival_s: float, n: int) -> tuple[F64, int]:
        """Times of the samples that can be timed now, the n newest last, and how many earlier ones cannot be.

        No times while listening: the samples are held by the caller, and come with a later answer or are
        among those that never can be timed, because of a pause.
        """
        lost = 0
        if self.period_s:
            self._behind_s = arrival_s + self._shift_s - (self._next_s + (n - 1) * self._step_s())
            if abs(self._behind_s) <= PAUSE_S:
                return self._follow(n), 0
            self.restart()
        elif self._ends and arrival_s - self._ends[-1][0] > PAUSE_S:
            lost = self.restart()
        self._count += n
        self._ends.append((arrival_s, self._count))
        if self._count >= MIN_SAMPLES and arrival_s - self._ends[0][0] >= LISTEN_S:
            return self._begin(), lost
        if self._count > MAX_HELD:
            lost += self.restart()
        return np.empty(0), lost

    @property
    def rate_hz(self) -> float:
        """0 while listening."""
        return 1 / self.period_s if self.period_s else 0.0

    def restart(self) -> int:
        """Listen anew; returns how many samples wait for a time that will not come."""
        lost, self._count = self._count, 0
        self._ends.clear()
        self.period_s = 0.0
        return lost

    def _begin(self) -> F64:
        """A line through the message ends (least squares): its slope is the period."""
        arrivals, counts = np.array(self._ends, np.float64).T
        period, _ = np.polyfit(counts - counts.mean(), arrivals - arrivals.mean(), 1)
        self.period_s = max(float(period), 1e-4)
        first = arrivals.mean() + (1 - counts.mean()) * self.period_s
        earliest = first if self._last_s is None else self._last_s + PAUSE_S  # time never goes back
        self._shift_s = max(0.0, earliest - first)
        self._next_s = first + self._shift_s
        self._behind_s = 0.0
        n, self._count = self._count, 0
        self._ends.clear()
        return self._follow(n)

    def _step_s(self) -> float:
        pull = 2 * LOOP_RAD_S * self._behind_s
        return self.period_s * (1 + min(max(pull, -MAX_PULL), MAX_PULL))

    def _follow(self, n: int) -> F64:
        step = self._step_s()
        times: F64 = self._next_s + step * np.arange(n, dtype=np.float64)
        self._next_s += step * n
        self._last_s = float(times[-1])
        self.period_s *= 1 + LOOP_RAD_S**2 * self._behind_s * n * self.period_s
        return times
