"""Measure a model of the waist in MotionSense's trouser pockets, as the phones came and calibrated.

Each person's standing and walking of one trial each (std_6, wlk_7) calibrate; the other trials are judged.
Whoever is refused stays as they came. These people took no part in training the models of the waist.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from rich.console import Console
from rich.table import Table

from hard import gait
from hard.datasets import cut, data_dir, features
from hard.model import Model, load_model
from hard.recordings import Recording, read_recording
from hard.types import HardError
from tools.worn import turned

LABELS: Final = {
    "wlk": "walking",
    "ups": "walking_upstairs",
    "dws": "walking_downstairs",
    "sit": "sitting",
    "std": "standing",
}
STAND: Final = "std_6"
WALK: Final = "wlk_7"
_TRIAL: Final = re.compile(r"([a-z]+)_\d+/sub_(\d+)\.csv")


class ElsewhereScore(msgspec.Struct, frozen=True):
    """Share of windows right, 0-1, by activity; every activity counts alike in the means."""

    users: int
    refused: int  # people whose calibration was
    before: dict[str, float]
    after: dict[str, float]  # calibrated

    @property
    def means(self) -> tuple[float, float]:
        return float(np.mean(list(self.before.values()))), float(np.mean(list(self.after.values())))


def evaluate_elsewhere(model: Model, data: Path) -> ElsewhereScore | None:
    """None where MotionSense is absent."""
    trials: dict[int, dict[str, Recording]] = {}
    for path in sorted((data / "motionsense" / "A_DeviceMotion_data").glob("*/sub_*.csv*")):
        found = _TRIAL.search(path.as_posix())
        if found and found[1] in LABELS:
            trials.setdefault(int(found[2]), {})[path.parent.name] = read_recording(path)
    before: dict[str, list[bool]] = {label: [] for label in LABELS.values()}
    after: dict[str, list[bool]] = {label: [] for label in LABELS.values()}
    refused = 0
    for mine in trials.values():
        try:
            rotation = _calibrated(mine)
        except (HardError, KeyError):
            refused += 1
            rotation = np.eye(3)
        for name, recording in mine.items():
            if name not in (STAND, WALK):
                label = LABELS[name.partition("_")[0]]
                for shares, r in ((before, recording), (after, turned(recording, rotation))):
                    shares[label] += _right(model, r, label)
    if not trials:
        return None
    means = ({label: float(np.mean(v)) for label, v in shares.items() if v} for shares in (before, after))
    return ElsewhereScore(len(trials), refused, *means)


def _calibrated(trials: dict[str, Recording]) -> np.ndarray:
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
    result = evaluate_elsewhere(load_model(args.model), data_dir(args.data))
    if result is None:
        raise HardError("no motionsense/A_DeviceMotion_data in the data folder")
    if args.json:
        print(msgspec.json.encode(result).decode())
    else:
        show(result, Console())


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default="lstm-waist", help="name or folder (default: %(default)s)")
    parser.add_argument("--data", type=Path, help="data folder (default: HARD_DATA, ../shared/data, data)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
