"""Convolutions and an LSTM over motion in a level frame: the same answer however the phone is turned."""

# No `from __future__ import annotations`: TorchScript cannot read a class's annotations as text.
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hard.nets.hip import hip
from hard.nets.level import SWAY, SWAY_SIGNALS, length, split, still_frame, sway, turning
from hard.nets.lstm import asinh
from hard.nets.rest import FADE, remember

MOVING: Final = 4  # labels: the gaits come first
STILL: Final = 3
SCALARS: Final = 14  # channels that do not depend on directions
SIZES: Final = 7
COMPAND_SCALE: Final = 0.02  # g
GYRO_GAIN: Final = 0.5  # log standard deviation
GYRO_DROPPED: Final = 0.5  # of the windows
LSTM_DROPPED: Final = 0.5
SWAY_NOISE: Final = 0.05  # standard deviations
SWAY_DROPPED: Final = 0.25  # of the windows, for each of SWAY_SIGNALS
SIZE: Final = 0.25  # g rms, of what moves along the vertical and level
STRONG: Final = 1.0  # g rms: what is above tells running; nearly all other gaits are below
SIZE_FLOOR: Final = 0.03  # g rms: below it, a body at rest is not blown up to a gait
ARM_RIDGE: Final = 96.0  # 1/s⁴, (9.8 / s²)²: a waist turns less than this, a thigh more
CLAMP: Final = 4.0  # standard deviations
GAIT_FADE: Final = 0.4  # of what is remembered of a gait, per window
MOVED_G: Final = 0.2  # rms: 99.6 % of the training people's windows at rest are below, 99.9 % of gaits above
RATE_HZ: Final = 50.0


class LstmPocket(nn.Module):
    """Windows (N, T, 6), gyroscope [rad/s] and total acceleration [g] -> logits (N, 7): MOVING, then STILL.

    Rotations of the phone do not change the answer, nor does a negated acceleration (iOS): every channel is
    the size of a vector or its product with another. Convolutions of level vectors use one filter for the
    three axes and keep the length of the result. The gyroscope says how the phone turns within the window,
    which is taken out; what is left of it for the gaits is unreliable in training, because a thigh swings
    and a hip does not. Further layers tell the postures from the mean `sway` since the last movement and the
    number of windows (see rest.py): 2.56 s show little of how a body sways. What is said of a gait is
    averaged while movement lasts, since of a stranger two steps say little. MotionSense without training on
    it, windows right with GAIT_FADE 0, 0.2, 0.4: 87.5, 88.1, 88.7 %, steady labels 89.7, 89.5, 90.0 %; people
    left out of it 97.0, 97.5, 97.9 %; in whole recordings of HAPT a steady label follows 0.1 s later.

    How strongly a gait shakes the phone says more of the person and the place than of the gait (rms along
    the vertical of walking: 0.24 g in HAPT, 0.60 g in MotionSense; downstairs 0.40 g and 0.50 g), so the
    gaits see vertical and level motion each over its own size, and the gyroscope less its mean, which is
    walking around a corner. In short training runs (400 steps, one or two seeds) windows of the three gaits
    came out right, as they were -> over their size -> and the gyroscope less its mean: MotionSense without
    training on it 64 -> 69 -> 70 %, HAPT 86 -> 90 -> 90 %, walking in sp_sw_har 27 -> 42 -> 62 %.

    The acceleration is the hip's (see hip.py). Of all windows of a set without training on it, in full
    training (seed 0) with pocket_style.py, the phone's own -> the hip's: HAPT 84.0 -> 85.2 %, walking in
    sp_sw_har 49.8 -> 58.0 %, MotionSense 81.2 -> 80.5 %.
    """

    mean: Tensor
    std: Tensor
    level_std: Tensor
    size_mean: Tensor
    size_std: Tensor
    sway_mean: Tensor
    sway_std: Tensor
    signals: Tensor

    def __init__(
        self, labels: int, channels: int = 6, width: int = 48, hidden: int = 32, dropout: float = 0.3
    ) -> None:
        super().__init__()
        if (labels, channels) != (MOVING + STILL, 6):
            raise ValueError(f"{labels} labels and {channels} channels; expected {MOVING + STILL} and 6")
        self.rate_hz, self.compand_scale, self.clamp = RATE_HZ, COMPAND_SCALE, CLAMP
        self.gyro_gain, self.gyro_dropped, self.lstm_dropped = GYRO_GAIN, GYRO_DROPPED, LSTM_DROPPED
        self.sway_noise, self.sway_dropped, self.moving = SWAY_NOISE, SWAY_DROPPED, MOVING
        self.arm_ridge, self.moved_g, self.fade, self.gait_fade = ARM_RIDGE, MOVED_G, FADE, GAIT_FADE
        self.rest_state = SWAY + 1
        self.state = self.rest_state + MOVING + 2
        self.size, self.size_floor, self.strong = SIZE, SIZE_FLOOR, STRONG
        level = width // 4  # filters of level vectors, for acceleration and for the gyroscope
        for name, n in (("", SCALARS), ("size_", SIZES), ("sway_", SWAY)):
            self.register_buffer(name + "mean", torch.zeros(n))
            self.register_buffer(name + "std", torch.ones(n))
        self.register_buffer("level_std", torch.ones(2))
        self.register_buffer("signals", torch.tensor(SWAY_SIGNALS))
        self.conv1 = nn.Conv1d(SCALARS, width, 8, stride=2, padding=3)
        self.level = nn.Conv1d(2, 2 * level, 8, stride=2, padding=3, bias=False, groups=2)
        self.level_bias = nn.Parameter(torch.zeros(2 * level, 1))
        self.conv2 = nn.Conv1d(width + 2 * level, width, 5, stride=2, padding=2)
        self.lstm = nn.LSTM(width, hidden, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(2 * width + 2 * hidden + SIZES, MOVING + 1)
        self.posture = nn.Sequential(
            *(nn.Linear(SWAY + 1, 64), nn.ReLU(), nn.Dropout(dropout)),
            *(nn.Linear(64, 64), nn.ReLU(), nn.Dropout(dropout), nn.Linear(64, STILL)),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Of windows of which nothing before is known."""
        return self.step(x, x.new_zeros(x.shape[0], self.state))[0]

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (N, 7), and the state (N, state) for each device's next window; zeros at first."""
        turns = turning(x, self.rate_hz)
        acc, gyro, up = still_frame(x, turns)
        moved = self.moved(x)
        now = F.log_softmax(self.gaits(hip(x, acc, turns, self.rate_hz, self.arm_ridge), gyro, up), dim=1)
        known, walked = remember(now, ~moved, state[:, self.rest_state :], self.gait_fade)
        seen, rested = self.remember(x, sway(x, acc, gyro, up), moved, state[:, : self.rest_state])
        gait = known[:, :-1]
        still = F.log_softmax(self.postures(seen), dim=1)
        logits = torch.cat([gait[:, : self.moving], gait[:, self.moving :] + still], dim=1)
        return logits, torch.cat([rested, walked], dim=1)

    def moved(self, x: Tensor) -> Tensor:
        """Whether windows (N, T, 6) have movement, (N,): of what the phone's own axes feel, tilting included.

        All but one of the 210 changes of posture of HAPT's training people have.
        """
        acc = x[:, :, 3:]
        rms = (acc - acc.mean(dim=1, keepdim=True)).square().sum(dim=2).mean(dim=1).sqrt()  # (N,) g
        moved: Tensor = rms >= self.moved_g
        return moved

    def hip_frame(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The still_frame of windows (N, T, 6) with the hip's acceleration: what the gaits are told by."""
        turns = turning(x, self.rate_hz)
        acc, gyro, up = still_frame(x, turns)
        return hip(x, acc, turns, self.rate_hz, self.arm_ridge), gyro, up

    def gaits(self, acc: Tensor, gyro: Tensor, up: Tensor) -> Tensor:
        """Logits of the gaits and, last, of rest, (N, MOVING + 1), from hip_frame(x)."""
        channels, level, size = self.describe(acc, gyro, up)
        n, length = level.shape[0], level.shape[3]
        y = F.relu(self.conv1((channels - self.mean[:, None]) / self.std[:, None]))  # (N, width, T/2)
        vectors = (level / self.level_std[:, None]).view(3 * n, 2, length)
        z = self.level(vectors).view(n, 3, self.level_bias.shape[0], length // 2)
        z = F.relu(torch.sqrt(z.square().sum(dim=1) + 1e-6) + self.level_bias)
        y = F.relu(self.conv2(torch.cat([y, z], dim=1))).transpose(1, 2)  # (N, T/4, width)
        h, _ = self.lstm(y)
        h = torch.cat([h.mean(dim=1), h.amax(dim=1)], dim=1)
        if self.training:
            h = h * (torch.rand(n, 1) >= self.lstm_dropped) / (1.0 - self.lstm_dropped)
        s = ((size - self.size_mean) / self.size_std).clamp(-self.clamp, self.clamp)
        out: Tensor = self.head(self.dropout(torch.cat([y.mean(dim=1), y.amax(dim=1), h, s], dim=1)))
        return out

    def remember(self, x: Tensor, numbers: Tensor, moved: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """What has been seen of bodies at rest, (N, rest_state), and what of it the next windows are told.

        x: windows (N, T, 6); numbers: their `sway`; moved: whether they moved. Without a gyroscope sway says
        little, however long: windows of training people 75.0 (HAPT) and 84.0 % (MotionSense) right each by
        itself, with what came before 72.2 and 82.9 %.
        """
        z = ((numbers - self.sway_mean) / self.sway_std).clamp(-self.clamp, self.clamp)
        gone = x[:, :, :3].abs().amax(dim=2).amax(dim=1) == 0  # (N,) no gyroscope
        z = torch.where(gone[:, None] & (self.signals > 0), torch.zeros_like(z), z)
        return remember(z, moved | gone, state, self.fade)

    def postures(self, seen: Tensor) -> Tensor:
        """Logits of the postures, (N, STILL), from what has been seen (N, rest_state).

        They are surer with every window.

        In training a quarter of the windows lacks acceleration, the gyroscope, or what ties them: postures of
        MotionSense without training on it 78 -> 84 %, of people left out of it 96.3 -> 96.6 %.
        """
        z, windows = seen[:, :-1], seen[:, -1:]
        if self.training:
            z = z + self.sway_noise * torch.randn_like(z)
            kept = (torch.rand(len(z), 3) >= self.sway_dropped).to(z.dtype)
            z = z * kept[:, self.signals]
        out: Tensor = self.posture(torch.cat([z, torch.log(windows)], dim=1)) * windows.sqrt()
        return out

    def describe(self, acc: Tensor, gyro: Tensor, up: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Channels (N, SCALARS, T), level vectors (N, 3, 2, T): acceleration, gyroscope; sizes (N, SIZES).

        Level acceleration is also seen along its own correlation with the vertical one and with its change:
        forwards, since a step lifts and pushes together. Sideways has no sign: left and right are alike.
        """
        if self.training:
            gain = torch.exp(self.gyro_gain * torch.randn(len(acc), 1, 1))
            gyro = gyro * gain * (torch.rand(len(acc), 1, 1) >= self.gyro_dropped)
        v, h = split(acc - acc.mean(dim=2, keepdim=True), up)
        shaken = (v.square() + h.square().sum(dim=1, keepdim=True)).mean(dim=2).sqrt()  # (N, 1) g
        v, h = self.sized(v), self.sized(h)
        change = F.pad(v[:, :, 1:] - v[:, :, :-1], [1, 0])
        norm = length(up + v * up + h)
        forward1 = F.normalize((v * h).mean(dim=2, keepdim=True), dim=1)
        forward2 = F.normalize((change * h).mean(dim=2, keepdim=True), dim=1)
        side = torch.linalg.cross(up, forward2, dim=1)
        linear = torch.cat(
            [
                v,
                length(h),
                norm - norm.mean(dim=2, keepdim=True),
                (h * forward1).sum(dim=1, keepdim=True),
                (h * forward2).sum(dim=1, keepdim=True),
                (h * side).sum(dim=1, keepdim=True).abs(),
            ],
            dim=1,
        )
        deviation = (linear - linear.mean(dim=2, keepdim=True)).square().mean(dim=2).sqrt()
        gv, gh = split(gyro - gyro.mean(dim=2, keepdim=True), up)
        turning = torch.cat([gv.abs(), length(gh)], dim=1)
        companded = asinh(linear / self.compand_scale) / 2
        channels = torch.cat([linear, companded, turning], dim=1)
        strongly = F.relu(torch.log(shaken / self.strong + 1e-6))
        sizes = torch.cat([torch.log(deviation + 1e-2), strongly], dim=1)
        return channels, torch.stack([h, gh], dim=2), sizes

    def sized(self, v: Tensor) -> Tensor:
        """Vectors (N, k, T) over their rms length, times SIZE."""
        rms = v.square().sum(dim=1, keepdim=True).mean(dim=2, keepdim=True).sqrt()
        return v * (self.size / (rms + self.size_floor))

    def fit_scales(self, x: Tensor) -> None:
        """Set the normalising constants of the gaits from training windows (N, T, 6)."""
        channels, level, size = self.describe(*self.hip_frame(x))
        self.mean.copy_(channels.mean(dim=(0, 2)))
        self.std.copy_(channels.std(dim=(0, 2)))
        self.level_std.copy_(level.square().mean(dim=(0, 1, 3)).sqrt())
        self.size_mean.copy_(size.mean(dim=0))
        self.size_std.copy_(size.std(dim=0).clamp(min=0.1))  # no one runs in HAPT

    def fit_sway(self, x: Tensor) -> None:
        """Set those of the postures from windows (N, T, 6) of people at rest."""
        numbers = self.sway(x)
        self.sway_mean.copy_(numbers.mean(dim=0))
        self.sway_std.copy_(numbers.std(dim=0))

    def sway(self, x: Tensor) -> Tensor:
        """Of windows (N, T, 6), (N, SWAY)."""
        return sway(x, *still_frame(x, turning(x, self.rate_hz)))
