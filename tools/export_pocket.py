"""Checkpoint of tools/train_pocket.py -> models/lstm-pocket, with the figures on what was left out."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Final

import msgspec
import torch
from rich.console import Console

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # `python tools/x.py` and `python -m tools.x`

from hard.card import Figure, SensorCard
from hard.datasets import data_dir
from hard.imu import CHANNELS
from hard.model import load_model
from hard.nets.pocket import LstmPocket
from hard.types import HardError, MotionRange, Windowing
from tools.evaluate_sets import evaluate
from tools.export import Stepping, export, load_weights, read_checkpoint, state_texts, write_card
from tools.pocket_pool import (
    AVERAGING_S,
    LABELS,
    POCKET_CHANNELS,
    SETS,
    TEMPERATURE,
    at_hops,
    read_pocket_pool,
)

NAME: Final = "lstm-pocket"
TOLERANCE: Final = 5e-5  # of a probability: in single precision they are within 2.2e-5 of double precision
LEFT_OUT: Final = ("subjects", *SETS)


def new_card(net: LstmPocket, command: str) -> SensorCard:
    """The model's card, without figures and sha256."""
    before, after = state_texts(net.state)
    return SensorCard(
        name=NAME,
        summary="Seven activities from a phone carried anywhere, turned any way, from Android or iOS",
        labels=list(LABELS),
        channels=list(POCKET_CHANNELS),
        sha256="",
        windowing=Windowing(),
        parameters=sum(p.numel() for p in net.parameters()),
        input=f"(N, 128, 6) float32: gyroscope xyz [rad/s], total acc xyz [g]{before}",
        output=f"(N, 7) float32: probabilities in the order of labels{after}",
        training={
            "data": (
                "raw recordings: HAPT, the 21 training people (waist, Galaxy S II); MotionSense, users 1-16 "
                "(front trouser pocket, iPhone 6s, sign turned to Android's); sp_sw_har, 23 people (front "
                "pocket, walking and a little sitting; without MotionSense it counts a tenth)"
            ),
            "windows": (
                "through the daemon's own Imu: any phase inside a labelled stretch; for the postures, runs "
                "of up to six windows a hop apart, each of which knows the sway of those before it"
            ),
            "augmentation": (
                "speed of the motion (12 %), its size and the gyroscope's (15 %), the phone 0.1 m elsewhere "
                "on the limb; for the gaits the acceleration's spectrum by 40 %, half of the windows with "
                "another set's spectra, the gyroscope also by 50 %, or absent; for the postures "
                "acceleration, gyroscope or what ties them absent; no rotations: they change nothing"
            ),
            "selection": (
                "HAPT's nine test people took no part, nor did MotionSense's users 17-24. The design was "
                "chosen by leaving out each of the three sets in turn, and people: some 130 designs "
                "were measured on MotionSense without training on it, so these figures are kind"
            ),
            "command": f"{command}; then python tools/export_pocket.py",
        },
        figures=[],
        intended_use=(
            "A phone in a trouser pocket or at the waist, turned any way; iOS or Android; 20-400 Hz, "
            "resampled to 50 Hz. Best with a gyroscope; without one (all zeros) 15 to 27 % fewer windows are "
            "right. A phone that always hangs at the waist as in HAPT is "
            "better off with lstm-waist, which sees the posture by the phone's tilt"
        ),
        limitations=[
            "sitting, standing and laying are told by how the body sways alone, since a phone turned any way "
            "shows no posture: at the waist they are taken for each other in one window of sixteen, in one "
            "of four in the first seconds after a movement",
            "laying is known from phones at the waist only, running from pockets only",
            "walking and stairs are taken for each other where people, phones or places are like none of the "
            "training sets: stairs for walking in MotionSense left out, slow walking around a cone for "
            "stairs in sp_sw_har left out; see the figures of sets left out",
            "hand, wrist, bag and coat pocket were never seen",
            "seven activities only: all else, transitions between postures too, gets one of the labels",
            "probabilities are calibrated on people left out of training; on a new set of recordings they "
            "are too sure: see the calibration errors of sets left out",
        ],
        licence=(
            "weights: MIT. Data: HAPT, cite J.-L. Reyes-Ortiz et al., Transition-Aware Human Activity "
            "Recognition Using Smartphones, Neurocomputing 171 (2016), no commercial use of the data; "
            "MotionSense, MIT, cite M. Malekzadeh et al., Mobile Sensor Data Anonymization, IoTDI 2019; "
            "sp_sw_har, CC BY 4.0, cite M. Matey-Sanz et al., Data in Brief 50 (2023)"
        ),
        gyro_optional=True,
        state=net.state,
        averaging_s=AVERAGING_S,
        motion_range=MotionRange(4.0, 9.0),  # labelled windows of MotionSense who jog: at most 3.42 and 5.92
    )


def figures(folder: Path, data: Path) -> list[Figure]:
    """What the written model reaches on HAPT's nine test people, as recorded and turned."""
    model = load_model(str(folder))
    out = []
    for turn, how in ((None, "as recorded"), (0, "turned at random")):
        result = evaluate(model, data, "hapt", hapt_test=True, turn=turn, ios=False)
        command = f"python tools/evaluate.py sets --model {NAME} --data-set hapt"
        command += "" if turn is None else f" --turn {turn}"
        place = f"hapt, the nine people of the official test, all labelled stretches, {how}"
        out.append(Figure("accuracy", round(result.accuracy, 4), place, command, result.n))
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path, nargs="?", default=Path("build/lstm-pocket/checkpoint.pt"))
    parser.add_argument("--data", type=Path, help="data folder (default: HARD_DATA, ../shared/data, data)")
    parser.add_argument("--out", type=Path, default=Path("models") / NAME, help="default: %(default)s")
    args = parser.parse_args()
    torch.set_num_threads(1)
    data = data_dir(args.data)
    saved = read_checkpoint(args.checkpoint, "tools/train_pocket.py")
    net = LstmPocket(len(LABELS))
    load_weights(net, saved, args.checkpoint)
    card = new_card(net, f"python tools/train_pocket.py --seed {saved['seed']}")
    pool = read_pocket_pool(data, card.windowing, SETS, CHANNELS)
    real = pool.windows(at_hops(pool, 16 * card.windowing.window)[0]).numpy()
    card = export(Stepping(net, TEMPERATURE), card, args.out, real, TOLERANCE)
    found = []
    for name in LEFT_OUT:
        path = args.checkpoint.with_name(f"{name}.json")
        if path.exists():
            found += msgspec.json.decode(path.read_bytes(), type=list[Figure])
    found += figures(args.out, data)
    write_card(args.out, msgspec.structs.replace(card, figures=found))
    Console().print(f"{args.out}: {card.parameters:,} parameters, sha256 {card.sha256[:12]}")


if __name__ == "__main__":
    try:
        main()
    except HardError as e:
        sys.exit(f"error: {e}")
