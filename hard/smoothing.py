"""Probabilities -> steady activity: smoothing, hysteresis and minimum hold, on the device's clock.

The logarithms of a device's probabilities are averaged with exponential forgetting; the average, normalised,
is the confidence. They are floored, so that a window says no more than 50 to 1: with the default settings it
takes two to change the activity. Another activity replaces the current one when it is `hysteresis` times as
likely and the current one has lasted `min_hold_s`. Nobody stands up without moving: while the phone lies
still, the average is taken over longer, unless the model itself averages (`averaging_s` in its card). All
times are seconds on the device's clock: they mean the same at any hop and overlap. The ratio suits models
whose probabilities are calibrated, as ours are; an overconfident one needs a larger ratio or a longer
average.
"""

from __future__ import annotations

import math
from typing import Final

import msgspec

from hard.settings import FLOOR, SmoothingSettings
from hard.types import UNKNOWN, Prediction

STILL_G: Final = 0.1  # sitting, standing and lying stay below in 95 % of windows; every change between them
# has a window above 0.24, all walking windows are above 0.18 (HAPT's training people)
LOG_FLOOR: Final = math.log(FLOOR)
LOW_CONFIDENCE: Final = "low confidence"


class Steady(msgspec.Struct, frozen=True, gc=False):
    """A device's activity as of one window."""

    activity: str
    confidence: float  # 0-1; 0 where the activity is `unknown`
    reason: str | None  # why it is `unknown`
    restarted: bool  # nothing before this window counted


class _State(msgspec.Struct, gc=False):
    names: list[str]  # the model's activities; another model's begin anew
    t_end: float  # device seconds of the newest window
    logs: list[float]  # averaged logarithms: the model's activities, then `unknown`
    activity: str = UNKNOWN
    since_t: float = -math.inf  # device seconds of the first window with this activity
    clear_t: float = -math.inf  # of the newest window at which some activity reached min_confidence
    moved_t: float = -math.inf  # of the newest window with movement
    why: str | None = None  # of the newest window that was `unknown` by itself


class Smoother:
    """Each device's steady activity, from the sequence of its predictions alone. Owner: one thread."""

    def __init__(self, settings: SmoothingSettings) -> None:
        self._settings = settings
        self._margin = math.log(settings.hysteresis)
        self._states: dict[str, _State] = {}

    def update(self, p: Prediction) -> Steady:
        """Take a device's next prediction; its `t_end`, probabilities, movement and reason are what counts.

        A window that is `unknown` by itself says so with certainty, and nothing about the activities.
        """
        known = p.reason is None or p.passing
        if known:
            logs = [math.log(share) if share > FLOOR else LOG_FLOOR for share in p.probabilities.values()]
            logs.append(LOG_FLOOR)
        else:
            logs = [LOG_FLOOR] * len(p.probabilities) + [0.0]
        state = self._states.get(p.device)
        restarted = (
            state is None
            or not 0 < p.t_end - state.t_end <= self._settings.restart_s
            or [*p.probabilities, UNKNOWN] != state.names
        )
        if state is None or restarted:
            names = [*p.probabilities, UNKNOWN]
            state = self._states[p.device] = _State(names, p.t_end, logs, moved_t=p.t_end)
        else:
            self._average(state, logs, p)
        if not known:
            state.why = p.reason
        top = max(state.logs)
        best = state.logs.index(top)
        total = sum(map(math.exp, state.logs)) - FLOOR  # of `unknown`, which no known window speaks for
        if math.exp(top) / total >= self._settings.min_confidence:
            state.clear_t = p.t_end
        self._move(state, best)
        if state.activity != UNKNOWN:
            share = math.exp(state.logs[state.names.index(state.activity)])
            return Steady(state.activity, share / total, None, restarted)
        reason = state.why if state.names[best] == UNKNOWN else LOW_CONFIDENCE
        return Steady(UNKNOWN, 0.0, reason, restarted)

    def use(self, settings: SmoothingSettings) -> None:
        """Other settings from the next window on; what has been averaged stays."""
        self._settings = settings
        self._margin = math.log(settings.hysteresis)

    def forget(self, devices: list[str]) -> None:
        for device in devices:
            self._states.pop(device, None)

    def _average(self, state: _State, logs: list[float], p: Prediction) -> None:
        if p.movement_g >= STILL_G:
            state.moved_t = p.t_end
        still = p.t_end - state.moved_t > self._settings.settle_s
        time_s = self._settings.still_time_constant_s if still else self._settings.time_constant_s
        keep = math.exp((state.t_end - p.t_end) / min(time_s, p.averaging_s))
        state.logs = [keep * a + (1 - keep) * b for a, b in zip(state.logs, logs, strict=True)]
        state.t_end = p.t_end

    def _move(self, state: _State, best: int) -> None:
        """Let the most likely activity replace the current one, or `unknown` where none is clear for long."""
        if state.t_end - state.since_t < self._settings.min_hold_s:
            return
        names = state.names
        lead = state.logs[best] - state.logs[names.index(state.activity)]
        if state.clear_t == state.t_end:
            begins = state.since_t == -math.inf
            activity = names[best] if begins or lead >= self._margin else state.activity
        else:
            unclear = state.t_end - state.clear_t >= self._settings.min_hold_s
            activity = UNKNOWN if unclear else state.activity
        if activity != state.activity or state.since_t == -math.inf:
            state.activity, state.since_t = activity, state.t_end
