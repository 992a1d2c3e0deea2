"""The published LRCN: four convolutions on each frame, an LSTM over them."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class Lrcn(nn.Module):
    """Clips (N, 20, 3, 64, 64) in [0, 1] -> logits (N, labels).

    As in "Human Activity Recognition using CNN+LSTM", after Donahue et al. 2015 (arXiv 1411.4389).
    """

    def __init__(self, labels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding="same")
        self.conv2 = nn.Conv2d(16, 32, 3, padding="same")
        self.conv3 = nn.Conv2d(32, 64, 3, padding="same")
        self.conv4 = nn.Conv2d(64, 64, 3, padding="same")
        self.dropout = nn.Dropout(0.25)
        self.lstm = nn.LSTM(64 * 4 * 4, 32, batch_first=True)
        self.head = nn.Linear(32, labels)

    def forward(self, clips: Tensor) -> Tensor:
        n, t = clips.shape[:2]
        x = F.relu(self.conv1(clips.flatten(0, 1)))  # (NT, 16, 64, 64)
        x = self.dropout(F.max_pool2d(F.relu(self.conv2(x)), 4))  # (NT, 32, 16, 16)
        x = self.dropout(F.max_pool2d(F.relu(self.conv3(x)), 2))  # (NT, 64, 8, 8)
        x = self.dropout(F.max_pool2d(F.relu(self.conv4(x)), 2))  # (NT, 64, 4, 4)
        _, (last, _) = self.lstm(x.reshape(n, t, -1))
        logits: Tensor = self.head(last[-1])
        return logits
