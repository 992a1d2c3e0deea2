"""Measure a model of the waist in MotionSense's trouser pockets, as the phones came and calibrated.

Each person's standing and walking of one trial each (std_6, wlk_7) calibrate; the other trials are judged.
Whoever is refused stays as they came. These people took no part in training the models of the waist.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from rich.console import Console
from rich.table import Table

from hard.datasets import cut, data_dir, features, motionsense
from hard.model import Model, load_model
from hard.personal import gait
from hard.recordings import Recording
from hard.types import HardError
from tools.options import answer, ask
from tools.worn import turned

STAND: Final = "standing", 6
WALK: Final = "walking", 7


class ElsewhereScore(msgspec.Struct, frozen=True):
    """Share of windows right, 0-1, by activity; every activity counts alike in the means."""

    users: int
    refused: int  # people whose calibration was
    before: dict[str, float]
    after: dict[str, float]  # calibrated

    @property
    def means(self) -> tuple[float, float]:
        return float(np.mean(list(self.before.values()))), float(np.mean(list(self.after.values())))


def evaluate_elsewhere(model: Model, data: Path) -> ElsewhereScore:
    trials: dict[int, dict[tuple[str, int], Recording]] = {}
    for trial in motionsense.read_trials(data):
        if trial.activity in model.card.labels:
            trials.setdefault(trial.user, {})[trial.activity, trial.number] = trial.recording
    before: dict[str, list[bool]] = {}
    after: dict[str, list[bool]] = {}
    refused = 0
    for mine in trials.values():
        try:
            rotation = _calibrated(mine)
        except (HardError, KeyError):
            refused += 1
            rotation = np.eye(3)
        for (label, number), recording in mine.items():
            if (label, number) not in (STAND, WALK):
                for shares, r in ((before, recording), (after, turned(recording, rotation))):
                    shares.setdefault(label, []).extend(_right(model, r, label))
    means = ({label: float(np.mean(v)) for label, v in shares.items() if v} for shares in (before, after))
    return ElsewhereScore(len(trials), refused, *means)


def _calibrated(trials: dict[tuple[str, int], Recording]) -> np.ndarray:
    acc = np.concatenate([trials[name].samples[:, :3] for name in (STAND, WALK)]).astype(np.float64)
    return np.array(gait.fit(np.arange(len(acc)) / gait.RATE_HZ, acc).rotation)


def _right(model: Model, recording: Recording, label: str) -> list[bool]:
    w = model.card.windowing
    (stream,) = features([recording], w)
    starts = range(0, len(stream) - w.window + 1, w.hop)
    if not starts:
        return []
    hits: list[bool] = (
        model.predict(cut(stream, starts, w.window)).argmax(axis=1) == model.card.labels.index(label)
    ).tolist()
    return hits


def show(result: ElsewhereScore, console: Console) -> None:
    console.print(
        f"MotionSense, the phone in a trouser pocket: {result.users} people, of whom {result.refused} were "
        "refused and stay as they came"
    )
    table = Table("activity", "as they came", "calibrated")
    for label, share in result.before.items():
        table.add_row(label, f"{100 * share:.1f} %", f"{100 * result.after[label]:.1f} %")
    table.add_row("mean", *(f"{100 * share:.1f} %" for share in result.means), style="bold")
    console.print(table)


def main(args: argparse.Namespace) -> None:
    """`tools/evaluate.py elsewhere`."""
    answer(evaluate_elsewhere(load_model(args.model), data_dir(args.data)), args, show)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    ask(parser)
