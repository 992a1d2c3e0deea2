"""The published CNN-LSTM for fifteen everyday activities: two convolutions on each frame, a wide LSTM."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class CnnLstm15(nn.Module):
    """Clips (N, 10, 3, 128, 128) in [0, 1] -> logits (N, labels); after CNN_LSTM-HAR."""

    def __init__(self, labels: int = 15) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, 3)
        self.conv2 = nn.Conv2d(32, 64, 3)
        self.lstm = nn.LSTM(64 * 30 * 30, 64, batch_first=True)
        self.dropout = nn.Dropout(0.5)
        self.dense = nn.Linear(64, 128)
        self.head = nn.Linear(128, labels)

    def forward(self, clips: Tensor) -> Tensor:
        n, t = clips.shape[:2]
        x = F.max_pool2d(F.relu(self.conv1(clips.flatten(0, 1))), 2)  # (NT, 32, 63, 63)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)  # (NT, 64, 30, 30)
        _, (last, _) = self.lstm(x.reshape(n, t, -1))
        logits: Tensor = self.head(F.relu(self.dense(self.dropout(last[-1]))))
        return logits
