"""The published frame CNN: one picture at a time; a clip gets the mean of its frames' probabilities."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class FrameCnn(nn.Module):
    """Frames (N, 3, 64, 64) in [0, 1] -> logits (N, labels)."""

    def __init__(self, labels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 3)
        self.conv2 = nn.Conv2d(64, 64, 3)
        self.norm1 = nn.BatchNorm2d(64, eps=1e-3, momentum=0.01)  # Keras' own constants
        self.dense = nn.Linear(64, 256)
        self.norm2 = nn.BatchNorm1d(256, eps=1e-3, momentum=0.01)
        self.head = nn.Linear(256, labels)

    def forward(self, frames: Tensor) -> Tensor:
        x = F.relu(self.conv2(F.relu(self.conv1(frames))))  # (N, 64, 60, 60)
        x = F.max_pool2d(self.norm1(x), 2).mean(dim=(2, 3))  # (N, 64)
        x = self.norm2(F.relu(self.dense(x)))
        logits: Tensor = self.head(x)
        return logits
