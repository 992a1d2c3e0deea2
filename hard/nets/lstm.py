"""Convolutions and an LSTM over one window; every normalisation lives inside, so raw features go in."""

# No `from __future__ import annotations`: TorchScript cannot read a class's annotations as text.
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

COMPAND_SCALE: Final = 0.005
"""g and rad/s: about the tremor of a body that sits or stands. Where walking alone sets the scale, the two
postures look the same: the same kind of network without companding stops at 92.4 % (UCI HAR test)."""


def asinh(z: Tensor) -> Tensor:
    """At half the cost of torch.asinh."""
    return torch.sign(z) * torch.log(z.abs() + torch.sqrt(z * z + 1.0))


class Lstm(nn.Module):
    """Windows (N, T, channels) -> logits (N, labels).

    channels: 9, body acc [g], gyro [rad/s] and total acc [g]; 6 without the gyroscope, in the same order.
    Twice the steps, in two layers of LSTM, took twice the time and were hardly better: 98.81 against 98.70 %
    of the official windows of people left out, 98.74 and 98.73 % of windows anywhere, 98.73 and 98.68 % of
    streams that have just started (tools/train_sensor.py --folds 5).
    """

    mean: Tensor
    std: Tensor
    statistics_mean: Tensor
    statistics_std: Tensor

    def __init__(
        self, labels: int, channels: int = 9, width: int = 64, hidden: int = 64, dropout: float = 0.3
    ) -> None:
        """`width` of the second convolution; the first has half of it."""
        super().__init__()
        expanded = 2 * channels - 3  # and all but total acceleration companded
        statistics = channels + 3  # log standard deviation of the channels, and the direction of gravity
        self.compand_scale = COMPAND_SCALE
        self.register_buffer("mean", torch.zeros(expanded))
        self.register_buffer("std", torch.ones(expanded))
        self.register_buffer("statistics_mean", torch.zeros(statistics))
        self.register_buffer("statistics_std", torch.ones(statistics))
        self.conv1 = nn.Conv1d(expanded, width // 2, 8, stride=4, padding=2)
        self.conv2 = nn.Conv1d(width // 2, width, 5, padding=2)
        self.lstm = nn.LSTM(width, hidden, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(2 * hidden + statistics, labels)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.dropout(self.describe(x)))
        return logits

    def describe(self, x: Tensor) -> Tensor:
        """What the LSTM makes of the window, its mean and its maximum over time, and the statistics."""
        y = ((self.expand(x) - self.mean) / self.std).transpose(1, 2)  # (N, expanded, T)
        y = y.to(self.conv1.weight.dtype)  # see engine.precision
        y = F.relu(self.conv2(F.relu(self.conv1(y))))  # (N, width, T/4)
        y = torch.maximum(y[:, :, 0::2], y[:, :, 1::2]).transpose(1, 2)  # (N, T/8, width)
        y = self.lstm(y)[0].to(x.dtype)  # (N, T/8, hidden)
        s = (self.statistics(x) - self.statistics_mean) / self.statistics_std
        return torch.cat([y.mean(dim=1), y.amax(dim=1), s], dim=1)

    def expand(self, x: Tensor) -> Tensor:
        """The channels, and all but total acceleration companded: (N, T, expanded)."""
        return torch.cat([x, asinh(x[:, :, :-3] / self.compand_scale) / 3.0], dim=2)

    def statistics(self, x: Tensor) -> Tensor:
        """What a window's shape does not show: the size of its motion, and which way is up."""
        moved = x - x.mean(dim=1, keepdim=True)
        spread = torch.log(torch.sqrt((moved * moved).sum(dim=1) / (x.shape[1] - 1)) + 1e-4)
        return torch.cat([spread, F.normalize(x[:, :, -3:].mean(dim=1), dim=1)], dim=1)

    def fit_scales(self, x: Tensor) -> None:
        """Set the normalising constants from training windows (N, T, channels)."""
        channels, statistics = self.expand(x), self.statistics(x)
        self.mean.copy_(channels.mean(dim=(0, 1)))
        self.std.copy_(channels.std(dim=(0, 1)))
        self.statistics_mean.copy_(statistics.mean(dim=0))
        self.statistics_std.copy_(statistics.std(dim=0))
