"""What every reader makes of a file: one device's samples, in SI units and the Android sign."""

from __future__ import annotations

import msgspec
import numpy as np

from hard.types import F32, F64, Chunk


class Recording(msgspec.Struct, frozen=True):
    """One device's samples from beginning to end."""

    name: str
    t: F64  # (n,) seconds on the recording's own clock
    samples: F32  # (n, 6) m/s² (Android sign), rad/s; or (n, 3) of a device without a gyroscope

    @property
    def gyro(self) -> bool:
        return bool(self.samples.shape[1] == 6)

    def chunk(self, device: str = "") -> Chunk:
        """All of it at once, as it would have arrived at time 0."""
        samples = self.samples if self.gyro else np.pad(self.samples, ((0, 0), (0, 3)))
        return Chunk(device, self.t, samples, 0.0, self.gyro)
