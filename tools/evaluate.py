"""Measure a model: on the official UCI HAR test windows, on continuous recordings, on video clips."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import get_args

import msgspec
import numpy as np
from numpy.typing import NDArray
from rich.console import Console

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # `python tools/x.py` and `python -m tools.x`

from hard.datasets import data_dir
from hard.datasets.hapt import LABELS, Official, official_windows
from hard.model import Model, Precision, load_model
from hard.types import F32, HardError
from tools import carried, elsewhere, evaluate_sets, own, report, stream, unknown, video_score, worn
from tools.options import answer, ask
from tools.scores import ClassScore, calibration_error, confusion_matrix, per_class, tables
from tools.stretches import after_those_before, steady_at_ends

OTHERS = {
    "stream": (stream, "raw and steady labels on HAPT's test recordings"),
    "video": (video_score, "a video model on clips, as a camera plays them"),
    "sets": (evaluate_sets, "any sensor model on HAPT, MotionSense or sp_sw_har, as recorded or turned"),
    "calibration": (worn, "recordings turned at random, and calibrated"),
    "carried": (carried, "which model a phone gets by how it is carried"),
    "elsewhere": (elsewhere, "MotionSense's pockets, as they came and calibrated"),
    "personal": (own, "heads for each of HAPT's test people"),
    "unknown": (unknown, "motions that no model was trained on"),
    "report": (report, "all models on one HTML page"),
}
"""Kinds of measurement that are modules of their own, with functions `add_arguments` and `main`."""


class Score(msgspec.Struct, frozen=True):
    """What a model reached; the JSON that `--json` prints."""

    model: str
    n: int
    accuracy: float
    macro_f1: float
    n_count_matched: int
    accuracy_count_matched: float  # over the windows whose place in the recording is certain
    accuracy_alone: float  # of windows of which nothing before is known: less for a model with a state
    accuracy_steady: float  # of the daemon's steady label at each window's end; see stretches.py
    accuracy_steady_count_matched: float
    calibration_error: float
    labels: list[str]
    confusion: list[list[int]]  # rows: truth, columns: prediction
    per_class: dict[str, ClassScore]


def evaluate(model: Model, data: Path) -> Score:
    """Score a model on the 2,947 test windows of nine people; raises HardError for other labels."""
    if tuple(model.card.labels) != LABELS:
        raise HardError(f"{model.card.name}: labels {model.card.labels}; expected {list(LABELS)}")
    x, official = official_windows(data, "test", model.card.windowing)
    alone = model.predict(x)
    probabilities = after_those_before(model, data, official)
    return score(model.card.name, official, probabilities, alone, steady_at_ends(model, data, official))


def score(model: str, official: Official, probabilities: F32, alone: F32, steady: NDArray[np.int64]) -> Score:
    """All figures of a model's probabilities (N, 6), of those of windows by themselves, and of steady labels.

    steady: (N,) indices into LABELS.
    """
    y, certain = official.y, official.count_matched
    predicted = probabilities.argmax(axis=1)
    confusion = confusion_matrix(y, predicted, len(LABELS))
    classes = per_class(confusion, LABELS)
    right = y == predicted
    return Score(
        model=model,
        n=len(y),
        accuracy=float(right.mean()),
        macro_f1=float(np.mean([c.f1 for c in classes.values()])),
        n_count_matched=int(certain.sum()),
        accuracy_count_matched=float(right[certain].mean()),
        accuracy_alone=float((alone.argmax(axis=1) == y).mean()),
        accuracy_steady=float((steady == y).mean()),
        accuracy_steady_count_matched=float((steady == y)[certain].mean()),
        calibration_error=calibration_error(probabilities.max(axis=1), right),
        labels=list(LABELS),
        confusion=confusion.tolist(),
        per_class=classes,
    )


def show(result: Score, console: Console) -> None:
    console.print(
        f"[bold]{result.model}[/bold] on {result.n:,} official test windows: "
        f"accuracy {100 * result.accuracy:.2f} %, macro F1 {result.macro_f1:.4f}\n"
        f"windows whose place is certain ({result.n_count_matched:,}): "
        f"{100 * result.accuracy_count_matched:.2f} %\n"
        f"every window by itself, nothing known from before: {100 * result.accuracy_alone:.2f} %\n"
        "steady label at each window's end, every stretch a recording of its own: "
        f"{100 * result.accuracy_steady:.2f} %; of certain ones "
        f"{100 * result.accuracy_steady_count_matched:.2f} %\n"
        f"expected calibration error: {100 * result.calibration_error:.2f} %"
    )
    console.print(*tables(result.labels, result.per_class, result.confusion))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    kinds = parser.add_subparsers(dest="kind", required=True)
    sensor = kinds.add_parser("sensor", help="a sensor model on UCI HAR's official test windows")
    ask(sensor)
    sensor.add_argument(
        "--precision", choices=get_args(Precision), default="auto", help="see engine.precision"
    )
    for name, (module, text) in OTHERS.items():
        module.add_arguments(kinds.add_parser(name, help=text))
    args = parser.parse_args()
    if args.kind in OTHERS:
        OTHERS[args.kind][0].main(args)
        return
    result = evaluate(load_model(args.model, precision=args.precision), data_dir(args.data))
    answer(result, args, show)


if __name__ == "__main__":
    try:
        main()
    except HardError as e:
        sys.exit(f"error: {e}")
