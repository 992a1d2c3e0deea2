"""A synthetic phone: physically plausible signals for demos and load, never for training or figures."""

from __future__ import annotations

from typing import Final

import msgspec
import numpy as np

from hard.types import F32, F64, G

NAME: Final = "synthetic-{}"  # devices carry it in their name, so topics, tables and logs all say so
ACTIVITIES: Final = ("walking", "sitting", "walking_downstairs", "standing", "walking_upstairs", "laying")
HARMONICS: Final = np.array([0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0])  # of the step frequency; 0.5 is the stride
_BLEND_S: Final = 1.0
_GAIN: Final = 1.25  # amplitudes below are of 8 s averages, which cadence that wanders makes small


class Motion(msgspec.Struct, frozen=True):
    """A waist-worn phone (x up, z forward) during one activity.

    Levels, amplitudes and step frequencies are near the medians of HAPT's training users, the phases those of
    a typical one.
    """

    up: tuple[float, float, float]  # specific force at rest, g
    sway: tuple[float, ...]  # (6,) slow movement, standard deviation, g and rad/s
    noise: tuple[float, ...]  # (6,) white, standard deviation, g and rad/s
    step_hz: float = 0.0
    amplitude: tuple[tuple[float, ...], ...] = ()  # (6 axes, 7 harmonics) g and rad/s
    phase: tuple[tuple[float, ...], ...] = ()  # (6 axes, 7 harmonics) rad


_SENSOR = (0.0038, 0.0038, 0.005, 0.006, 0.011, 0.006)
_IMPACTS = (0.05, 0.05, 0.05, 0.15, 0.15, 0.12)
_GAIT_SWAY = (0.03, 0.03, 0.03, 0.1, 0.1, 0.08)
MOTIONS: Final = {
    "walking": Motion(
        (1.0, -0.21, -0.03), _GAIT_SWAY, _IMPACTS, 1.74,
        ((0.024, 0.224, 0.098, 0.071, 0.034, 0.083, 0.054), (0.065, 0.132, 0.039, 0.057, 0.061, 0.048, 0.04),
         (0.068, 0.1, 0.022, 0.044, 0.025, 0.038, 0.033), (0.375, 0.081, 0.152, 0.056, 0.206, 0.053, 0.049),
         (0.264, 0.146, 0.321, 0.08, 0.113, 0.077, 0.102), (0.17, 0.14, 0.3, 0.049, 0.061, 0.064, 0.055)),
        ((-2.91, 0.0, 1.1, 0.47, 1.08, 1.0, -0.11), (-2.85, 2.22, 0.1, 1.71, 2.84, 1.2, 0.71),
         (0.86, 1.51, -1.29, 1.44, -0.64, 1.07, -2.53), (-1.35, -0.31, 1.45, -2.98, -1.0, 3.06, 2.71),
         (1.38, -1.23, -0.71, -2.03, -0.58, -1.24, 0.1), (0.98, 2.3, -0.13, 0.22, 0.01, 0.46, -0.08)),
    ),
    "walking_upstairs": Motion(
        (0.96, -0.31, -0.15), _GAIT_SWAY, _IMPACTS, 1.58,
        ((0.047, 0.261, 0.028, 0.058, 0.023, 0.044, 0.02), (0.09, 0.142, 0.023, 0.045, 0.022, 0.018, 0.013),
         (0.104, 0.083, 0.025, 0.029, 0.014, 0.013, 0.009), (0.226, 0.12, 0.088, 0.048, 0.068, 0.04, 0.027),
         (0.345, 0.134, 0.117, 0.052, 0.051, 0.049, 0.04), (0.305, 0.127, 0.07, 0.06, 0.035, 0.034, 0.025)),
        ((0.22, 0.0, -2.07, -0.77, -1.02, -0.49, -1.01), (0.16, 2.29, 1.02, 1.95, 1.15, 2.79, 1.47),
         (-2.7, 1.28, -2.89, 1.4, 2.67, 2.15, -3.06), (2.03, -2.77, -2.84, -2.53, -2.7, -1.54, 1.93),
         (-1.38, -1.77, -2.59, 0.11, -1.57, -2.36, -3.02), (-1.48, 1.44, -3.0, 0.32, -2.54, 1.73, 0.64)),
    ),
    "walking_downstairs": Motion(
        (1.0, -0.18, -0.02), _GAIT_SWAY, tuple(2 * n for n in _IMPACTS), 1.72,
        ((0.026, 0.348, 0.063, 0.119, 0.033, 0.035, 0.024), (0.069, 0.091, 0.041, 0.053, 0.028, 0.029, 0.018),
         (0.074, 0.053, 0.021, 0.04, 0.022, 0.024, 0.017), (0.273, 0.107, 0.142, 0.071, 0.074, 0.05, 0.036),
         (0.24, 0.146, 0.183, 0.123, 0.074, 0.05, 0.057), (0.095, 0.152, 0.128, 0.091, 0.053, 0.041, 0.035)),
        ((-1.84, 0.0, -1.1, -0.05, 0.81, -1.03, 0.86), (2.14, -3.0, -2.95, -2.13, 2.85, -2.57, -2.45),
         (-0.92, 2.98, -0.15, -2.54, -2.71, -1.25, -1.03), (3.14, -0.49, -1.36, 2.37, -2.78, -1.48, -1.77),
         (1.55, -1.77, -2.31, -1.01, 1.91, -1.68, 0.62), (1.28, -2.33, -2.35, 2.21, 0.65, 1.3, 1.57)),
    ),
    "sitting": Motion((0.94, 0.16, 0.28), (0.003, 0.0056, 0.0064, 0.01, 0.02, 0.013), _SENSOR),
    "standing": Motion((1.0, -0.16, 0.0), (0.005, 0.0095, 0.01, 0.059, 0.029, 0.021), _SENSOR),
    "laying": Motion((0.08, 0.74, 0.65), (0.007, 0.0055, 0.0055, 0.02, 0.025, 0.01), _SENSOR),
}  # fmt: skip


class SyntheticPhone:
    """One person's phone, going through the activities in turn; the same seed, the same person."""

    def __init__(
        self, seed: int, *, rate_hz: float = 50.0, jitter_s: float = 0.001, dwell_s: float = 30.0
    ) -> None:
        self._rng = np.random.default_rng(seed)
        self._rate_hz = rate_hz
        self._jitter_s = jitter_s
        self._dwell_s = dwell_s
        self._offset = seed % len(ACTIVITIES)
        self._pace = self._rng.uniform(0.95, 1.05)
        self._sway_hz = self._rng.uniform(0.15, 1.5, (6, 4))
        self._sway_phase = self._rng.uniform(0, 2 * np.pi, (6, 4))

    def read(self, first: int, count: int) -> tuple[F64, F32]:
        """Samples first .. first + count: jittered times (n,) s since start, values (n, 6) m/s² and rad/s."""
        t = (first + np.arange(count)) / self._rate_hz
        jitter = self._rng.uniform(-self._jitter_s, self._jitter_s, count)
        return t + jitter, self.signal(t + jitter).astype(np.float32)

    def signal(self, t: F64) -> F64:
        """The motion and the sensor's noise at any times, (n,) s -> (n, 6) m/s² and rad/s."""
        turn = np.floor(t / self._dwell_s).astype(int)
        out = np.empty((len(t), 6))
        for k in np.unique(turn):
            at = turn == k
            into_s = t[at] - k * self._dwell_s
            blend = np.clip(into_s / _BLEND_S, 0.0, 1.0)[:, None]  # people take a second to change
            out[at] = blend * self._motion(k, t[at]) + (1 - blend) * self._motion(max(k - 1, 0), t[at])
        return out

    def activity(self, t_s: float) -> str:
        """What the person does at a time."""
        return ACTIVITIES[(int(t_s // self._dwell_s) + self._offset) % len(ACTIVITIES)]

    def _motion(self, turn: int, t: F64) -> F64:
        motion = MOTIONS[ACTIVITIES[(turn + self._offset) % len(ACTIVITIES)]]
        slow = np.cos(2 * np.pi * self._sway_hz * t[:, None, None] + self._sway_phase)  # (n, 6, 4)
        out: F64 = slow.sum(axis=2) / np.sqrt(2) * motion.sway
        out += self._rng.normal(0.0, motion.noise, (len(t), 6))
        out[:, :3] += motion.up
        if motion.step_hz:
            steps = motion.step_hz * self._pace * t + 0.1 * np.sin(
                2 * np.pi * 0.13 * t
            )  # no one is a metronome
            angle = 2 * np.pi * steps[:, None, None] * HARMONICS + motion.phase  # (n, 6, harmonics)
            out += _GAIN * (motion.amplitude * np.cos(angle)).sum(axis=2)
        out[:, :3] *= G
        return out
