"""TorchScript modules as models: the only importer of torch at run time, the only one to know TorchScript."""

from __future__ import annotations

import io
import logging
import mmap
import warnings
from pathlib import Path

import numpy as np
import torch

from hard.card import SensorCard, VideoCard
from hard.imu import CHANNELS
from hard.model import MAX_BATCH, Precision, columns, in_batches
from hard.types import F32, U8, HardError

log = logging.getLogger(__name__)


class TorchScriptModel:
    """A frozen TorchScript module. Owner: one thread."""

    def __init__(self, card: SensorCard, weights: bytes, precision: Precision = "auto") -> None:
        """Raises RuntimeError where the module does not run, HardError where not in bfloat16."""
        self.card = card
        chosen = columns(card.channels)
        self._columns = chosen if len(chosen) < len(CHANNELS) else None
        self.precision = "float32"
        if precision == "bfloat16" or (precision == "auto" and computes_bfloat16()):
            self._module = _frozen(weights, [], bfloat16=True)
            try:
                window = np.zeros((1, card.windowing.window, len(card.channels)), np.float32)
                self._forward(window, np.zeros((1, card.state), np.float32))
                self.precision = "bfloat16"
            except RuntimeError:  # a network that does not look at its weights' type; see nets/lstm.py
                if precision == "bfloat16":
                    raise HardError(
                        f"{card.name}: does not run in bfloat16; set engine.precision to auto or float32"
                    ) from None
        if self.precision == "float32":
            self._module = _frozen(weights, [])

    def warm_up(self, batch: int = MAX_BATCH) -> None:
        """Run batches of this size, half of it, and so on: oneDNN has kernels per shape, 1-20 ms each."""
        size = min(batch, MAX_BATCH)
        while size:
            for _ in range(2):
                self.predict(np.zeros((size, self.card.windowing.window, len(CHANNELS)), np.float32))
            size //= 2

    def predict(self, x: F32) -> F32:
        return self.step(x, np.zeros((len(x), self.card.state), np.float32))[0]

    def step(self, x: F32, state: F32) -> tuple[F32, F32]:
        if self._columns is not None:
            x = np.take(x, self._columns, axis=2)  # (N, window, len(card.channels))
        out = [self._forward(x[part], state[part]) for part in in_batches(len(x))]
        return np.concatenate([p for p, _ in out]), np.concatenate([s for _, s in out])

    def _forward(self, x: F32, state: F32) -> tuple[F32, F32]:
        n = len(x)
        size = _padded(n)
        if size != n:
            x, state = (
                np.concatenate([part, np.zeros((size - n, *part.shape[1:]), np.float32)])
                for part in (x, state)
            )
        with torch.inference_mode():
            if self.card.state == 0:
                return self._module(torch.from_numpy(x)).numpy()[:n], state[:n]
            out, after = self._module(torch.from_numpy(x), torch.from_numpy(state))
            return out.numpy()[:n], after.numpy()[:n]


def _padded(n: int) -> int:
    """A batch is filled up to one of 20 sizes, so that kernels are prepared once (see warm_up)."""
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


def _frozen(weights: bytes, methods: list[str], bfloat16: bool = False) -> torch.jit.ScriptModule:
    """A module from its file, its constants folded in; with no methods named, `forward` alone is kept.

    bfloat16: of convolutions and LSTMs. Sums, statistics and probabilities stay float32: on the windows of
    HAPT's training people no probability of lstm-waist moves by more than 0.003.
    """
    torch.set_num_threads(1)
    if not may_write_code():
        torch.backends.nnpack.set_flags(False)  # type: ignore[no-untyped-call]
        torch.backends.mkldnn.set_flags(False)  # type: ignore[no-untyped-call]
        log.info("oneDNN is off, since this process may not write code; windows cost up to twice as much")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated upstream; this module alone depends on it
        module = torch.jit.load(io.BytesIO(weights), map_location="cpu").eval()  # type: ignore[no-untyped-call]
        if bfloat16:
            for part in module.modules():
                if part.original_name in ("Conv1d", "LSTM"):
                    part.to(torch.bfloat16)
        frozen: torch.jit.ScriptModule = torch.jit.freeze(module, preserved_attrs=methods or None)
    return frozen


def computes_bfloat16() -> bool:
    """Whether this CPU has instructions for it (x86 alone was tried); without oneDNN they lie idle."""
    try:
        words = set(Path("/proc/cpuinfo").read_text("utf-8").split())
    except OSError:
        return False
    return bool(words & {"avx512_bf16", "amx_bf16"}) and may_write_code()


def may_write_code() -> bool:
    """False under systemd's MemoryDenyWriteExecute=, where oneDNN could not create its kernels."""
    try:
        mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC).close()
    except OSError:
        return False
    return True
