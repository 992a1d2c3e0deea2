"""An LSTM and a second opinion on sitting against standing, from how an upright body sways."""

# No `from __future__ import annotations`: TorchScript cannot read a class's annotations as text.
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F

from hard.nets.lstm import Lstm
from hard.nets.rest import RestRule

OCTAVES: Final = 6
CLAMP: Final = 4.0
RIDGE: Final = 2e-3  # from 1 to 4e-3 it matters little
CAUTION: Final = 1.0
ASKED: Final = (
    0.1  # share that the LSTM gives the two, from which on sway is asked: it costs as much as the LSTM
)


class PostureLstm(Lstm):
    """Windows (N, T, channels) -> logits (N, 6), in the order of HAPT's labels; channels as for `Lstm`.

    The LSTM tells everything, a rule over `sway` tells sitting from standing, and their log odds are added:
    they err on different windows. Of all windows of left-out people the LSTM gets 117 of 7,352 wrong, with
    the rule 100 where it sees the window alone, 72 where it sees the sway since the last movement.
    """

    def __init__(
        self, labels: int, channels: int = 9, width: int = 64, hidden: int = 64, dropout: float = 0.3
    ) -> None:
        super().__init__(labels, channels, width, hidden, dropout)
        self.asked = ASKED
        self.rest = RestRule(sway_numbers(channels), CLAMP, RIDGE, CAUTION)

    def forward(self, x: Tensor) -> Tensor:
        """Of windows of which nothing before is known."""
        return self.step(x, x.new_zeros(x.shape[0], self.rest.state))[0]

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (N, 6), and the state (N, rest.state) for each device's next window; zeros at first."""
        y = self.of_lstm(x)
        odds = y[:, 4:5] - y[:, 3:4]  # (N, 1) of standing
        asked = torch.softmax(y, dim=1)[:, 3:5].sum(dim=1) > self.asked
        after = torch.zeros_like(state)
        if torch.jit.is_scripting():  # type: ignore[attr-defined]
            rows = asked.nonzero()[:, 0]  # the same, but the others are not computed
            if rows.numel() > 0:
                chosen = x[rows]
                seen, kept = self.rest.remember(chosen, sway(chosen), state[rows])
                odds = odds.index_add(0, rows, self.rest.odds(seen))
                after = after.index_copy(0, rows, kept)
        else:
            seen, kept = self.rest.remember(x, sway(x), state)
            odds = torch.where(asked[:, None], odds + self.rest.odds(seen), odds)
            after = torch.where(asked[:, None], kept, after)
        upright = torch.logsumexp(y[:, 3:5], dim=1, keepdim=True)  # of which sway knows nothing
        split = [upright + F.logsigmoid(-odds), upright + F.logsigmoid(odds)]
        return torch.cat([y[:, :3], split[0], split[1], y[:, 5:]], dim=1), after

    def of_lstm(self, x: Tensor) -> Tensor:
        """The LSTM's logits, (N, 6)."""
        logits: Tensor = self.head(self.dropout(self.describe(x)))
        return logits

    def sway(self, x: Tensor) -> Tensor:
        """Of windows (N, T, channels), (N, sway_numbers)."""
        return sway(x)


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
    difference of the two correlations a quarter of a period apart), all of them as Fisher's z. A body that
    turns about a pivot under the phone changes its tilt as its gyroscope says; one that stands also shifts.
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
    together = [later.diagonal(dim1=2, dim2=3)]
    together += [at_once[:, :, pairs[0], pairs[1]], follows[:, :, pairs[0], pairs[1]]]
    fisher = torch.atanh(torch.cat(together, dim=2).clamp(-0.99, 0.99))
    return torch.cat([up, torch.cat([torch.log(std), fisher], dim=2).flatten(1)], dim=1)
