"""The published ConvLSTM: an LSTM whose state is a picture, four times over."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FILTERS: Final = (4, 8, 14, 16)
DROPOUT: Final = 0.2


class ConvLstmCell(nn.Module):
    """Keras' ConvLSTM2D, returning every step: (N, T, C, H, W) -> (N, T, filters, H - 2, W - 2).

    Gates by hard sigmoid, input convolved without padding, state with, one bias a gate; recurrent dropout
    masks the state alike at every step. After Shi et al. 2015 (arXiv 1506.04214), without peepholes.
    """

    def __init__(self, channels: int, filters: int) -> None:
        super().__init__()
        self.filters = filters
        self.input = nn.Conv2d(channels, 4 * filters, 3)
        self.state = nn.Conv2d(filters, 4 * filters, 3, padding="same", bias=False)
        nn.init.xavier_uniform_(self.input.weight)
        nn.init.orthogonal_(self.state.weight)
        with torch.no_grad():
            assert self.input.bias is not None
            self.input.bias.zero_()[filters : 2 * filters] = 1.0  # the forget gate's

    def forward(self, x: Tensor) -> Tensor:
        n, t = x.shape[:2]
        seen = self.input(x.flatten(0, 1))
        seen = seen.view(n, t, *seen.shape[1:])  # (N, T, 4 filters, H - 2, W - 2)
        h = torch.zeros_like(seen[:, 0, : self.filters])
        c = h
        mask = F.dropout(torch.ones_like(h), DROPOUT, self.training)
        steps = []
        for k in range(t):
            i, f, g, o = (seen[:, k] + self.state(h * mask)).chunk(4, dim=1)
            c = hard_sigmoid(f) * c + hard_sigmoid(i) * torch.tanh(g)
            h = hard_sigmoid(o) * torch.tanh(c)
            steps.append(h)
        return torch.stack(steps, dim=1)


def hard_sigmoid(x: Tensor) -> Tensor:
    """Keras' own: a fifth a unit, where torch's rises a sixth."""
    return torch.clamp(0.2 * x + 0.5, 0.0, 1.0)


class ConvLstm(nn.Module):
    """Clips (N, 20, 3, 64, 64) in [0, 1] -> logits (N, labels)."""

    def __init__(self, labels: int) -> None:
        super().__init__()
        channels = (3, *FILTERS[:-1])
        self.cells = nn.ModuleList(ConvLstmCell(c, f) for c, f in zip(channels, FILTERS, strict=True))
        self.head = nn.Linear(20 * FILTERS[-1] * 3 * 3, labels)

    def forward(self, clips: Tensor) -> Tensor:
        x = clips
        for k, cell in enumerate(self.cells):
            x = cell(x)
            n, t = x.shape[:2]
            x = F.max_pool2d(x.flatten(0, 1), 2, ceil_mode=True)
            x = x.view(n, t, *x.shape[1:])
            if k < len(self.cells) - 1:
                x = F.dropout(x, DROPOUT, self.training)
        logits: Tensor = self.head(x.flatten(1))
        return logits
