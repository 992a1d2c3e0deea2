"""What can be trained on clips and stills: a network, and the settings its authors give, or ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec
from torch import nn

from hard.nets.cnn_lstm15 import CnnLstm15
from hard.nets.conv_lstm import ConvLstm
from hard.nets.frame_cnn import FrameCnn
from hard.nets.lrcn import Lrcn
from hard.nets.residual import Residual
from tools.fit import Schedule
from tools.pretrained import Pretrained


class VideoPreset(msgspec.Struct, frozen=True):
    """One entry of --preset, but for `webcam`, which makes its own clips (tools/webcam.py)."""

    build: Callable[[int], nn.Module]  # number of labels -> untrained network
    frames: int  # of a clip, evenly spaced over the video; of images, so many make a clip
    size: int  # pixels, square
    schedule: Schedule
    by_frame: bool = False  # the network looks at single frames; a clip gets their mean probabilities
    augmentation: tuple[str, ...] = ()
    test: float = 0.25  # share of the groups
    validation: float = 0.2  # share of the groups that are left


PRESETS: Final = {
    "lrcn": VideoPreset(Lrcn, 20, 64, Schedule(epochs=70, batch=4, patience=15)),
    "cnn": VideoPreset(FrameCnn, 20, 64, Schedule(epochs=50, batch=4, patience=15), by_frame=True),
    "convlstm": VideoPreset(ConvLstm, 20, 64, Schedule(epochs=50, batch=4, patience=10)),
    "cnn-lstm-15": VideoPreset(
        CnnLstm15,
        10,
        128,
        Schedule(epochs=10, batch=8),
        augmentation=("flip", "rotation", "brightness"),
        test=0.2,
        validation=0.1,
    ),
    "stills": VideoPreset(
        Residual,
        1,
        64,
        Schedule(epochs=60, batch=64, lr=4e-3, one_cycle=True, weight_decay=0.05, smoothing=0.1, mix=True),
        by_frame=True,
        augmentation=("flip", "rotation", "brightness", "crop"),
        test=0.2,
        validation=0.1,
    ),
    "stills-pretrained": VideoPreset(
        Pretrained,
        1,
        128,
        Schedule(epochs=3, batch=32, lr=3e-4, one_cycle=True, weight_decay=0.02, smoothing=0.1),
        by_frame=True,
        augmentation=("flip", "rotation", "brightness", "crop"),
        test=0.2,
        validation=0.1,
    ),
}
