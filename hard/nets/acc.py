"""`Lstm` without a gyroscope: a linear rule over tilt and sway tells sitting from standing."""

# No `from __future__ import annotations`: TorchScript cannot read a class's annotations as text.
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F

from hard.nets.lstm import Lstm

SITTING: Final = 3
STANDING: Final = 4
SWAY: Final = 39  # numbers that `sway` gives
CLAMP: Final = 4.0  # standard deviations; laying is many more away
RIDGE: Final = 1e-3  # per window; ten times more or less changes little


class LstmAcc(Lstm):
    """Windows (N, T, 6), body and total acceleration [g] -> logits (N, 6), in the order of HAPT's labels.

    The LSTM tells the gaits, a body upright at rest, and laying; the rule splits the second. Left alone with
    acceleration, the LSTM learns the training people's tremor by heart: 93.6 %, with the rule 94.5 %
    (tools/train_sensor.py --preset lstm-acc --folds 5).
    """

    sway_mean: Tensor
    sway_std: Tensor
    rule: Tensor

    def __init__(
        self, labels: int, channels: int = 6, width: int = 64, hidden: int = 64, dropout: float = 0.3
    ) -> None:
        super().__init__(labels - 1, channels, width, hidden, dropout)  # sitting and standing are one
        self.clamp = CLAMP
        self.register_buffer("sway_mean", torch.zeros(SWAY))
        self.register_buffer("sway_std", torch.ones(SWAY))
        self.register_buffer("rule", torch.zeros(SWAY + 1))  # the last: where the numbers are average

    def forward(self, x: Tensor) -> Tensor:
        y = self.head(self.dropout(self.describe(x)))  # (N, 5)
        standing = self.scaled_sway(x) @ self.rule[:, None]  # (N, 1) log odds
        upright = y[:, 3:4]
        split = [upright + F.logsigmoid(-standing), upright + F.logsigmoid(standing)]
        return torch.cat([y[:, :3], split[0], split[1], y[:, 4:]], dim=1)

    def scaled_sway(self, x: Tensor) -> Tensor:
        """(N, SWAY + 1), the last column 1."""
        z = ((sway(x) - self.sway_mean) / self.sway_std).clamp(-self.clamp, self.clamp)
        return torch.cat([z, torch.ones_like(z[:, :1])], dim=1)

    def fit_rule(self, x: Tensor, y: Tensor) -> None:
        """Logistic regression by Newton's method; windows (N, T, 6), of which sitting and standing count."""
        upright = (y == SITTING) | (y == STANDING)
        x, standing = x[upright], (y[upright] == STANDING).float()
        s = sway(x)
        self.sway_mean.copy_(s.mean(dim=0))
        self.sway_std.copy_(s.std(dim=0))
        z = self.scaled_sway(x)
        ridge = RIDGE * len(z) * torch.eye(SWAY + 1)
        for _ in range(8):
            p = torch.sigmoid(z @ self.rule)
            curvature = (z * (p * (1 - p))[:, None]).T @ z + ridge
            self.rule += torch.linalg.solve(curvature, z.T @ (standing - p) - ridge @ self.rule)


def sway(x: Tensor) -> Tensor:
    """The direction of gravity, and per octave the size of the motion and how its axes go together.

    (N, T, 6) -> (N, SWAY). The axes are the body's: up, forward (the phone's z made level), sideways. The
    octaves are 25-12, 12-6, ..., 1.6-0.8 Hz and what is slower, by Haar's wavelet at every phase.
    """
    up = F.normalize(x[:, :, -3:].mean(dim=1), dim=1)
    z = torch.zeros_like(up)
    z[:, 2] = 1.0
    forward = F.normalize(z - up * up[:, 2:], dim=1, eps=1e-3)
    axes = torch.stack([up, forward, torch.linalg.cross(up, forward, dim=1)], dim=1)  # (N, 3, 3)
    moved = x[:, :, -3:] - x[:, :, -3:].mean(dim=1, keepdim=True)  # gravity first: sway is a thousandth of it
    slow = axes @ moved.transpose(1, 2)  # (N, 3, T)
    kept = slow.shape[2] - 31  # the samples that every octave has
    octaves = []
    for step in (1, 2, 4, 8, 16):
        before, after = slow[:, :, :-step], slow[:, :, step:]
        octaves.append((after - before)[:, :, -kept:] / 2)
        slow = (after + before) / 2
    octaves.append(slow)
    motion = torch.stack(octaves, dim=1)  # (N, 6, 3, kept)
    motion = motion - motion.mean(dim=3, keepdim=True)
    covariance = motion @ motion.transpose(2, 3) / kept
    std = torch.sqrt(covariance.diagonal(dim1=2, dim2=3) + 1e-8)  # (N, 6, 3)
    r = covariance / (std[:, :, :, None] * std[:, :, None, :])
    numbers = torch.cat([torch.log(std), r[:, :, 0, 1:], r[:, :, 1, 2:]], dim=2)  # (N, 6, 6)
    return torch.cat([up, numbers.flatten(1)], dim=1)
