"""Measure what `hard personalize` gains: people left out of training, each with a head of their own."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from hard.datasets import data_dir, features
from hard.datasets.hapt import LABELS, TEST_USERS, Session, read_sessions
from hard.model import Model, load_model
from hard.personal import gait
from hard.personal.adapter import Adapter
from hard.personal.personalize import Track, labelled, make_head
from hard.recordings import Recording
from hard.types import F32, HardError
from tools.options import answer, ask
from tools.worn import turned

RATE_HZ: Final = 50
WAYS: Final = {
    "minute": "the first minute of each activity, over both of the person's recordings; judged on the rest",
    "other day": "one recording, if it holds all activities; judged on another, the phone put on anew",
}


class Gain(msgspec.Struct, frozen=True):
    """Share of windows right, 0-1, before and after."""

    user: int
    way: str
    n: int
    before: float
    after: float


class OwnScore(msgspec.Struct, frozen=True):
    """All gains; the JSON that `--json` prints."""

    model: str
    calibrated: bool
    fit_s: float  # the longest that a head took, its windows included
    gains: list[Gain]
    ways: dict[str, str]


def evaluate_own(model: Model, sessions: Sequence[Session], calibrated: bool) -> OwnScore:
    """Each person's model alone and with the head; `calibrated`: each recording by its own gait first."""
    if calibrated:
        sessions = [s for session in sessions if (s := _calibrated(session))]
    window = model.card.windowing.window
    streams = dict(
        zip(
            (s.exp for s in sessions),
            features([s.recording for s in sessions], model.card.windowing),
            strict=True,
        )
    )
    gains, fit_s = [], 0.0
    for user in sorted({s.user for s in sessions}):
        mine = [s for s in sessions if s.user == user]
        splits = [("minute", *_minute(mine))]
        whole = [s for s in mine if len(np.unique(s.segments[:, 0])) == len(LABELS)]
        splits += [("other day", _parts([a]), _parts([b])) for a in whole for b in mine if a is not b]
        for way, learn, judge in splits:
            began_s = time.monotonic()
            tracks = [
                Track(LABELS[label], _cut(s.recording, first, end))
                for s, label, first, end in learn
                if end - first >= window
            ]
            data = labelled(model, tracks)
            head = make_head("", model, data, {}, calibrated)
            fit_s = max(fit_s, time.monotonic() - began_s)
            x, y = _windows(streams, judge, window)
            before = model.predict(x)
            after = Adapter(head, model.card.labels).apply(before, x)
            right = [float((p.argmax(axis=1) == y).mean()) for p in (before, after)]
            gains.append(Gain(user, way, len(y), *right))
    return OwnScore(model.card.name, calibrated, round(fit_s, 1), gains, dict(WAYS))


Part = tuple[Session, int, int, int]  # label, first sample, one past the last


def _parts(sessions: Sequence[Session]) -> list[Part]:
    return [(s, int(label), int(first), int(end)) for s in sessions for label, first, end in s.segments]


def _minute(sessions: Sequence[Session]) -> tuple[list[Part], list[Part]]:
    """The first minute of each activity, and the rest."""
    learn: list[Part] = []
    judge: list[Part] = []
    left = dict.fromkeys(range(len(LABELS)), 60 * RATE_HZ)
    for s, label, first, end in _parts(sessions):
        at = min(end, first + left[label])
        left[label] -= at - first
        learn.append((s, label, first, at))
        judge.append((s, label, at, end))
    return [p for p in learn if p[3] > p[2]], [p for p in judge if p[3] > p[2]]


def _cut(r: Recording, first: int, end: int) -> Recording:
    return Recording(r.name, r.t[first:end], r.samples[first:end])


def _calibrated(s: Session) -> Session | None:
    """As it is turned by its own stand and walk; None where it has none."""
    try:
        worn = gait.fit(s.recording.t, s.recording.samples[:, :3].astype(np.float64))
    except HardError:
        return None
    return Session(s.exp, s.user, turned(s.recording, np.array(worn.rotation)), s.segments)


def _windows(streams: dict[int, F32], parts: Sequence[Part], window: int) -> tuple[F32, NDArray[np.int64]]:
    """Windows of the continuous streams within these parts, every half hop: (N, window, 9), (N,)."""
    places = [
        (s.exp, start, label)
        for s, label, first, end in parts
        for start in range(first, end - window + 1, window // 4)
    ]
    x = np.stack([streams[exp][start : start + window] for exp, start, _ in places])
    return x, np.array([label for _, _, label in places])


def show(result: OwnScore, console: Console) -> None:
    ways = "each recording calibrated by its own stand and walk" if result.calibrated else "not calibrated"
    console.print(f"[bold]{result.model}[/bold], {ways}; a head takes at most {result.fit_s:g} s")
    table = Table("learned from", "user", "windows", "alone", "with head", title="share right")
    for way, text in result.ways.items():
        gains = [g for g in result.gains if g.way == way]
        for g in gains:
            table.add_row(way, str(g.user), f"{g.n:,}", f"{100 * g.before:.1f} %", f"{100 * g.after:.1f} %")
        before, after = (float(np.mean([getattr(g, name) for g in gains])) for name in ("before", "after"))
        table.add_row(
            way, "mean", "", f"{100 * before:.2f} %", f"{100 * after:.2f} %", style="bold", end_section=True
        )
        console.print(f"{way}: {text}", style="dim", highlight=False)
    console.print(table)


def main(args: argparse.Namespace) -> None:
    """`tools/evaluate.py personal`: the nine test people."""
    sessions = read_sessions(data_dir(args.data), TEST_USERS)
    result = evaluate_own(load_model(args.model), sessions, not args.uncalibrated)
    answer(result, args, show)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    ask(parser)
    parser.add_argument("--uncalibrated", action="store_true", help="take the recordings as they are")
