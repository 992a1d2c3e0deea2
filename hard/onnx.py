"""ONNX models by ONNX Runtime: for small machines, since it does without torch."""

from __future__ import annotations

from typing import Final

import numpy as np
import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as errors

from hard.card import SensorCard
from hard.imu import CHANNELS
from hard.model import MAX_BATCH, columns, in_batches
from hard.types import F32

REFUSALS: Final = (errors.Fail, errors.InvalidArgument, errors.InvalidGraph, errors.InvalidProtobuf)


class OnnxModel:
    """An ONNX graph with input `x` and output `probabilities`, and `state` and `after` where its card has a
    state. Owner: one thread.
    """

    def __init__(self, card: SensorCard, weights: bytes) -> None:
        """Raises RuntimeError where the bytes are no graph that runs here."""
        self.card = card
        chosen = columns(card.channels)
        self._columns = chosen if len(chosen) < len(CHANNELS) else None
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors; they are raised as well
        try:
            self._session = ort.InferenceSession(weights, options, providers=["CPUExecutionProvider"])
        except REFUSALS as e:
            raise RuntimeError(str(e)) from None

    def warm_up(self, batch: int = MAX_BATCH) -> None:
        """Nothing to prepare: its kernels are compiled ahead."""

    def predict(self, x: F32) -> F32:
        return self.step(x, np.zeros((len(x), self.card.state), np.float32))[0]

    def step(self, x: F32, state: F32) -> tuple[F32, F32]:
        if self._columns is not None:
            x = np.take(x, self._columns, axis=2)  # (N, window, len(card.channels))
        out = [self._run(x[part], state[part]) for part in in_batches(len(x))]
        return np.concatenate([p for p, _ in out]), np.concatenate([s for _, s in out])

    def _run(self, x: F32, state: F32) -> tuple[F32, F32]:
        if self.card.state == 0:
            return self._session.run(None, {"x": x})[0], state
        probabilities, after = self._session.run(None, {"x": x, "state": state})
        return probabilities, after
