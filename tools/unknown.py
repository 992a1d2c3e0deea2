"""Measure what becomes `unknown`: unseen motions by score, at the threshold that loses 2 % of known windows.

Known: windows wholly within HAPT's labelled stretches. Unseen: windows of which a transition between postures
fills half or more, and MotionSense's jogging, for models that do not know it. Thresholds come from the
official training people; what is lost and caught is the nine test people's, and of jogging everybody's.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from rich.console import Console
from rich.table import Table

from hard.datasets import cut, data_dir, features
from hard.datasets.hapt import LABELS, TEST_USERS, TRAIN_USERS, Session, read_sessions, read_transitions
from hard.model import Model, load_model
from hard.novelty import measure
from hard.recordings import read_recording
from hard.types import F32, F64, Windowing
from tools.options import answer, ask

LOSS: Final = 0.02
EVERY: Final = 32  # samples from window to window


class Row(msgspec.Struct, frozen=True):
    """One score and its threshold; shares 0-1 of the windows above it."""

    score: str
    threshold: float
    known: float  # lost, of the test people
    transitions: float  # of the test people
    jogging: float | None  # None: the data or the need is absent


class UnknownScore(msgspec.Struct, frozen=True):
    """All scores; the JSON that `--json` prints."""

    model: str
    known: int  # windows of the test people
    transitions: int
    jogging: int
    rows: list[Row]
    by_activity: dict[str, float]  # known windows lost by the card's own bounds


def evaluate_unknown(model: Model, data: Path) -> UnknownScore:
    w, card = model.card.windowing, model.card
    between = read_transitions(data)
    seen, _ = known(read_sessions(data, TRAIN_USERS), w)
    sessions = read_sessions(data, TEST_USERS)
    test, labels = known(sessions, w)
    moving = transitions(sessions, between, w)
    jog = jogging(data, w) if "running" not in card.labels else np.empty((0, *test.shape[1:]), np.float32)

    def bounded(x: F32) -> F64:
        motion = measure(x)
        known_range = card.motion_range
        return np.array(
            [
                float(bool(motion.reason(i, known_range) or motion.passing(i, known_range)))
                for i in range(len(x))
            ]
        )

    scores: dict[str, Callable[[F32], F64]] = {
        "tilt, degrees": lambda x: np.array(measure(x).tilt_deg),
        "body acceleration, g": lambda x: np.array(measure(x).body_g),
        "angular velocity, rad/s": lambda x: np.array(measure(x).gyro_rad_s),
        "1 - greatest probability": lambda x: 1.0 - model.predict(x).max(axis=1).astype(np.float64),
    }
    rows = []
    for name, score in scores.items():
        threshold = float(np.quantile(score(seen), 1 - LOSS))
        rows.append(_row(name, threshold, score, test, moving, jog))
    rows.append(_row("the card's bounds", 0.5, bounded, test, moving, jog))
    lost = bounded(test) > 0.5
    by_activity = {
        name: round(float(lost[labels == i].mean()), 4)
        for i, name in enumerate(LABELS)
        if (labels == i).any()
    }
    return UnknownScore(card.name, len(test), len(moving), len(jog), rows, by_activity)


def _row(name: str, threshold: float, score: Callable[[F32], F64], test: F32, moving: F32, jog: F32) -> Row:
    shares = [float((score(x) > threshold).mean()) if len(x) else None for x in (test, moving, jog)]
    assert shares[0] is not None
    assert shares[1] is not None
    return Row(name, round(threshold, 3), shares[0], shares[1], shares[2])


def known(sessions: Sequence[Session], w: Windowing) -> tuple[F32, F64]:
    """Windows wholly within a labelled stretch, (N, window, 9), and their labels (N,)."""
    x, y = [], []
    for s, stream in zip(sessions, features([s.recording for s in sessions], w), strict=True):
        for label, first, end in s.segments:
            starts = range(first, end - w.window + 1, EVERY)
            if starts:
                x.append(cut(stream, starts, w.window))
                y += [float(label)] * len(starts)
    return np.concatenate(x), np.array(y)


def transitions(sessions: Sequence[Session], between: np.ndarray, w: Windowing) -> F32:
    """Windows of which a transition fills half or more, (N, window, 9)."""
    x = []
    for s, stream in zip(sessions, features([s.recording for s in sessions], w), strict=True):
        inside = np.zeros(len(stream) + 1)
        for _, first, end in between[between[:, 0] == s.exp]:
            inside[first + 1 : end + 1] = 1
        total = np.cumsum(inside)
        starts = np.arange(0, len(stream) - w.window + 1, EVERY)
        starts = starts[total[starts + w.window] - total[starts] >= w.window / 2]
        if len(starts):
            x.append(cut(stream, starts.tolist(), w.window))
    return np.concatenate(x)


def jogging(data: Path, w: Windowing) -> F32:
    """MotionSense's windows of jogging, the phone in a trouser pocket; none where the data is absent."""
    paths = sorted((data / "motionsense" / "A_DeviceMotion_data").glob("jog_*/sub_*.csv*"))
    x = [np.empty((0, w.window, 9), np.float32)]
    streams = features([read_recording(path) for path in paths], w) if paths else []
    x += [cut(stream, range(0, len(stream) - w.window + 1, EVERY), w.window) for stream in streams]
    return np.concatenate(x)


def show(result: UnknownScore, console: Console) -> None:
    console.print(
        f"[bold]{result.model}[/bold]: {result.known:,} known windows of the test people, "
        f"{result.transitions:,} of transitions, {result.jogging:,} of jogging; a threshold loses "
        f"{100 * LOSS:g} % of the training people's"
    )
    table = Table("unknown where more than", "threshold", "known lost", "transitions", "jogging")
    for row in result.rows:
        shares = [
            f"{100 * v:.1f} %" if v is not None else "-" for v in (row.known, row.transitions, row.jogging)
        ]
        table.add_row(row.score, "" if row.score.startswith("the card") else f"{row.threshold:g}", *shares)
    console.print(table)
    lost = ", ".join(f"{name} {100 * share:.1f} %" for name, share in result.by_activity.items())
    console.print(f"known windows lost by the card's bounds: {lost}", highlight=False)


def main(args: argparse.Namespace) -> None:
    """`tools/evaluate.py unknown`."""
    result = evaluate_unknown(load_model(args.model), data_dir(args.data))
    answer(result, args, show)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    ask(parser)
