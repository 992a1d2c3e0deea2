"""Motion that no model can know: no gravity, wrong units, or more movement than the model was trained on."""

from __future__ import annotations

from typing import Final

import msgspec
import numpy as np

from hard.types import F32, MotionRange

GRAVITY_G: Final = (0.7, 1.4)
"""A window's mean acceleration is gravity, whatever people do: 0.91-1.08 g in the labelled windows of HAPT's
training people, 0.92-1.30 g in those of MotionSense's who jog. Linear acceleration has 0, units of g sent as
m/s² give 0.1, m/s² sent as g give 9.8."""


class Motion(msgspec.Struct, frozen=True):
    """How much moves in each of N windows."""

    up: F32  # (N, 3) mean acceleration: where up is [g]
    gravity_g: list[float]  # length of the mean acceleration
    body_g: list[float]  # rms body acceleration
    gyro_rad_s: list[float]  # rms angular velocity
    tilt_deg: list[float]  # angle between the mean accelerations of the window's halves

    def reason(self, i: int, known: MotionRange | None) -> str | None:
        """Why window i is like nothing the model was trained on; None where it is not."""
        low, high = GRAVITY_G
        if self.gravity_g[i] < low:
            return f"no gravity in the acceleration: {self.gravity_g[i]:.1f} g; expected m/s² with gravity"
        if self.gravity_g[i] > high:
            return f"acceleration is not in m/s²: {self.gravity_g[i]:.1f} g on average; expected 1 g"
        if known is not None and self.body_g[i] > known.max_body_g:
            return f"more movement than the model knows: {self.body_g[i]:.1f} g"
        if known is not None and self.gyro_rad_s[i] > known.max_gyro_rad_s:
            return f"more turning than the model knows: {self.gyro_rad_s[i]:.1f} rad/s"
        return None

    def passing(self, i: int, known: MotionRange | None) -> str | None:
        """Why window i shows somebody who changes posture; None where it does not."""
        if known is None or known.max_tilt_deg is None or self.tilt_deg[i] <= known.max_tilt_deg:
            return None
        return f"between postures: up turned by {self.tilt_deg[i]:.0f} degrees"


def measure(x: F32) -> Motion:
    """(N, window, 9) features -> their Motion."""
    windows, samples, channels = x.shape
    half = samples // 2  # the last of an odd number is left out
    halves = _mean(x[:, : 2 * half].reshape(windows, 2, half, channels))[:, :, 6:9]  # (N, 2, 3)
    sizes = np.linalg.norm(halves, axis=2)
    dot = (halves[:, 0] * halves[:, 1]).sum(axis=1)
    cosine = np.clip(dot / np.maximum(sizes[:, 0] * sizes[:, 1], 1e-9), -1.0, 1.0)
    up = halves.mean(axis=1)
    squares = _mean(np.square(x))  # (N, 9)
    return Motion(
        up=up,
        gravity_g=np.linalg.norm(up, axis=1).tolist(),
        body_g=np.sqrt(squares[:, 0:3].sum(axis=1)).tolist(),
        gyro_rad_s=np.sqrt(squares[:, 3:6].sum(axis=1)).tolist(),
        tilt_deg=np.degrees(np.arccos(cosine)).tolist(),
    )


def _mean(x: F32) -> F32:
    """Over the last axis but one, as a product: a fifth of what `mean` takes on rows of nine."""
    out: F32 = (np.full((1, x.shape[-2]), 1 / x.shape[-2], np.float32) @ x)[..., 0, :]
    return out
