"""LSTMs without a gyroscope: a linear rule over tilt and sway tells sitting from standing."""

# No `from __future__ import annotations`: TorchScript cannot read a class's annotations as text.
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hard.nets.lstm import Lstm

SITTING: Final = 3
STANDING: Final = 4
SWAY: Final = 39  # numbers that `sway` gives
CLAMP: Final = 6.0  # standard deviations; laying is many more away
RIDGE: Final = 5e-4  # per window; a half or twice as much changes little, six times is worse
CAUTION: Final = 0.6
"""Of the rule's log odds. 168 bouts make it too sure: on upright windows of left-out people the calibration
error is 1.4 %, with 1.0 2.5 %."""
LSTMS: Final = 2


class LstmAcc(nn.Module):
    """Windows (N, T, 6), body and total acceleration [g] -> logits (N, 6), in the order of HAPT's labels.

    The mean of LSTMs that were trained apart tells the gaits, a body upright at rest, and laying; the rule
    splits the second. Left alone with acceleration, an LSTM learns the training people's tremor by heart:
    93.5 %; two and the rule get 95.1 % (tools/train_sensor.py --preset lstm-acc --folds 5).
    """

    sway_mean: Tensor
    sway_std: Tensor
    rule: Tensor

    def __init__(
        self, labels: int, channels: int = 6, width: int = 64, hidden: int = 64, dropout: float = 0.3
    ) -> None:
        super().__init__()
        self.lstms = nn.ModuleList(  # sitting and standing are one
            Lstm(labels - 1, channels, width, hidden, dropout) for _ in range(LSTMS)
        )
        self.clamp = CLAMP
        self.register_buffer("sway_mean", torch.zeros(SWAY))
        self.register_buffer("sway_std", torch.ones(SWAY))
        self.register_buffer("rule", torch.zeros(SWAY + 1))  # the last: where the numbers are average

    def forward(self, x: Tensor) -> Tensor:
        y = torch.stack([lstm(x) for lstm in self.lstms]).mean(dim=0)  # (N, 5)
        standing = self.scaled_sway(x) @ self.rule[:, None]  # (N, 1) log odds
        upright = y[:, 3:4]
        split = [upright + F.logsigmoid(-standing), upright + F.logsigmoid(standing)]
        return torch.cat([y[:, :3], split[0], split[1], y[:, 4:]], dim=1)

    def scaled_sway(self, x: Tensor) -> Tensor:
        """(N, SWAY + 1), the last column 1."""
        z = ((sway(x) - self.sway_mean) / self.sway_std).clamp(-self.clamp, self.clamp)
        return torch.cat([z, torch.ones_like(z[:, :1])], dim=1)

    def fit_scales(self, x: Tensor) -> None:
        """Set the LSTMs' normalising constants from training windows (N, T, 6)."""
        for lstm in self.lstms:
            assert isinstance(lstm, Lstm)
            lstm.fit_scales(x)

    def fit_rule(self, x: Tensor, y: Tensor, bouts: Tensor) -> None:
        """Logistic regression by Newton's method; windows (N, T, 6), of which sitting and standing count.

        Every bout (N,) of them weighs the same: how the body and the phone are tilted is settled once a bout.
        With that and Fisher's z 280 of 2,660 windows of left-out people are wrong, 302 without the two.
        """
        upright = (y == SITTING) | (y == STANDING)
        x, standing = x[upright], (y[upright] == STANDING).float()
        _, bout, sizes = torch.unique(bouts[upright], return_inverse=True, return_counts=True)
        weight = len(x) / len(sizes) / sizes[bout]
        s = sway(x)
        self.sway_mean.copy_(s.mean(dim=0))
        self.sway_std.copy_(s.std(dim=0))
        z = self.scaled_sway(x)
        ridge = RIDGE * len(z) * torch.eye(SWAY + 1)
        rule = torch.zeros(SWAY + 1)
        for _ in range(8):
            p = torch.sigmoid(z @ rule)
            curvature = (z * (weight * p * (1 - p))[:, None]).T @ z + ridge
            rule += torch.linalg.solve(curvature, z.T @ (weight * (standing - p)) - ridge @ rule)
        self.rule.copy_(CAUTION * rule)


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
    numbers = [up]
    for step in (1, 2, 4, 8, 16):
        before, after = slow[:, :, :-step], slow[:, :, step:]
        numbers.append(octave((after - before) / 2))
        slow = (after + before) / 2
    numbers.append(octave(slow))
    return torch.cat(numbers, dim=1)


def octave(motion: Tensor) -> Tensor:
    """(N, 3, T) -> (N, 6): the axes' log standard deviations, and Fisher's z of their three correlations."""
    motion = motion - motion.mean(dim=2, keepdim=True)
    covariance = motion @ motion.transpose(1, 2) / motion.shape[2]
    std = torch.sqrt(covariance.diagonal(dim1=1, dim2=2) + 1e-8)  # (N, 3)
    r = covariance / (std[:, :, None] * std[:, None, :])
    together = torch.cat([r[:, 0, 1:], r[:, 1, 2:]], dim=1).clamp(-0.99, 0.99)
    return torch.cat([torch.log(std), torch.atanh(together)], dim=1)
