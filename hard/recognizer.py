"""The Python door: samples of any number of devices in, predictions out; the daemon uses the same object."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from hard.imu import Imu, Limits
from hard.model import Model, load_model
from hard.novelty import measure
from hard.stats import Counters
from hard.types import UNKNOWN, Chunk, Prediction, Windows


class Recognizer:
    """Push samples, get predictions.

        recognizer = hard.Recognizer("lstm-waist")
        for t, samples in phone:                       # t (n,) s, samples (n, 6) m/s² and rad/s
            for p in recognizer.push("alice", t, samples):
                print(p.t_end, p.activity, p.confidence)

    Owner: one thread.
    """

    def __init__(
        self,
        model: str | Model = "lstm-waist",
        *,
        limits: Limits | None = None,
        min_rate_hz: float = 19.0,
        counters: Counters | None = None,
    ) -> None:
        self.model = load_model(model) if isinstance(model, str) else model
        self.counters = counters or Counters()
        self._min_rate_hz = min_rate_hz
        self._imu = Imu(self.model.card.windowing, limits or Limits(), self.counters)

    def push(self, device: str, t: ArrayLike, samples: ArrayLike) -> Sequence[Prediction]:
        """Take consecutive samples of one device and return the predictions that they complete.

        t: (n,) seconds on the device's own clock, increasing; samples: (n, 6) ax ay az in m/s² (specific
        force, +9.8 on the axis that points up at rest), gx gy gz in rad/s. Any n; irregular sampling from
        20 to 400 Hz is resampled. Raises ValueError for other shapes. Samples that are not finite, absurd
        or late are dropped and counted in `counters`.
        """
        at = np.asarray(t, np.float64)
        values = np.asarray(samples, np.float32)
        if at.ndim != 1 or values.shape != (len(at), 6):
            raise ValueError(f"expected t (n,) and samples (n, 6), got {at.shape} and {values.shape}")
        self.feed(Chunk(device, at, values, time.monotonic()))
        return self.step()

    def feed(self, chunk: Chunk) -> None:
        """Take a chunk without recognising anything yet."""
        self._imu.push(chunk)

    def step(self, oldest_s: float = -np.inf) -> list[Prediction]:
        """Recognise every window that is due, in one batch; see `Imu.prepare` for `oldest_s`."""
        windows = self._imu.prepare(oldest_s)
        if windows is None:
            return []
        return self._predictions(windows, self.model.predict(windows.x))

    def evict(self, now_s: float) -> list[str]:
        """Forget devices that have been silent for long; returns their names."""
        return self._imu.evict(now_s)

    @property
    def devices(self) -> int:
        return len(self._imu)

    def _predictions(self, w: Windows, probabilities: np.ndarray) -> list[Prediction]:
        labels = self.model.card.labels
        best = probabilities.argmax(axis=1)
        rows = probabilities.tolist()
        motion = measure(w.x)
        out = []
        for i, device in enumerate(w.devices):
            rate = float(w.rate_hz[i])
            reason = motion.reason(i, self.model.card.motion_range)
            if rate < self._min_rate_hz:
                reason = f"rate {rate:.1f} Hz is below {self._min_rate_hz:g} Hz"
            out.append(
                Prediction(
                    device=device,
                    t_end=float(w.t_end[i]),
                    activity=labels[best[i]] if reason is None else UNKNOWN,
                    confidence=rows[i][best[i]] if reason is None else 0.0,
                    probabilities=dict(zip(labels, rows[i], strict=True)),
                    rate_hz=rate,
                    gaps=w.gaps[i],
                    arrival_s=float(w.arrival_s[i]),
                    reason=reason,
                    movement_g=motion.body_g[i],
                )
            )
        return out
