"""Predictions -> labels: each device's activity over time."""

from __future__ import annotations

import msgspec

from hard.types import Label, Prediction


class _Run(msgspec.Struct):
    activity: str
    since_s: float
    seq: int


class History:
    """Since when each device does what it does. Owner: one thread."""

    def __init__(self, model: str, model_hash: str) -> None:
        self._model = model
        self._hash = model_hash
        self._runs: dict[str, _Run] = {}

    def label(self, prediction: Prediction, utc_s: float, now_s: float) -> Label:
        """The label for a prediction made now: `utc_s` epoch seconds, `now_s` monotonic seconds."""
        latency_s = now_s - prediction.arrival_s
        window_end_s = utc_s - (now_s - prediction.end_s)
        run = self._runs.get(prediction.device)
        if run is None:
            run = self._runs[prediction.device] = _Run(prediction.activity, window_end_s, 0)
        elif run.activity != prediction.activity:
            run.activity, run.since_s = prediction.activity, window_end_s
        run.seq += 1
        return Label(
            prediction, run.since_s, window_end_s, run.seq, self._model, self._hash, latency_s * 1000.0
        )

    def forget(self, devices: list[str]) -> None:
        for device in devices:
            self._runs.pop(device, None)
