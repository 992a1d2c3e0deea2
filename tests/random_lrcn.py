"""A video model with random weights, and its folder: what the live side needs of a model, in a second."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
import yaml
from torch import Tensor, nn

LABELS = ["bend", "boxing", "handclapping", "jumping_jack", "wave_one_hand", "wave_two_hands", "other"]


class RandomLrcn(nn.Module):
    """encode (N, 64, 64, 3) uint8 -> (N, 8); classify (B, 20, 8) -> (B, labels)."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.look = nn.Conv2d(3, 8, 8, stride=8)
        self.lstm = nn.LSTM(8, 16, batch_first=True)
        self.head = nn.Linear(16, len(LABELS))

    @torch.jit.export
    def encode(self, frames: Tensor) -> Tensor:
        x = frames.permute(0, 3, 1, 2).float() / 255.0
        return torch.relu(self.look(x)).mean(dim=(2, 3))

    @torch.jit.export
    def classify(self, embeddings: Tensor) -> Tensor:
        out, _ = self.lstm(embeddings)
        return torch.softmax(5.0 * self.head(out[:, -1]), dim=1)

    def forward(self, clips: Tensor) -> Tensor:
        """(B, 20, 64, 64, 3) -> (B, labels)."""
        b, t = clips.shape[:2]
        return self.classify(self.encode(clips.flatten(0, 1)).reshape(b, t, -1))


def write_model(folder: Path) -> Path:
    """A model folder `random-lrcn` below `folder`."""
    import warnings

    home = folder / "random-lrcn"
    home.mkdir(parents=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated
        torch.jit.script(RandomLrcn().eval()).save(str(home / "model.pt"))
    card = {
        "kind": "video",
        "name": "random-lrcn",
        "summary": "random weights",
        "labels": LABELS,
        "sha256": hashlib.sha256((home / "model.pt").read_bytes()).hexdigest(),
        "parameters": 1,
        "input": "(N, 20, 64, 64, 3) uint8",
        "output": "(N, 7) probabilities",
        "training": {},
        "figures": [],
        "intended_use": "tests",
        "limitations": [],
        "licence": "MIT",
        "clip": {"frames": 20, "rate_hz": 10.0, "size": 64},
    }
    (home / "card.yaml").write_text(yaml.safe_dump(card))
    return home
