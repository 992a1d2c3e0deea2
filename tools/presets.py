"""What can be trained: a network, the schedule it was tuned with, and what its card says of it."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from hard.imu import CHANNELS
from hard.nets.acc import LstmAcc
from hard.nets.lstm import Lstm
from hard.nets.posture import PostureLstm
from hard.nets.published import ResidualBiLstm, StackedLstm
from hard.types import MotionRange, Worn

SensorNet = Lstm | LstmAcc | StackedLstm | ResidualBiLstm  # a PostureLstm is an Lstm


class Preset(msgspec.Struct, frozen=True):
    """One entry of --preset."""

    build: Callable[[int, int], SensorNet]  # numbers of labels and of channels -> untrained network
    epochs: int
    batch: int
    lr: float
    summary: str
    intended_use: str
    limitations: list[str]
    licence: str
    training: dict[str, str]
    weight_decay: float = 0.01
    clip: float = 1.0  # largest norm of a gradient
    temperature: float = 1.0  # divides the exported logits; --folds finds it
    channels: tuple[str, ...] = CHANNELS
    motion_range: MotionRange | None = None
    worn: Worn | None = None


HAPT_LICENCE = (
    "weights: MIT. Data: cite J.-L. Reyes-Ortiz, L. Oneto, A. Sama, X. Parra, D. Anguita: Transition-Aware "
    "Human Activity Recognition Using Smartphones, Neurocomputing 171 (2016); no commercial use of the data"
)

TRAINING = {
    "data": "HAPT raw recordings, the 21 training people (1, 3, 5-8, 11, 14-17, 19, 21-23, 25-30)",
    "windows": (
        "through the daemon's own Imu: the official UCI HAR places, any phase inside a labelled "
        "stretch, and streams that start in the middle of an activity"
    ),
    "augmentation": "random rotations (15 degrees) and gains (5 %)",
    "selection": "leave-subjects-out over the training people; the nine test people took no part",
}

RULE = (
    "sitting against standing: logistic regression over the sway since the last movement, without "
    "augmentation; official places and any phase, every bout weighs alike"
)

LSTM_WAIST = Preset(
    build=PostureLstm,
    epochs=24,
    batch=128,
    lr=3e-3,
    temperature=0.58,
    summary="Six activities from a phone at the waist: an LSTM, and how the body sways since it last moved",
    intended_use=(
        "A phone fixed at the waist or belt in the orientation of HAPT: long axis sideways, so that "
        "standing reads about +1 g on x; Android sign; 20-400 Hz, resampled to 50 Hz"
    ),
    limitations=[
        "not made for other places (pocket, hand, wrist): the postures are told by tilt; turned otherwise, "
        "the phone needs `hard calibrate`",
        "most errors take sitting for standing, or going upstairs for walking, and fall on a few people; "
        "sitting and standing are told better the longer a body rests",
        "six activities only: other motion gets one of the six labels, unless it is beyond motion_range",
        "30 people aged 19-48, one phone model (Galaxy S II), one laboratory protocol",
        "probabilities are calibrated on people left out of training; other places and phones were not tried",
    ],
    licence=HAPT_LICENCE,
    training=TRAINING | {"rule": RULE},
    motion_range=MotionRange(1.0, 3.0, 5.5),  # labelled windows of the training people: at most 0.81 and
    # 2.37; 2 % of them are above 5.5 degrees, as are nine in ten of transitions (tools/evaluate.py unknown)
    worn=Worn([1.0, 0.0, 0.0], 45.0),  # walking training people: at most 39 degrees off in 99.5 % of windows
)

LSTM_ACC = msgspec.structs.replace(
    LSTM_WAIST,
    build=LstmAcc,
    temperature=0.67,  # out of fold
    channels=tuple(name for name in CHANNELS if not name.startswith("gyro")),
    summary="Six activities from a waist phone without a gyroscope: two LSTMs and a posture rule",
    intended_use=f"{LSTM_WAIST.intended_use}; without a gyroscope (with one, lstm-waist is better)",
    limitations=[
        *LSTM_WAIST.limitations[:1],
        "sitting and standing are told by tilt and sway alone and taken for each other far more often than "
        "by lstm-waist: a standing body turns about the vertical, which only a gyroscope feels",
        "walking and walking upstairs of a few people are taken for each other",
        *LSTM_WAIST.limitations[2:],
    ],
    training=LSTM_WAIST.training
    | {"augmentation": "random rotations (15 degrees for one LSTM, 4 for the other) and gains (5 %)"},
)

STACKED_LSTM = msgspec.structs.replace(
    LSTM_WAIST,
    build=StackedLstm,
    temperature=1.0,
    epochs=20,
    lr=2.5e-3,
    weight_decay=1.5e-3,
    summary="Published baseline: two stacked LSTM layers of 32; for comparison, not shipped",
    limitations=LSTM_WAIST.limitations[:1],
    training=TRAINING,
)

RESIDUAL_BILSTM = msgspec.structs.replace(
    LSTM_WAIST,
    build=ResidualBiLstm,
    temperature=1.0,
    epochs=56,
    lr=3e-3,
    weight_decay=5e-3,
    clip=15.0,
    summary="Published baseline: 3 x 3 residual bidirectional LSTM of 28; for comparison, not shipped",
    limitations=LSTM_WAIST.limitations[:1],
    training=TRAINING,
)

SHIPPED = {"lstm-waist": LSTM_WAIST, "lstm-acc": LSTM_ACC}
PRESETS = SHIPPED | {"stacked-lstm": STACKED_LSTM, "residual-bilstm": RESIDUAL_BILSTM}
