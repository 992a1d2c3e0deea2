"""An LSTM and a second opinion on sitting against standing, from how an upright body sways."""

# No `from __future__ import annotations`: TorchScript cannot read a class's annotations as text.
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hard.nets.lstm import Lstm

SITTING: Final = 3
STANDING: Final = 4
OCTAVES: Final = 6
CLAMP: Final = 4.0  # standard deviations; laying is many more away
ASKED: Final = (
    0.1  # share that the LSTM gives the two, from which on sway is asked: it costs as much as the LSTM
)


class PostureLstm(Lstm):
    """Windows (N, T, channels) -> logits (N, 6), in the order of HAPT's labels; channels as for `Lstm`.

    A small network over `sway` tells sitting from standing, the LSTM tells everything, and their log odds are
    added. Trained apart they err on different windows: of the sitting and standing windows of people left out
    the LSTM gets 89 wrong, the small network 89, the sum 74 (of 2,660).
    """

    sway_mean: Tensor
    sway_std: Tensor

    def __init__(
        self, labels: int, channels: int = 9, width: int = 64, hidden: int = 64, dropout: float = 0.3
    ) -> None:
        super().__init__(labels, channels, width, hidden, dropout)
        numbers = sway_numbers(channels)
        self.clamp = CLAMP
        self.asked = ASKED
        self.register_buffer("sway_mean", torch.zeros(numbers))
        self.register_buffer("sway_std", torch.ones(numbers))
        with torch.random.fork_rng():  # the LSTM is trained as if it were alone, to the last bit
            self.opinion = nn.Sequential(
                nn.Dropout(0.2), nn.Linear(numbers, 32), nn.ReLU(), nn.Dropout(dropout), nn.Linear(32, 1)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = self.of_lstm(x)
        odds = y[:, 4:5] - y[:, 3:4]  # (N, 1) of standing
        asked = torch.softmax(y, dim=1)[:, 3:5].sum(dim=1) > self.asked
        if torch.jit.is_scripting():  # type: ignore[attr-defined]
            rows = asked.nonzero()[:, 0]  # the same, but the others are not computed
            if rows.numel() > 0:
                odds = odds.index_add(0, rows, self.of_sway(x[rows]))
        else:
            odds = torch.where(asked[:, None], odds + self.of_sway(x), odds)
        upright = torch.logsumexp(y[:, 3:5], dim=1, keepdim=True)  # of which sway knows nothing
        split = [upright + F.logsigmoid(-odds), upright + F.logsigmoid(odds)]
        return torch.cat([y[:, :3], split[0], split[1], y[:, 5:]], dim=1)

    def of_lstm(self, x: Tensor) -> Tensor:
        """The LSTM's logits, (N, 6)."""
        logits: Tensor = self.head(self.dropout(self.describe(x)))
        return logits

    def of_sway(self, x: Tensor) -> Tensor:
        """The log odds of standing against sitting, (N, 1)."""
        z = (sway(x) - self.sway_mean) / self.sway_std
        odds: Tensor = self.opinion(z.clamp(-self.clamp, self.clamp))
        return odds

    def fit_sway(self, x: Tensor, y: Tensor) -> None:
        """Set the normalising constants of sway from windows (N, T, channels), of which the upright count."""
        numbers = sway(x[(y == SITTING) | (y == STANDING)])
        self.sway_mean.copy_(numbers.mean(dim=0))
        self.sway_std.copy_(numbers.std(dim=0))


def sway_numbers(channels: int) -> int:
    """How many numbers `sway` gives; channels without total acceleration's three come in turned axes."""
    c = channels - 3
    return 3 + OCTAVES * (2 * c + c * (c - 1))


def sway(x: Tensor) -> Tensor:
    """The direction of gravity, and per octave the size of the motion and how its axes go together.

    (N, T, 9) -> (N, 255), or (N, T, 6) -> (N, 75) without the gyroscope. The axes are the body's: up, forward
    (the phone's z made level), sideways. The octaves are 25-12, 12-6, ..., 1.6-0.8 Hz and what is slower, by
    Haar's wavelet at every phase. Each axis has its log standard deviation and its correlation with itself a
    quarter of a period later, each pair its correlation at once and how far one follows the other (half the
    difference of the two correlations a quarter of a period apart). A body that turns about a pivot under the
    phone changes its tilt as its gyroscope says; one that stands also shifts.
    """
    up = F.normalize(x[:, :, -3:].mean(dim=1), dim=1)
    z = torch.zeros_like(up)
    z[:, 2] = 1.0
    forward = F.normalize(z - up * up[:, 2:], dim=1, eps=1e-3)
    axes = torch.stack([up, forward, torch.linalg.cross(up, forward, dim=1)], dim=1)  # (N, 3, 3)
    moved = (x - x.mean(dim=1, keepdim=True)).transpose(1, 2)  # gravity first: sway is a thousandth of it
    slow = axes @ moved[:, -3:]
    if x.shape[2] == 9:
        slow = torch.cat([slow, axes @ moved[:, 3:6]], dim=1)  # (N, C, T)
    kept = slow.shape[2] - 31  # the samples that every octave has
    pairs = torch.triu_indices(slow.shape[1], slow.shape[1], 1)
    bands = []
    for step in (1, 2, 4, 8, 16):
        before, after = slow[:, :, :-step], slow[:, :, step:]
        bands.append((after - before)[:, :, -kept:] / 2)
        slow = (after + before) / 2
    bands.append(slow[:, :, -kept:])
    motion = torch.stack(bands, dim=1)  # (N, OCTAVES, C, kept)
    motion = motion - motion.mean(dim=3, keepdim=True)
    std = torch.sqrt((motion * motion).mean(dim=3) + 1e-8)  # (N, OCTAVES, C)
    motion = motion / std[:, :, :, None]
    at_once = motion @ motion.transpose(2, 3) / kept  # (N, OCTAVES, C, C)
    quarters = []
    for i, lag in enumerate((1, 2, 4, 8, 16, 16)):
        m = motion[:, i]
        quarters.append(m[:, :, lag:] @ m[:, :, :-lag].transpose(1, 2) / (kept - lag))
    later = torch.stack(quarters, dim=1)
    follows = (later - later.transpose(2, 3)) / 2
    numbers = [torch.log(std), later.diagonal(dim1=2, dim2=3)]
    numbers += [at_once[:, :, pairs[0], pairs[1]], follows[:, :, pairs[0], pairs[1]]]
    return torch.cat([up, torch.cat(numbers, dim=2).flatten(1)], dim=1)
