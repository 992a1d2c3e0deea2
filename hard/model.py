"""Models behind one protocol; the only importer of torch at run time, the only one to know TorchScript."""

from __future__ import annotations

import hashlib
import io
import logging
import mmap
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Protocol

import numpy as np
import torch

from hard.card import Card, SensorCard, VideoCard, find_model, read_card
from hard.imu import CHANNELS
from hard.types import F32, U8, HardError

log = logging.getLogger(__name__)

MAX_BATCH: Final = 128  # larger batches fall out of the cache: 128 windows are 15 % cheaper each than 512


class Model(Protocol):
    """Windows in, probabilities out; a single window is a batch of one."""

    card: SensorCard

    def predict(self, x: F32) -> F32:
        """(N, window, 9) float32, all of `imu.CHANNELS` -> (N, labels) float32 probabilities; rows sum to 1.

        A model whose card names fewer channels takes its own and ignores the others.
        """
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


class TorchScriptModel:
    """A frozen TorchScript module. Owner: one thread."""

    def __init__(self, card: SensorCard, weights: bytes) -> None:
        self.card = card
        chosen = columns(card.channels)
        self._columns = chosen if len(chosen) < len(CHANNELS) else None
        self._module = _frozen(weights, [])

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


class TorchScriptVideoModel:
    """A frozen TorchScript module with methods `encode` and `classify`. Owner: one thread."""

    def __init__(self, card: VideoCard, weights: bytes) -> None:
        self.card = card
        self._module = _frozen(weights, ["encode", "classify"])

    def warm_up(self) -> None:
        """Run once or twice what the daemon will run: one frame, then one clip."""
        clip = self.card.clip
        for _ in range(3):
            embedding = self.encode(np.zeros((1, clip.size, clip.size, 3), np.uint8))
            self.classify(np.repeat(embedding[None], clip.frames, axis=1))

    def encode(self, frames: U8) -> F32:
        with torch.inference_mode():
            out: F32 = self._module.encode(torch.from_numpy(frames)).numpy()
        return out

    def classify(self, embeddings: F32) -> F32:
        with torch.inference_mode():
            out: F32 = self._module.classify(torch.from_numpy(embeddings)).numpy()
        return out


def _frozen(weights: bytes, methods: list[str]) -> torch.jit.ScriptModule:
    """A module from its file, its constants folded in; with no methods named, `forward` alone is kept."""
    torch.set_num_threads(1)
    if not may_write_code():
        torch.backends.nnpack.set_flags(False)  # type: ignore[no-untyped-call]
        torch.backends.mkldnn.set_flags(False)  # type: ignore[no-untyped-call]
        log.info("oneDNN is off, since this process may not write code; windows cost 2 to 3 times as much")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated upstream; this module alone depends on it
        module = torch.jit.load(io.BytesIO(weights), map_location="cpu").eval()  # type: ignore[no-untyped-call]
        frozen: torch.jit.ScriptModule = torch.jit.freeze(module, preserved_attrs=methods or None)
    return frozen


def may_write_code() -> bool:
    """False under systemd's MemoryDenyWriteExecute=, where oneDNN could not create its kernels."""
    try:
        mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC).close()
    except OSError:
        return False
    return True


def load_model(name: str) -> TorchScriptModel:
    """Load a sensor model by name or folder; refuses a wrong kind, sha256, format, channel or label count."""
    folder = find_model(name)
    card = read_card(folder)
    if not isinstance(card, SensorCard):
        raise HardError(f"{folder}: a model of video, not of motion; `hard models` lists which is which")
    _check_format(folder, card)
    try:
        columns(card.channels)
    except HardError as e:
        raise HardError(f"{folder}/card.yaml: {e}") from None
    weights = _read_weights(folder / "model.pt", card.sha256)
    try:
        model = TorchScriptModel(card, weights)
        probe = model.predict(np.zeros((1, card.windowing.window, len(CHANNELS)), np.float32))
    except RuntimeError as e:
        raise HardError(f"{folder}/model.pt: does not run: {_last_line(e)}") from None
    _check_outputs(folder, card, probe)
    return model


def load_video_model(name: str) -> TorchScriptVideoModel:
    """Load a video model by name or folder; refuses a wrong kind, sha256, format or label count."""
    folder = find_model(name)
    card = read_card(folder)
    if not isinstance(card, VideoCard):
        raise HardError(f"{folder}: a model of motion, not of video; `hard models` lists which is which")
    _check_format(folder, card)
    weights = _read_weights(folder / "model.pt", card.sha256)
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
