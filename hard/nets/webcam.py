"""An LRCN that sees motion and not the room: it never looks at what stays the same throughout a clip."""

# No `from __future__ import annotations`: TorchScript cannot read a class's annotations as text.
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FAINT: Final = 0.05  # motion far below it, such as a still camera's noise, stays small


class WebcamLrcn(nn.Module):
    """Clips (N, T, 64, 64, 3) uint8 RGB -> logits (N, labels), in two steps.

    `encode` makes of each frame a map of 16 x 16 cells; `logits` takes from every map the clip's mean, adds
    the change since the frame before, and runs convolutions and an LSTM over what is left.
    """

    def __init__(
        self, labels: int, depth: int = 12, width: int = 32, hidden: int = 64, dropout: float = 0.3
    ) -> None:
        super().__init__()
        self.depth = depth
        self.faint = FAINT
        self.conv1 = nn.Conv2d(3, depth, 5, stride=2, padding=2, bias=False)
        self.norm1 = nn.BatchNorm2d(depth)
        self.conv2 = nn.Conv2d(depth, depth, 3, stride=2, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(depth)
        self.conv3 = nn.Conv2d(2 * depth, width, 3, padding=1, stride=2, bias=False)
        self.norm3 = nn.BatchNorm2d(width)
        self.conv4 = nn.Conv2d(width, 48, 3, padding=1, bias=False)
        self.norm4 = nn.BatchNorm2d(48)
        self.conv5 = nn.Conv2d(48, 64, 3, padding=1, bias=False)
        self.norm5 = nn.BatchNorm2d(64)
        self.lstm = nn.LSTM(128, hidden, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(2 * hidden, labels)

    def forward(self, clips: Tensor) -> Tensor:
        n, t = clips.shape[:2]
        embeddings = self.encode(clips.flatten(0, 1))
        return self.logits(embeddings.view(n, t, -1))

    @torch.jit.export
    def encode(self, frames: Tensor) -> Tensor:
        """(N, 64, 64, 3) uint8 RGB -> (N, E): each frame's map, flat."""
        x = frames.permute(0, 3, 1, 2).float() / 127.5 - 1.0
        x = F.relu(self.norm1(self.conv1(x)))  # (N, depth, 32, 32)
        x = F.relu(self.norm2(self.conv2(x)))  # (N, depth, 16, 16)
        return x.permute(0, 2, 3, 1).flatten(1)

    @torch.jit.export
    def logits(self, embeddings: Tensor) -> Tensor:
        """(N, T, E) -> (N, labels)."""
        n, t, _ = embeddings.shape
        change = embeddings[:, 1:] - embeddings[:, :-1]
        change = torch.cat([change[:, :1], change], dim=1)
        moving = embeddings - embeddings.mean(dim=1, keepdim=True)
        size = (moving.square().mean(dim=(1, 2), keepdim=True) + self.faint * self.faint).sqrt()
        moving, change = moving / size, change / size  # small or dim people count as much
        maps = [y.view(n * t, 16, 16, self.depth) for y in (moving, change)]
        x = torch.cat(maps, dim=3).permute(0, 3, 1, 2)  # (NT, 2 depth, 16, 16)
        x = F.relu(self.norm3(self.conv3(x)))  # (NT, width, 8, 8)
        x = F.relu(self.norm4(self.conv4(x)))
        x = F.max_pool2d(x, 2)  # (NT, 48, 4, 4)
        x = F.relu(self.norm5(self.conv5(x)))  # (NT, 64, 4, 4)
        x = torch.cat([x.amax(dim=(2, 3)), x.mean(dim=(2, 3))], dim=1).view(n, t, 128)
        y, _ = self.lstm(x)  # (N, T, hidden)
        logits: Tensor = self.head(self.dropout(torch.cat([y.mean(dim=1), y.amax(dim=1)], dim=1)))
        return logits

    @torch.jit.export
    def classify(self, embeddings: Tensor) -> Tensor:
        """(N, T, E) -> (N, labels) probabilities."""
        return torch.softmax(self.logits(embeddings), dim=1)
