"""A gait as another phone elsewhere would have felt it: spectra changed at random, or to another set's.

Full training, seed 0, on the phone's own acceleration, without -> with: walking in sp_sw_har without training
on it 43.5 -> 49.8 % of windows, MotionSense 80.4 -> 81.2 %, HAPT 84.3 -> 84.0 %.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from torch import Tensor

from hard.nets.level import rotate, split, still_frame, turning
from hard.nets.pocket import MOVING, RATE_HZ
from tools.pocket_pool import SETS, draw
from tools.pool import Pool

KNOTS_HZ: Final = (0.0, 1.0, 2.0, 4.0, 7.0, 12.0, 18.0, 25.0)
COLOUR: Final = 0.4  # log standard deviation of the gain at each of KNOTS_HZ
STYLED: Final = 0.5  # of the windows of gaits
WALKS: Final = 600  # windows of every set that say how it sees walking
WALKING: Final = 0
MOST: Final = 2.0  # log gain


def between(samples: int) -> Tensor:
    """What each of KNOTS_HZ counts at a spectrum's frequencies, linear between them: (knots, frequencies)."""
    hz = np.fft.rfftfreq(samples, 1 / RATE_HZ)
    parts = [np.interp(hz, KNOTS_HZ, row) for row in np.eye(len(KNOTS_HZ))]
    return torch.from_numpy(np.stack(parts).astype(np.float32))


def filtered(v: Tensor, gain: Tensor) -> Tensor:
    """What moves of (n, k, T), with log gains (n, 1, knots), without a delay."""
    rest = v.mean(dim=2, keepdim=True)
    spectrum = torch.fft.rfft(v - rest, dim=2) * torch.exp(gain @ between(v.shape[2]))
    out: Tensor = rest + torch.fft.irfft(spectrum, n=v.shape[2], dim=2)
    return out


def coloured(acc: Tensor) -> Tensor:
    """Acceleration (n, 3, T) through a pocket's cloth, a holster, a belt: one random filter for all axes."""
    return filtered(acc, COLOUR * torch.randn(len(acc), 1, len(KNOTS_HZ)))


def loudness(v: Tensor) -> Tensor:
    """Log amplitude of (n, k, T) around each of KNOTS_HZ: (n, 1, knots)."""
    v = (v - v.mean(dim=2, keepdim=True)) * torch.hann_window(v.shape[2])
    power = torch.fft.rfft(v, dim=2).abs().square().sum(dim=1, keepdim=True)
    near = between(v.shape[2])
    return torch.log(power @ (near / near.sum(dim=1, keepdim=True)).T + 1e-6) / 2


class Styles:
    """How the sets of a pool see walking, and a set's gaits as another would see them.

    All sets have walking, and only some have stairs: the gain that turns walking of a set into another's, for
    vertical and level acceleration and for the gyroscope, is put on stairs, too.
    """

    def __init__(self, pool: Pool, rng: np.random.Generator) -> None:
        self.seen: dict[int, Tensor] = {}  # of each set (3 signals, WALKS, 1, knots)
        for kind in range(len(SETS)):
            spans = pool.spans[(pool.spans[:, 4] == kind) & (pool.spans[:, 2] == WALKING)]
            if len(spans):
                x = pool.windows(draw(spans, WALKS, rng)[0])
                acc, gyro, up = still_frame(x, turning(x, RATE_HZ))
                vertical, level = split(acc - acc.mean(dim=2, keepdim=True), up)
                self.seen[kind] = torch.stack([loudness(v) for v in (vertical, level, gyro)])

    def __call__(self, x: Tensor, y: Tensor, kind: Tensor, rng: np.random.Generator) -> Tensor:
        """Windows (n, T, 6), their labels and sets; some gaits come back as another set has them."""
        x = x.clone()
        for own in self.seen:
            others = [other for other in self.seen if other != own]
            picked = (kind == own) & (y < MOVING) & torch.from_numpy(rng.random(len(y)) < STYLED)
            if others and picked.any():
                gain = self.gain(own, others[rng.integers(len(others))], int(picked.sum()))
                x[picked] = styled(x[picked], gain)
        return x

    def gain(self, own: int, other: int, n: int) -> Tensor:
        """Log gains (3 signals, n, 1, knots), from none to all of the way, to persons of another set."""
        to = self.seen[other].mean(dim=1, keepdim=True)
        person = self.seen[other][:, torch.randint(WALKS, (n,))]
        difference = (to + person) / 2 - self.seen[own].mean(dim=1, keepdim=True)
        return (torch.rand(n, 1, 1) * difference).clamp(-MOST, MOST)


def styled(x: Tensor, gain: Tensor) -> Tensor:
    """Windows (n, T, 6) with log gains (3, n, 1, knots) on vertical, level and turning motion."""
    acc, _, up = still_frame(x, turning(x, RATE_HZ))
    rest = acc.mean(dim=2, keepdim=True)
    vertical, level = split(acc - rest, up)
    acc = rest + filtered(vertical, gain[0]) * up + filtered(level, gain[1])
    gyro = filtered(x[:, :, :3].transpose(1, 2), gain[2]).transpose(1, 2)
    turns = turning(gyro, RATE_HZ)
    back = torch.cat([turns[:, :1], -turns[:, 1:]], dim=1)
    return torch.cat([gyro, rotate(back, acc).transpose(1, 2)], dim=2)
