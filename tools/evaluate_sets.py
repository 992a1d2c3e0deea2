"""Measure a sensor model on labelled windows of HAPT, MotionSense or sp_sw_har, as recorded or turned."""

from __future__ import annotations

import argparse
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from scipy.spatial.transform import Rotation

from hard.datasets import data_dir
from hard.imu import CHANNELS
from hard.model import Model, load_model
from hard.types import F32
from tools.confusion import Confusion, show
from tools.options import answer, ask
from tools.pocket_pool import LABELS, SETS, at_hops, read_pocket_pool
from tools.stretches import in_stretches


class Labelled(msgspec.Struct, frozen=True):
    """Every window a hop apart in every labelled stretch."""

    x: F32  # (N, window, 9)
    y: NDArray[np.int64]  # (N,) index of the model's labels, -1 where it does not know it
    person: NDArray[np.int64]  # (N,) as numbered in the pool
    stretch: NDArray[np.int64]  # (N,)


class SetScore(Confusion, frozen=True):
    """What a model said of windows, each after those before it in its stretch, and after nothing else."""

    accuracy_alone: float  # of windows of which nothing before is known: less for a model with a state


def labelled_windows(
    model: Model, data: Path, data_set: str, *, hapt_test: bool, turn: int | None = None, ios: bool = False
) -> Labelled:
    """turn: seed of a random rotation for each stretch; ios: acceleration negated, as iPhones send it."""
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
    return Labelled(x, index[pool.spans[spans, 2]], pool.spans[spans, 3], spans)


def evaluate(
    model: Model, data: Path, data_set: str, *, hapt_test: bool, turn: int | None, ios: bool
) -> SetScore:
    """Of the windows that `labelled_windows` gives; what the model does not know is never right."""
    windows = labelled_windows(model, data, data_set, hapt_test=hapt_test, turn=turn, ios=ios)
    y, labels = windows.y, list(model.card.labels)
    if (y < 0).any():
        labels.append("unknown to the model")
        y = np.where(y < 0, len(labels) - 1, y)
    said = in_stretches(model, windows.x, windows.stretch).argmax(axis=1)
    alone = float((model.predict(windows.x).argmax(axis=1) == y).mean())
    c = Confusion.of(labels, y, said)
    return SetScore(c.labels, c.counts, c.n, c.accuracy, c.recall, alone)


def show_score(name: str, score: SetScore, console: Console) -> None:
    show(name, score, console)
    console.print(f"every window by itself, nothing known from before: {100 * score.accuracy_alone:.2f} %")


def main(args: argparse.Namespace) -> None:
    """`tools/evaluate.py sets`."""
    model, test = load_model(args.model), args.people == "test"
    result = evaluate(model, data_dir(args.data), args.data_set, hapt_test=test, turn=args.turn, ios=args.ios)
    name = f"{model.card.name} on {args.data_set}"
    answer(result, args, lambda score, console: show_score(name, score, console))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    ask(parser, "lstm-pocket")
    parser.add_argument("--data-set", choices=SETS, required=True)
    parser.add_argument(
        "--people", choices=("train", "test"), default="test", help="of HAPT's official split"
    )
    parser.add_argument("--turn", type=int, metavar="SEED", help="turn the phone at random in every stretch")
    parser.add_argument("--ios", action="store_true", help="negate acceleration, as iPhones send it")
