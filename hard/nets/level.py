"""A phone's motion in a level frame that does not turn with it: the same however the phone is carried."""

# No `from __future__ import annotations`: TorchScript cannot read a class's annotations as text.
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F

SWAY: Final = 73  # numbers that `sway` gives
SWAY_SIGNALS: Final = (*[0] * 18, *[1] * 18, *[0] * 18, *[2] * 18, 1)
"""What each of them is of: 0 acceleration, 1 the gyroscope, 2 how two motions go together."""


def turned(angle: Tensor) -> Tensor:
    """Turns from sample to sample (N, 3, T) rad -> those since the window began, unit quaternions (N, 4, T).

    All products of the T small turns, by doubling: log2 T steps over whole tensors instead of T.
    """
    half = angle / 2
    q = torch.cat([torch.ones_like(half[:, :1]), half], dim=1)
    q = q / q.square().sum(dim=1, keepdim=True).sqrt()
    n, samples = q.shape[0], q.shape[2]
    product = torch.tensor(  # of two quaternions: each component from the 16 products of components
        [
            [1, 0, 0, 0, 0, -1, 0, 0, 0, 0, -1, 0, 0, 0, 0, -1],
            [0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 0, 0, -1, 0],
            [0, 0, 1, 0, 0, 0, 0, -1, 1, 0, 0, 0, 0, 1, 0, 0],
            [0, 0, 0, 1, 0, 0, 1, 0, 0, -1, 0, 0, 1, 0, 0, 0],
        ]
    ).to(q.dtype)
    step = 1
    while step < samples:
        pairs = q[:, :, None, :-step] * q[:, None, :, step:]  # (N, 4, 4, T - step)
        q = torch.cat([q[:, :, :step], product @ pairs.view(n, 16, samples - step)], dim=2)
        step *= 2
    return q


def rotate(q: Tensor, v: Tensor) -> Tensor:
    """Vectors (N, 3, T) turned by unit quaternions (N, 4, T)."""
    w, u = q[:, :1], q[:, 1:]
    t = 2.0 * torch.linalg.cross(u, v, dim=1)
    out: Tensor = v + w * t + torch.linalg.cross(u, t, dim=1)
    return out


def turning(x: Tensor, rate_hz: float) -> Tensor:
    """How the phone of windows (N, T, 6) has turned since they began, unit quaternions (N, 4, T).

    The mean angular velocity is left out: a gyroscope's bias would tilt the frame by degrees, and who walks
    around a corner turns about the vertical, which keeps gravity in its place.
    """
    gyro = x[:, :, :3].transpose(1, 2).contiguous()
    return turned((gyro - gyro.mean(dim=2, keepdim=True)) / rate_hz)


def still_frame(x: Tensor, turns: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gyroscope and acceleration (N, T, 6) as seen from the phone at the window's beginning.

    turns: their `turning`. Returns acceleration and angular velocity, (N, 3, T), and gravity's direction,
    (N, 3, 1).
    """
    motion = x.transpose(1, 2)
    acc = rotate(turns, motion[:, 3:].contiguous())
    gyro = rotate(turns, motion[:, :3].contiguous())
    return acc, gyro, F.normalize(acc.mean(dim=2, keepdim=True), dim=1)


def length(v: Tensor) -> Tensor:
    """Of vectors (N, 3, T): (N, 1, T). Several times as fast as norm() over an axis in the middle."""
    return v.square().sum(dim=1, keepdim=True).sqrt()


def split(v: Tensor, up: Tensor) -> tuple[Tensor, Tensor]:
    """Vectors (N, 3, T) -> along the vertical (N, 1, T), and what is level (N, 3, T)."""
    along = (v * up).sum(dim=1, keepdim=True)
    return along, v - along * up


def sway(x: Tensor, acc: Tensor, gyro: Tensor, up: Tensor) -> Tensor:
    """How a body at rest moves, whichever way the phone lies: x (N, T, 6) and its still_frame -> (N, SWAY).

    Per octave (25-12, 12-6, ..., 1.6-0.8 Hz and what is slower; Haar's wavelet at every phase): how large the
    motion is along the vertical and level, how far it keeps to one level direction, and how vertical, level
    and turning motion go together. Without signs: a negated acceleration gives the same.
    """
    raw = x[:, :, 3:].transpose(1, 2)
    felt = split(raw, F.normalize(raw.mean(dim=2, keepdim=True), dim=1))
    signals = split(acc, up) + split(gyro, up) + felt  # each (N, 1 + 3, T)
    motion = octaves(torch.cat(signals, dim=1)).view(x.shape[0], 6, 3, 4, -1)  # (N, 6, 3, 4, n)
    a, w = motion[:, :, 0], motion[:, :, 1]
    out = [sizes(motion)]
    out += [together(a[:, :, 1:], w[:, :, 1:]), together(a[:, :, :1], a[:, :, 1:])]
    out += [together(w[:, :, :1], w[:, :, 1:])]
    out.append(torch.log(x[:, :, :3].mean(dim=1).norm(p=2, dim=1, keepdim=True) + 1e-3))
    return torch.cat(out, dim=1)


def octaves(slow: Tensor) -> Tensor:
    """(N, C, T) -> (N, 6 octaves, C, samples that every octave has)."""
    kept = slow.shape[2] - 31
    out = []
    for step in (1, 2, 4, 8, 16):
        before, after = slow[:, :, :-step], slow[:, :, step:]
        out.append((after - before)[:, :, -kept:])
        slow = after + before
    out.append(slow - slow.mean(dim=2, keepdim=True))
    halves = torch.tensor([2.0, 4.0, 8.0, 16.0, 32.0, 32.0]).view(6, 1, 1)
    return torch.stack(out, dim=1) / halves


def sizes(motion: Tensor) -> Tensor:
    """Of (N, 6, k, 1 + 3, n), for each of k signals and the octaves: log rms vertical and level, and 0-1 how
    far the level part keeps to one direction; (N, k * 3 * 6).
    """
    power = motion.square().mean(dim=4)
    level = motion[:, :, :, 1:]
    covariance = level @ level.transpose(3, 4) / level.shape[4]
    trace = power[:, :, :, 1:].sum(dim=3)
    narrow = 2 * covariance.square().sum(dim=(3, 4)) / (trace * trace + 1e-20) - 1
    numbers = [
        torch.log(power[:, :, :, 0].sqrt() + 1e-4),
        torch.log(trace.sqrt() + 1e-4),
        narrow.clamp(0.0, 1.0).sqrt(),
    ]
    return torch.stack(numbers, dim=1).permute(0, 3, 1, 2).flatten(1)


def together(a: Tensor, b: Tensor) -> Tensor:
    """Size of the correlation of (N, 6, j, n) and (N, 6, k, n), 0-1: (N, 6)."""
    size = a.square().sum(dim=(2, 3)).sqrt() * b.square().sum(dim=(2, 3)).sqrt() + 1e-18
    return (a @ b.transpose(2, 3)).square().sum(dim=(2, 3)).sqrt() / size
