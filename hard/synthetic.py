"""A synthetic phone: physically plausible signals for demos and load, never for training or figures."""

from __future__ import annotations

from typing import Final

import msgspec
import numpy as np

from hard.types import F32, F64, G

NAME: Final = "synthetic-{}"  # devices carry it in their name, so topics, tables and logs all say so
ACTIVITIES: Final = ("walking", "sitting", "walking_downstairs", "standing", "walking_upstairs", "laying")
HARMONICS: Final = np.array([0.5, 1.0, 1.5, 2.0, 3.0])  # of the step frequency; 0.5 is the stride
_BLEND_S: Final = 1.0


class Motion(msgspec.Struct, frozen=True):
    """A waist-worn phone (x up, z forward) during one activity; sizes are medians of what people show."""

    up: tuple[float, float, float]  # specific force at rest, g
    step_hz: float = 0.0
    acc: tuple[tuple[float, ...], ...] = ()  # (3 axes, 5 harmonics) amplitude, g
    gyro: tuple[tuple[float, ...], ...] = ()  # (3 axes, 5 harmonics) amplitude, rad/s
    sway_g: float = 0.004
    sway_rad_s: float = 0.03


MOTIONS: Final = {
    "walking": Motion(
        (1.0, -0.2, -0.05), 1.85,
        ((0.03, 0.22, 0.06, 0.16, 0.06), (0.04, 0.06, 0.14, 0.10, 0.06), (0.14, 0.05, 0.04, 0.04, 0.03)),
        ((0.25, 0.15, 0.15, 0.40, 0.15), (0.50, 0.20, 0.45, 0.15, 0.08), (0.18, 0.30, 0.25, 0.10, 0.05)),
    ),
    "walking_upstairs": Motion(
        (0.96, -0.3, -0.16), 1.55,
        ((0.05, 0.24, 0.05, 0.13, 0.04), (0.05, 0.19, 0.08, 0.08, 0.04), (0.20, 0.09, 0.05, 0.05, 0.02)),
        ((0.20, 0.12, 0.12, 0.20, 0.10), (0.75, 0.25, 0.20, 0.12, 0.05), (0.18, 0.15, 0.10, 0.08, 0.04)),
    ),
    "walking_downstairs": Motion(
        (1.0, -0.18, -0.02), 1.76,
        ((0.06, 0.40, 0.10, 0.26, 0.16), (0.05, 0.14, 0.08, 0.14, 0.10), (0.12, 0.06, 0.06, 0.08, 0.05)),
        ((0.45, 0.20, 0.20, 0.30, 0.20), (0.35, 0.35, 0.25, 0.25, 0.15), (0.18, 0.35, 0.15, 0.15, 0.10)),
    ),
    "sitting": Motion((0.98, 0.08, 0.18), sway_g=0.002, sway_rad_s=0.008),
    "standing": Motion((1.01, -0.17, -0.02), sway_g=0.008, sway_rad_s=0.05),
    "laying": Motion((0.06, 0.74, 0.66), sway_g=0.002, sway_rad_s=0.008),
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
        self._phases = self._rng.uniform(0, 2 * np.pi, (6, len(HARMONICS)))
        self._sway_hz = self._rng.uniform(0.15, 1.5, (6, 4))
        self._sway_phase = self._rng.uniform(0, 2 * np.pi, (6, 4))

    def read(self, first: int, count: int) -> tuple[F64, F32]:
        """Samples first .. first + count: jittered times (n,) s since start, values (n, 6) m/s² and rad/s."""
        t = (first + np.arange(count)) / self._rate_hz
        jitter = self._rng.uniform(-self._jitter_s, self._jitter_s, count)
        samples = self.signal(t + jitter)
        noise = self._rng.normal(0.0, [0.002 * G] * 3 + [0.005] * 3, (count, 6))
        return t + jitter, (samples + noise).astype(np.float32)

    def signal(self, t: F64) -> F64:
        """The motion without sensor noise at any times, (n,) s -> (n, 6)."""
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
        sway = (
            np.cos(2 * np.pi * self._sway_hz * t[:, None, None] + self._sway_phase).sum(axis=2) / 2
        )  # (n, 6)
        out: F64 = sway * ([motion.sway_g] * 3 + [motion.sway_rad_s] * 3)
        out[:, :3] += motion.up
        if motion.step_hz:
            steps = motion.step_hz * self._pace * t + 0.1 * np.sin(
                2 * np.pi * 0.13 * t
            )  # no one is a metronome
            angle = 2 * np.pi * steps[:, None, None] * HARMONICS + self._phases  # (n, 6, harmonics)
            out += (np.array(motion.acc + motion.gyro) * np.cos(angle)).sum(axis=2)
        out[:, :3] *= G
        return out
