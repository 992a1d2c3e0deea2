"""Measure a sensor model on labelled windows of HAPT, MotionSense or sp_sw_har, as recorded or turned."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from hard.datasets import data_dir
from hard.imu import CHANNELS
from hard.model import Model, load_model
from hard.types import F32
from tools.confusion import Confusion, show
from tools.options import answer, ask
from tools.pocket_pool import LABELS, SETS, at_hops, read_pocket_pool


def labelled_windows(
    model: Model, data: Path, data_set: str, *, hapt_test: bool, turn: int | None = None, ios: bool = False
) -> tuple[F32, NDArray[np.int64], NDArray[np.int64]]:
    """Every window a hop apart in every labelled stretch: x (N, window, 9), and label and person, (N,) each.

    Labels are indices of the model's, or -1 where it does not know one; people are numbered as in the pool.
    turn: seed of a random rotation for each stretch; ios: acceleration negated, as iPhones send it.
    """
    windowing = model.card.windowing
    pool = read_pocket_pool(data, windowing, [data_set], CHANNELS, hapt_test)
    starts, spans = at_hops(pool, windowing.hop)
    x: F32 = pool.windows(starts).numpy()
    if turn is not None:
        rotations = Rotation.random(len(pool.spans), random_state=turn).as_matrix()[spans]  # (N, 3, 3)
        x = np.einsum("nij,ntcj->ntci", rotations, x.reshape(*x.shape[:2], 3, 3)).reshape(x.shape)
        x = x.astype(np.float32)
    if ios:
        x = x * np.array([-1, -1, -1, 1, 1, 1, -1, -1, -1], np.float32)
    known = model.card.labels
    index = np.array([known.index(label) if label in known else -1 for label in LABELS])
    return x, index[pool.spans[spans, 2]], pool.spans[spans, 3]


def evaluate(
    model: Model, data: Path, data_set: str, *, hapt_test: bool, turn: int | None, ios: bool
) -> Confusion:
    """Of the windows that `labelled_windows` gives; what the model does not know is never right."""
    x, y, _ = labelled_windows(model, data, data_set, hapt_test=hapt_test, turn=turn, ios=ios)
    labels = list(model.card.labels)
    if (y < 0).any():
        labels.append("unknown to the model")
        y = np.where(y < 0, len(labels) - 1, y)
    return Confusion.of(labels, y, model.predict(x).argmax(axis=1))


def main(args: argparse.Namespace) -> None:
    """`tools/evaluate.py sets`."""
    model, test = load_model(args.model), args.people == "test"
    result = evaluate(model, data_dir(args.data), args.data_set, hapt_test=test, turn=args.turn, ios=args.ios)
    answer(result, args, lambda c, console: show(f"{model.card.name} on {args.data_set}", c, console))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    ask(parser, "lstm-pocket")
    parser.add_argument("--data-set", choices=SETS, required=True)
    parser.add_argument(
        "--people", choices=("train", "test"), default="test", help="of HAPT's official split"
    )
    parser.add_argument("--turn", type=int, metavar="SEED", help="turn the phone at random in every stretch")
    parser.add_argument("--ios", action="store_true", help="negate acceleration, as iPhones send it")
