"""Models behind one protocol; the only importer of torch at run time, the only one to know TorchScript."""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Protocol

import numpy as np
import torch

from hard.card import Card, find_model, read_card
from hard.imu import CHANNELS
from hard.types import F32, HardError

MAX_BATCH: Final = 128  # larger batches fall out of the cache: 128 windows are 15 % cheaper each than 512


class Model(Protocol):
    """Windows in, probabilities out; a single window is a batch of one."""

    card: Card

    def predict(self, x: F32) -> F32:
        """(N, window, 9) float32, all of `imu.CHANNELS` -> (N, labels) float32 probabilities; rows sum to 1.

        A model whose card names fewer channels takes its own and ignores the others.
        """
        ...


class TorchScriptModel:
    """A frozen TorchScript module. Owner: one thread."""

    def __init__(self, card: Card, weights: bytes) -> None:
        self.card = card
        chosen = columns(card.channels)
        self._columns = chosen if len(chosen) < len(CHANNELS) else None
        torch.set_num_threads(1)
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # torch.jit is deprecated upstream; this module alone depends on it
            module = torch.jit.load(io.BytesIO(weights), map_location="cpu").eval()  # type: ignore[no-untyped-call]
            self._module = torch.jit.freeze(module)

    def warm_up(self) -> None:
        """Run every batch size once: oneDNN prepares its kernels per shape, 1-20 ms each."""
        size = MAX_BATCH
        while size:
            for _ in range(2):
                self.predict(np.zeros((size, self.card.windowing.window, len(CHANNELS)), np.float32))
            size //= 2

    def predict(self, x: F32) -> F32:
        if self._columns is not None:
            x = np.take(x, self._columns, axis=2)  # (N, window, len(card.channels))
        return np.concatenate([self._forward(x[i : i + MAX_BATCH]) for i in range(0, len(x), MAX_BATCH)])

    def _forward(self, x: F32) -> F32:
        n = len(x)
        size = _padded(n)
        if size != n:
            x = np.concatenate([x, np.zeros((size - n, *x.shape[1:]), np.float32)])
        with torch.inference_mode():
            out: F32 = self._module(torch.from_numpy(x)).numpy()
        return out[:n]


def columns(channels: Sequence[str]) -> list[int]:
    """Where these channels stand in `imu.CHANNELS`; raises HardError for others, repeats or another order."""
    unknown = [name for name in channels if name not in CHANNELS]
    if unknown:
        raise HardError(f"channels: unknown {', '.join(unknown)}; there is: {', '.join(CHANNELS)}")
    chosen = [CHANNELS.index(name) for name in channels]
    if not chosen or chosen != sorted(set(chosen)):
        raise HardError(f"channels: {list(channels)}; expected some of {list(CHANNELS)}, in this order")
    return chosen


def _padded(n: int) -> int:
    """A batch is filled up to one of 27 sizes, so that kernels are prepared once (see warm_up)."""
    step = 4 if n <= 64 else 8
    return 1 << (n - 1).bit_length() if n <= 8 else -(-n // step) * step


def load_model(name: str) -> TorchScriptModel:
    """Load a model by name or folder; refuses a wrong sha256, format, channel or label count."""
    folder = find_model(name)
    card = read_card(folder)
    if card.format != "torchscript":
        raise HardError(f"{folder}/card.yaml: format {card.format!r}; expected torchscript")
    try:
        columns(card.channels)
    except HardError as e:
        raise HardError(f"{folder}/card.yaml: {e}") from None
    weights = _read_weights(folder / "model.pt", card.sha256)
    try:
        model = TorchScriptModel(card, weights)
        probe = model.predict(np.zeros((1, card.windowing.window, len(CHANNELS)), np.float32))
    except RuntimeError as e:
        raise HardError(f"{folder}/model.pt: does not run: {str(e).strip().splitlines()[-1]}") from None
    if probe.shape != (1, len(card.labels)):
        raise HardError(
            f"{folder}/model.pt: {probe.shape[-1]} outputs, but the card has {len(card.labels)} labels"
        )
    return model


def _read_weights(path: Path, sha256: str) -> bytes:
    try:
        weights = path.read_bytes()
    except OSError as e:
        raise HardError(f"{path}: {e.strerror}; reinstall, or train it with tools/train_sensor.py") from None
    found = hashlib.sha256(weights).hexdigest()
    if found != sha256:
        raise HardError(
            f"{path}: sha256 {found[:12]}..., but the card says {sha256[:12]}...; the file is damaged or not "
            "this card's: reinstall, or export it again"
        )
    return weights
