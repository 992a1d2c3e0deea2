"""Models behind two protocols, and how a folder becomes one; each engine is imported when it is asked for."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal, Protocol, TypeAlias

import numpy as np

from hard.card import Card, SensorCard, VideoCard, find_model, read_card
from hard.imu import CHANNELS
from hard.types import F32, U8, HardError

Runtime: TypeAlias = Literal["torch", "onnx"]
Precision: TypeAlias = Literal["auto", "float32", "bfloat16"]
MAX_BATCH: Final = 80
"""Windows that engines take at once; more fall out of the cache. Of 154 windows, each costs lstm-waist 30 us
in three batches or two, 42 in one, 44 in 128 and 26."""


class Model(Protocol):
    """Windows in, probabilities out; a single window is a batch of one."""

    card: SensorCard

    def predict(self, x: F32) -> F32:
        """(N, window, 9) float32, all of `imu.CHANNELS` -> (N, labels) float32 probabilities; rows sum to 1.

        Each window by itself. A model whose card names fewer channels takes its own and ignores the others.
        """
        ...

    def step(self, x: F32, state: F32) -> tuple[F32, F32]:
        """The same of windows of different devices, knowing what the model kept of each one's window before.

        state: (N, card.state) float32, zeros where there was none. Returns the probabilities, and the states
        for the next windows.
        """
        ...

    def warm_up(self, batch: int = MAX_BATCH) -> None:
        """Prepare whatever the first windows, up to `batch` at once, would otherwise wait for."""
        ...


class VideoModel(Protocol):
    """Frames in, probabilities out, in two steps, so that a frame is looked at once."""

    card: VideoCard

    def encode(self, frames: U8) -> F32:
        """(N, size, size, 3) uint8 RGB frames -> (N, E) float32 embeddings, each of its own frame alone."""
        ...

    def classify(self, embeddings: F32) -> F32:
        """(N, frames, E) float32, clips in the order of time -> (N, labels) float32; rows sum to 1."""
        ...

    def warm_up(self) -> None:
        """Prepare whatever the first frames would otherwise wait for."""
        ...


def columns(channels: Sequence[str]) -> list[int]:
    """Where these channels stand in `imu.CHANNELS`; raises HardError for others, repeats or another order."""
    unknown = [name for name in channels if name not in CHANNELS]
    if unknown:
        raise HardError(f"channels: unknown {', '.join(unknown)}; there is: {', '.join(CHANNELS)}")
    chosen = [CHANNELS.index(name) for name in channels]
    if not chosen or chosen != sorted(set(chosen)):
        raise HardError(f"channels: {list(channels)}; expected some of {list(CHANNELS)}, in this order")
    return chosen


def in_batches(n: int) -> list[slice]:
    """n windows in as few parts of at most MAX_BATCH as can be, all of about the same size."""
    parts = -(-n // MAX_BATCH)
    bounds = [i * n // max(parts, 1) for i in range(parts + 1)]
    return [slice(first, end) for first, end in itertools.pairwise(bounds)]


def load_model(name: str, runtime: Runtime = "torch", precision: Precision = "auto") -> Model:
    """Load a sensor model by name or folder; refuses a wrong kind, sha256, format, channel or label count.

    `onnx` needs the package onnxruntime and a model.onnx in the folder; it does without torch. `precision` is
    of torch's convolutions and LSTMs: `auto` is bfloat16 where the CPU computes in it and the model can.
    """
    folder = find_model(name)
    card = read_card(folder)
    if not isinstance(card, SensorCard):
        raise HardError(f"{folder}: a model of video, not of motion; `hard models` lists which is which")
    _check_format(folder, card)
    try:
        columns(card.channels)
    except HardError as e:
        raise HardError(f"{folder}/card.yaml: {e}") from None
    file = folder / ("model.onnx" if runtime == "onnx" else "model.pt")
    try:
        model = _onnx(file, card) if runtime == "onnx" else _torchscript(file, card, precision)
        still = np.zeros((1, card.windowing.window, len(CHANNELS)), np.float32)
        probe, state = model.step(still, np.zeros((1, card.state), np.float32))
    except RuntimeError as e:
        raise HardError(f"{file}: does not run: {_last_line(e)}") from None
    _check_outputs(folder, card, probe)
    if state.shape != (1, card.state):
        raise HardError(f"{file}: a state of {state.shape[-1]} numbers, but the card says {card.state}")
    return model


def _torchscript(file: Path, card: SensorCard, precision: Precision) -> Model:
    from hard.torchscript import TorchScriptModel

    return TorchScriptModel(card, _read_weights(file, card.sha256), precision)


def _onnx(file: Path, card: SensorCard) -> Model:
    if card.onnx_sha256 is None:
        raise HardError(f"{file.parent}: has no model.onnx; tools/export_onnx.py writes one")
    try:
        from hard.onnx import OnnxModel
    except ModuleNotFoundError as e:
        raise HardError(f"engine.runtime onnx needs {e.name}; pip install 'hard[onnx]'") from None
    return OnnxModel(card, _read_weights(file, card.onnx_sha256))


def load_video_model(name: str) -> VideoModel:
    """Load a video model by name or folder; refuses a wrong kind, sha256, format or label count."""
    folder = find_model(name)
    card = read_card(folder)
    if not isinstance(card, VideoCard):
        raise HardError(f"{folder}: a model of motion, not of video; `hard models` lists which is which")
    _check_format(folder, card)
    weights = _read_weights(folder / "model.pt", card.sha256)
    from hard.torchscript import TorchScriptVideoModel

    try:
        model = TorchScriptVideoModel(card, weights)
        frames = np.zeros((card.clip.frames, card.clip.size, card.clip.size, 3), np.uint8)
        probe = model.classify(model.encode(frames)[None])
    except (RuntimeError, AttributeError) as e:
        raise HardError(f"{folder}/model.pt: does not run: {_last_line(e)}") from None
    _check_outputs(folder, card, probe)
    return model


def _check_format(folder: Path, card: Card) -> None:
    if card.format != "torchscript":
        raise HardError(f"{folder}/card.yaml: format {card.format!r}; expected torchscript")


def _check_outputs(folder: Path, card: Card, probe: F32) -> None:
    if probe.shape != (1, len(card.labels)):
        raise HardError(
            f"{folder}/model.pt: {probe.shape[-1]} outputs, but the card has {len(card.labels)} labels"
        )


def _last_line(e: Exception) -> str:
    return str(e).strip().splitlines()[-1]


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
