"""Measure which model a phone gets by how it is carried, and what that choice is worth.

Whole recordings go through the daemon's recognizer, each as a device of its own, with the model for phones
worn as its card says, with the model for anywhere, and with the choice between them. A window counts where
one labelled stretch holds all of it.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from rich.console import Console
from rich.table import Table

from hard.datasets import data_dir, hapt, motionsense
from hard.model import Model, load_model
from hard.recognizer import Recognizer
from hard.recordings import Recording
from tools.options import answer, ask
from tools.worn import any_rotation, turned

WAYS: Final = ("HAPT, test people: waist", "the same, turned at random", "MotionSense: trouser pocket")
Stretches = Sequence[tuple[str, float, float]]  # activity, and from when to when in seconds


class CarriedScore(msgspec.Struct, frozen=True):
    """Shares of windows, 0-1, of one way to carry the phone."""

    way: str
    windows: int
    worn: float  # that got the model for phones worn as its card says
    right: dict[str, float]  # of each model alone, and of the choice


def evaluate_carried(
    model: Model, elsewhere: Model, data: Path, seed: int = 0, gyro: bool = True
) -> list[CarriedScore]:
    """MotionSense's people are those that lstm-pocket was trained on: only `worn` is news of them.

    gyro: whether the phones have a gyroscope.
    """
    rng = np.random.default_rng(seed)
    belt = [
        (s.recording, [(hapt.LABELS[y], a / 50, b / 50) for y, a, b in s.segments])
        for s in hapt.read_sessions(data, hapt.TEST_USERS)
    ]
    anyhow = [(turned(recording, any_rotation(rng)), stretches) for recording, stretches in belt]
    pocket = [
        (t.recording, [(t.activity, float(t.recording.t[0]), float(t.recording.t[-1]) + 1.0)])
        for t in motionsense.read_trials(data)
    ]
    return [
        _score(way, list(recordings), model, elsewhere, gyro)
        for way, recordings in zip(WAYS, (belt, anyhow, pocket), strict=True)
    ]


def _score(
    way: str, recordings: list[tuple[Recording, Stretches]], model: Model, elsewhere: Model, gyro: bool
) -> CarriedScore:
    right: dict[str, list[bool]] = {}
    worn = []
    for recording, stretches in recordings:
        for name, recognizer in (
            (model.card.name, Recognizer(model, acc_model=model)),
            (elsewhere.card.name, Recognizer(elsewhere, acc_model=elsewhere)),
            ("the choice", chosen := Recognizer(model, acc_model=model, elsewhere_model=elsewhere)),
        ):
            for truth, said, by in _labelled(recognizer, recording, stretches, gyro):
                right.setdefault(name, []).append(truth == said)
                if recognizer is chosen:
                    worn.append(by == model.card.name)
    shares = {name: float(np.mean(hits)) for name, hits in right.items()}
    return CarriedScore(way, len(worn), float(np.mean(worn)), shares)


def _labelled(
    recognizer: Recognizer, recording: Recording, stretches: Stretches, gyro: bool
) -> Iterator[tuple[str, str, str]]:
    """Truth, the likeliest activity and the model of every window within a labelled stretch."""
    w = recognizer.model.card.windowing
    length_s = (w.window - 1) / w.rate_hz
    for p in recognizer.push("a", recording.t, recording.samples[:, : 6 if gyro else 3]):
        for activity, begin_s, end_s in stretches:
            if begin_s - 1e-6 <= p.t_end - length_s and p.t_end < end_s:
                yield activity, max(p.probabilities, key=p.probabilities.__getitem__), p.model


def show(scores: Sequence[CarriedScore], model: str, console: Console) -> None:
    table = Table("", "windows", f"got {model}", *(f"right: {name}" for name in scores[0].right))
    for s in scores:
        shares = (f"{100 * share:.1f} %" for share in (s.worn, *s.right.values()))
        table.add_row(s.way, f"{s.windows:,}", *shares)
    console.print(table)


def main(args: argparse.Namespace) -> None:
    """`tools/evaluate.py carried`."""
    model, elsewhere = load_model(args.model), load_model(args.elsewhere_model)
    scores = evaluate_carried(model, elsewhere, data_dir(args.data), args.seed, not args.no_gyro)
    answer(scores, args, lambda found, console: show(found, model.card.name, console))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    ask(parser)
    parser.add_argument("--elsewhere-model", default="lstm-pocket", help="likewise (default: %(default)s)")
    parser.add_argument("--no-gyro", action="store_true", help="phones without one, for --model lstm-acc")
    parser.add_argument("--seed", type=int, default=0, help="of the rotations")
