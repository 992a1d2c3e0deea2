"""A small residual network for stills, where a few thousand photographs are all there is."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class Block(nn.Module):
    """Two convolutions and a way around them; after He et al. 2016 (arXiv 1603.05027)."""

    def __init__(self, channels: int, filters: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, filters, 3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(filters)
        self.conv2 = nn.Conv2d(filters, filters, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(filters)
        self.around = nn.Conv2d(channels, filters, 1, bias=False) if channels != filters else None
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        if self.stride > 1:
            x = F.avg_pool2d(x, self.stride)
        if self.around is not None:
            x = self.around(x)
        return F.relu(x + y)


class Residual(nn.Module):
    """Images (N, 3, 64, 64) in [0, 1] -> logits (N, labels)."""

    def __init__(self, labels: int, width: int = 32, dropout: float = 0.3) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 5, stride=2, padding=2, bias=False)
        self.norm = nn.BatchNorm2d(width)
        widths = (width, 2 * width, 4 * width, 8 * width)
        self.blocks = nn.Sequential(
            Block(width, widths[0], 1),
            Block(widths[0], widths[1], 2),
            Block(widths[1], widths[2], 2),
            Block(widths[2], widths[3], 2),
        )
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(widths[3], labels)

    def forward(self, images: Tensor) -> Tensor:
        x = F.relu(self.norm(self.stem(2 * images - 1)))  # (N, width, 32, 32)
        x = self.blocks(x)  # (N, 8 width, 4, 4)
        logits: Tensor = self.head(self.dropout(x.mean(dim=(2, 3))))
        return logits
