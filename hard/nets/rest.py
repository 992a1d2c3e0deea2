"""Sitting against standing by the sway of a body since it came to rest: a linear rule with a memory."""

# No `from __future__ import annotations`: TorchScript cannot read a class's annotations as text.
from typing import Final

import torch
from torch import Tensor, nn

SITTING: Final = 3  # of HAPT's labels
STANDING: Final = 4
TILTS: Final = 3  # the first numbers of sway: where up is
MOVED_G: Final = 0.15  # rms body acceleration: 98 % of windows at rest are below, changes of posture above
FADE: Final = 0.9  # of what is remembered, per window: 12 s; between 0.8 and 1 it matters little
WANDER: Final = 0.01  # standard deviations of tilt, so that no wander has a logarithm


def remember(numbers: Tensor, alone: Tensor, state: Tensor, fade: float) -> tuple[Tensor, Tensor]:
    """What has been seen of one kind of windows, these included, and what of it the next ones are told.

    numbers: (N, n) of windows; alone: (N,) whether a window is of another kind: of movement where rest is
    remembered. It knows of none before it, and says nothing to the next. Both (N, n + k + 1): the mean of the
    numbers, the summed squares by which the first k of them were off theirs, and the number of windows; older
    ones fade (West 1979, Comm. ACM 22, 532).
    """
    n = numbers.shape[1]
    alone = alone[:, None]
    known = torch.where(alone, torch.zeros_like(state), fade * state)
    before = known[:, -1:]  # windows
    mean = torch.where(before > 0, state[:, :n], numbers)
    off = numbers - mean
    squares = known[:, n:-1] + off[:, : state.shape[1] - n - 1].square() * before / (before + 1.0)
    seen = torch.cat([mean + off / (before + 1.0), squares, before + 1.0], dim=1)
    return seen, torch.where(alone, torch.zeros_like(seen), seen)


class RestRule(nn.Module):
    """Sway (N, sways) of windows at rest, in the order of time -> log odds (N, 1) of standing.

    A body sways slowly, and 2.56 s show little of it. Of 2,660 sitting and standing windows of left-out
    people the rule takes 51 for the other where it sees the sway since the last movement, 114 where it sees
    each window alone; without a gyroscope 202, and 280.
    """

    mean: Tensor
    std: Tensor
    rule: Tensor

    def __init__(self, sways: int, clamp: float, ridge: float, caution: float) -> None:
        """clamp: standard deviations, since laying is many away; ridge: of the rule, per window; caution: of
        its log odds, since bouts are few."""
        super().__init__()
        self.sways, self.clamp, self.ridge, self.caution = sways, clamp, ridge, caution
        self.state, self.moved_g, self.fade, self.wander = sways + TILTS + 1, MOVED_G, FADE, WANDER
        self.register_buffer("mean", torch.zeros(sways))
        self.register_buffer("std", torch.ones(sways))
        self.register_buffer("rule", torch.zeros(sways + TILTS + 1))  # the last: where the numbers are 0

    def remember(self, x: Tensor, sway: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """What has been seen of a body at rest, this window included, and what of it the next one is told.

        x: (N, T, channels), body acceleration [g] first. Both (N, state): the mean sway, the summed squares
        by which the tilts were off theirs, and the number of windows.
        """
        z = ((sway - self.mean) / self.std).clamp(-self.clamp, self.clamp)
        moved = x[:, :, :3].square().sum(dim=2).mean(dim=1).sqrt() >= self.moved_g
        return remember(z, moved, state, self.fade)

    def numbers(self, seen: Tensor) -> Tensor:
        """(N, state) -> (N, sways + TILTS): mean sway, and the log of how far the tilts have wandered."""
        wandered = seen[:, self.sways : -1] / seen[:, -1:]
        return torch.cat([seen[:, : self.sways], torch.log(wandered + self.wander**2) / 2], dim=1)

    def odds(self, seen: Tensor) -> Tensor:
        """(N, state) -> log odds (N, 1) of standing."""
        return self.numbers(seen) @ self.rule[:-1, None] + self.rule[-1]

    def fit_sway(self, sway: Tensor) -> None:
        """Set the normalising constants from windows (N, sways) of people who sit and stand."""
        self.mean.copy_(sway.mean(dim=0))
        self.std.copy_(sway.std(dim=0))

    def fit(self, numbers: Tensor, standing: Tensor, bouts: Tensor) -> None:
        """Logistic regression by Newton's method: numbers (N, ...) of people who sit or stand (N,).

        Every bout (N,) of them weighs the same: how the body and the phone are tilted is settled once a bout.
        """
        _, bout, sizes = torch.unique(bouts, return_inverse=True, return_counts=True)
        weight = len(numbers) / len(sizes) / sizes[bout]
        mean, std = numbers.mean(dim=0), numbers.std(dim=0).clamp(min=1e-6)
        z = torch.cat([(numbers - mean) / std, torch.ones(len(numbers), 1)], dim=1)
        ridge = self.ridge * len(z) * torch.eye(z.shape[1])
        rule = torch.zeros(z.shape[1])
        for _ in range(8):
            p = torch.sigmoid(z @ rule)
            curvature = (z * (weight * p * (1 - p))[:, None]).T @ z + ridge
            rule += torch.linalg.solve(curvature, z.T @ (weight * (standing - p)) - ridge @ rule)
        slopes = rule[:-1] / std
        self.rule.copy_(self.caution * torch.cat([slopes, rule[-1:] - (slopes * mean).sum()]))
