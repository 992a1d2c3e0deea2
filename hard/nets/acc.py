"""LSTMs without a gyroscope: what they cannot tell, sitting from standing, a rule over sway does."""

# No `from __future__ import annotations`: TorchScript cannot read a class's annotations as text.
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hard.nets.lstm import Lstm
from hard.nets.rest import RestRule

SWAY: Final = 39  # numbers that `sway` gives
CLAMP: Final = 6.0
RIDGE: Final = 5e-4  # a half or twice as much changes little, six times is worse
CAUTION: Final = 0.6  # calibration error on upright windows of left-out people 1.4 %, with 1.0 2.5 %
LSTMS: Final = 2


class LstmAcc(nn.Module):
    """Windows (N, T, 6), body and total acceleration [g] -> logits (N, 6), in the order of HAPT's labels.

    The mean of LSTMs that were trained apart tells the gaits, a body upright at rest, and laying; the rule
    splits the second. Left alone with acceleration, an LSTM learns the training people's tremor by heart:
    of windows of left-out people it gets 93.5 % right, two and the rule 95.1 %, and 96.0 % where the rule
    sees more than the window (tools/train_sensor.py --preset lstm-acc --folds 5).
    """

    def __init__(
        self, labels: int, channels: int = 6, width: int = 64, hidden: int = 64, dropout: float = 0.3
    ) -> None:
        super().__init__()
        self.lstms = nn.ModuleList(  # sitting and standing are one
            Lstm(labels - 1, channels, width, hidden, dropout) for _ in range(LSTMS)
        )
        self.rest = RestRule(SWAY, CLAMP, RIDGE, CAUTION)

    def forward(self, x: Tensor) -> Tensor:
        """Of windows of which nothing before is known."""
        return self.step(x, x.new_zeros(x.shape[0], self.rest.state))[0]

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (N, 6), and the state (N, rest.state) for each device's next window; zeros at first."""
        y = torch.stack([lstm(x) for lstm in self.lstms]).mean(dim=0)  # (N, 5)
        seen, after = self.rest.remember(x, sway(x), state)
        standing = self.rest.odds(seen)
        upright = y[:, 3:4]
        split = [upright + F.logsigmoid(-standing), upright + F.logsigmoid(standing)]
        return torch.cat([y[:, :3], split[0], split[1], y[:, 4:]], dim=1), after

    def sway(self, x: Tensor) -> Tensor:
        """Of windows (N, T, 6), (N, SWAY)."""
        return sway(x)

    def fit_scales(self, x: Tensor) -> None:
        """Set the LSTMs' normalising constants from training windows (N, T, 6)."""
        for lstm in self.lstms:
            assert isinstance(lstm, Lstm)
            lstm.fit_scales(x)


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
