"""Two published networks of UCI HAR to compare with: stacked LSTM and residual bidirectional LSTM."""

# No `from __future__ import annotations`: TorchScript cannot read a class's annotations as text.
import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Standardised(nn.Module):
    """Channels brought to mean 0 and standard deviation 1, as the published windows were."""

    mean: Tensor
    std: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("std", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std

    def fit(self, x: Tensor) -> None:
        """Set the constants from training windows (N, T, channels)."""
        self.mean.copy_(x.mean(dim=(0, 1)))
        self.std.copy_(x.std(dim=(0, 1)))


class StackedLstm(nn.Module):
    """Windows (N, T, channels) -> logits (N, labels): a ReLU layer, two LSTM layers, the last step's output.

    Method: G. Chevalier, LSTMs for Human Activity Recognition (2016), github.com/guillaume-chevalier/
    LSTM-Human-Activity-Recognition; 91.65 % of the UCI HAR test windows.
    """

    def __init__(self, labels: int, channels: int = 9, hidden: int = 32) -> None:
        super().__init__()
        self.scale = Standardised(channels)
        self.enter = nn.Linear(channels, hidden)
        self.lstm = nn.LSTM(hidden, hidden, num_layers=2, batch_first=True)
        self.head = nn.Linear(hidden, labels)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.lstm(F.relu(self.enter(self.scale(x))))  # (N, T, hidden)
        logits: Tensor = self.head(y[:, -1])
        return logits

    def fit_scales(self, x: Tensor) -> None:
        self.scale.fit(x)


class BidirectionalCell(nn.Module):
    """(N, T, inputs) -> (N, T, hidden): a ReLU layer and an LSTM of half the width in each direction."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.enter_forward = nn.Linear(inputs, hidden // 2)
        self.enter_backward = nn.Linear(inputs, hidden // 2)
        self.forward_lstm = nn.LSTM(hidden // 2, hidden // 2, batch_first=True)
        self.backward_lstm = nn.LSTM(hidden // 2, hidden // 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        ahead, _ = self.forward_lstm(F.relu(self.enter_forward(x)))
        back, _ = self.backward_lstm(F.relu(self.enter_backward(x)).flip(1))
        return torch.cat([ahead, back.flip(1)], dim=2)


class ResidualLayer(nn.Module):
    """(N, T, inputs) -> (N, T, hidden): the sum of some cells' outputs, normalised."""

    def __init__(self, inputs: int, hidden: int, cells: int) -> None:
        super().__init__()
        self.cells = nn.ModuleList(BidirectionalCell(inputs, hidden) for _ in range(cells))
        self.dropout = nn.Dropout(0.15)
        self.norm = nn.BatchNorm1d(hidden)

    def forward(self, x: Tensor) -> Tensor:
        y = self.dropout(torch.stack([cell(x) for cell in self.cells]).sum(dim=0))
        out: Tensor = self.norm(y.transpose(1, 2)).transpose(1, 2)
        return out


class ResidualBiLstm(nn.Module):
    """Windows (N, T, channels) -> logits (N, labels): 3 layers, each the sum of 3 cells.

    Method: Y. Zhao, R. Yang, G. Chevalier, M. Gong: Deep Residual Bidir-LSTM for Human Activity Recognition
    Using Wearable Sensors (2017), github.com/guillaume-chevalier/HAR-stacked-residual-bidir-LSTMs; 94 % of
    the UCI HAR test windows. There a layer is normalised by the moments of the batch at hand, which would
    let windows that are classified together change each other's labels; here by running averages.
    """

    def __init__(
        self, labels: int, channels: int = 9, hidden: int = 28, layers: int = 3, cells: int = 3
    ) -> None:
        super().__init__()
        self.scale = Standardised(channels)
        self.layers = nn.ModuleList(
            ResidualLayer(hidden if i else channels, hidden, cells) for i in range(layers)
        )
        self.dropout = nn.Dropout(0.15)
        self.head = nn.Linear(hidden, labels)

    def forward(self, x: Tensor) -> Tensor:
        y = self.dropout(self.scale(x))
        for layer in self.layers:
            y = layer(y)  # (N, T, hidden)
        logits: Tensor = self.head(self.dropout(y[:, -1]))
        return logits

    def fit_scales(self, x: Tensor) -> None:
        self.scale.fit(x)
