"""Measure what `hard calibrate` buys: recordings as they are, turned at random, and turned back by gait."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from hard.datasets import cut, data_dir, features
from hard.datasets.hapt import (
    LABELS,
    TEST_USERS,
    TRAIN_USERS,
    Official,
    Session,
    read_official,
    read_sessions,
)
from hard.model import Model, load_model
from hard.personal import gait
from hard.recordings import Recording
from hard.types import F64, HardError
from tools.options import answer, ask

WAYS = ("as recorded", "turned", "turned, calibrated", "as recorded, calibrated")


class WornScore(msgspec.Struct, frozen=True):
    """Accuracy on the official windows by how the recordings were turned; the JSON that `--json` prints."""

    model: str
    users: list[int]
    n: int
    accuracy: dict[str, float]  # by WAYS
    accuracy_found: dict[str, float]  # the same without the recordings that were refused
    error_deg: list[float]  # per recording, of the rotation found in the turned from that in the original
    refused: list[str]  # recordings in which no rotation was found, and why; they stay turned


def turned(recording: Recording, rotation: NDArray[np.float64]) -> Recording:
    """The same motion of a phone turned by a rotation (3, 3)."""
    samples = recording.samples.astype(np.float64).reshape(-1, 2, 3) @ rotation.T
    return Recording(recording.name, recording.t, samples.reshape(-1, 6).astype(np.float32))


def any_rotation(rng: np.random.Generator) -> NDArray[np.float64]:
    """A rotation (3, 3), every one equally likely: a random quaternion's."""
    w, x, y, z = (q := rng.normal(size=4)) / np.linalg.norm(q)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def angle_of(rotation: NDArray[np.float64]) -> float:
    """Degrees by which a rotation (3, 3) turns."""
    return float(np.degrees(np.arccos(np.clip((np.trace(rotation) - 1) / 2, -1.0, 1.0))))


def evaluate_worn(model: Model, sessions: Sequence[Session], official: Official, seed: int = 0) -> WornScore:
    """Score the windows of these recordings; whoever wears the phone is calibrated by his own recording."""
    rng = np.random.default_rng(seed)
    versions: dict[str, list[Recording]] = {way: [] for way in WAYS}
    errors: list[float] = []
    refused: list[str] = []
    left: set[int] = set()
    for s in sessions:
        rotation = any_rotation(rng)
        lost = turned(s.recording, rotation)
        versions["as recorded"].append(s.recording)
        versions["turned"].append(lost)
        try:
            first, second = (np.array(_fit(r).rotation) for r in (s.recording, lost))
        except HardError as e:
            left.add(s.exp)
            refused.append(f"{s.recording.name}: {e}")
            first, second = np.eye(3), np.eye(3)
        else:
            errors.append(round(angle_of(second @ rotation @ first.T), 2))
        versions["turned, calibrated"].append(turned(lost, second))
        versions["as recorded, calibrated"].append(turned(s.recording, first))
    mine = np.isin(official.exp, [s.exp for s in sessions])
    accuracy, accuracy_found = {}, {}
    for way, recordings in versions.items():
        streams = features(recordings, model.card.windowing)
        right: dict[int, NDArray[np.bool_]] = {}
        for s, stream in zip(sessions, streams, strict=True):
            rows = official.exp == s.exp
            x = cut(stream, official.start[rows].tolist(), model.card.windowing.window)
            right[s.exp] = model.predict(x).argmax(axis=1) == official.y[rows]
        accuracy[way] = float(np.concatenate(list(right.values())).mean())
        found = [hits for exp, hits in right.items() if exp not in left]
        accuracy_found[way] = float(np.concatenate(found).mean()) if found else 0.0
    users = sorted({s.user for s in sessions})
    return WornScore(model.card.name, users, int(mine.sum()), accuracy, accuracy_found, errors, refused)


def _fit(recording: Recording) -> gait.Worn:
    return gait.fit(recording.t, recording.samples[:, :3].astype(np.float64))


def fit_constants(sessions: Sequence[Session]) -> tuple[F64, NDArray[np.complex128], int]:
    """What gait.UP and gait.WALK are, from labelled recordings; and from how many stretches of walking."""
    n = int(gait.WALK_S * gait.RATE_HZ)
    ups, walks = [], []
    for s in sessions:
        acc = s.recording.samples[:, :3].astype(np.float64)
        ups.append(
            np.concatenate([acc[a:b] for label, a, b in s.segments if LABELS[label] == "standing"]).mean(
                axis=0
            )
        )
        for label, first, end in s.segments:
            if LABELS[label] == "walking":  # without its first second
                parts = [acc[i : i + n] for i in range(first + 50, end - n + 1, n)]
                walks += [gait.gait(part, gait.level(ups[-1])) for part in parts]
    up = np.mean(ups, axis=0)
    return up / np.linalg.norm(up), np.mean(walks, axis=0), len(walks)


def show(result: WornScore, console: Console) -> None:
    console.print(
        f"[bold]{result.model}[/bold], {result.n:,} official windows of users {result.users}; each recording "
        "calibrated by its own stand and walk"
    )
    table = Table("recordings", "accuracy", "without those refused")
    for way, share in result.accuracy.items():
        table.add_row(way, f"{100 * share:.2f} %", f"{100 * result.accuracy_found[way]:.2f} %")
    console.print(table)
    console.print(
        "the rotation of a turned recording differs from the original's by at most "
        f"{max(result.error_deg, default=0.0):g} degrees"
    )
    for line in result.refused:
        console.print(f"refused, and left turned: {line}", highlight=False)


def main(args: argparse.Namespace) -> None:
    """`tools/evaluate.py calibration`: the nine test people; --fit: the constants, of the training people."""
    data = data_dir(args.data)
    if args.fit:
        up, walk, n = fit_constants(read_sessions(data, TRAIN_USERS))
        print(f"UP = {np.round(up, 3).tolist()}\nWALK = {np.round(walk, 3).tolist()}  # {n} stretches")
        return
    sessions = read_sessions(data, TEST_USERS)
    result = evaluate_worn(load_model(args.model), sessions, read_official(data, "test"), args.seed)
    answer(result, args, show)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    ask(parser)
    parser.add_argument("--seed", type=int, default=0, help="of the rotations (default: %(default)s)")
    parser.add_argument("--fit", action="store_true", help="print the constants of hard/personal/gait.py")
