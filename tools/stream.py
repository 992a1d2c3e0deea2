"""Measure raw and steady labels over continuous recordings: flaps, delays of a change, share right.

The recordings go through the daemon's own Recognizer and Smoother with their default settings; live labels
equal these (tests/test_live.py).
"""

from __future__ import annotations

import argparse
import itertools
from collections import Counter
from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from hard.datasets import data_dir
from hard.datasets.hapt import LABELS, TEST_USERS, Session, read_sessions
from hard.model import Model, load_model
from hard.recognizer import Recognizer
from hard.settings import SmoothingSettings
from hard.smoothing import Smoother
from hard.types import F64, HardError
from tools.options import answer, ask

RATE_HZ: Final = 50.0  # of HAPT's labels, which count samples
DEFINITIONS: Final = {
    "flaps_per_h": "label changes at windows wholly within one labelled stretch that no true change explains "
    "(neither the first since a stretch of another activity ended nor the first to the stretch's own "
    "activity), per hour of such windows",
    "delay_s": "a change is two successive stretches of different activities; its delay runs from the new "
    "stretch's beginning to the end of the first window, since the old one's end, labelled with the new "
    "activity: 0 where the label came first, infinite where it never came",
    "missed": "changes of infinite delay",
    "right": "share of the windows wholly within a labelled stretch that have its label",
    "right_by": "the same for each activity's stretches",
    "in_transition": "share of the windows between two labelled stretches, wholly within neither, that "
    "have the label of the stretch before or after; no other share counts these windows",
    "changes_per_h": "all label changes, between labelled stretches too, per hour of recording",
}


class Steadiness(msgspec.Struct, frozen=True):
    """How one kind of label behaves; DEFINITIONS says what each figure means."""

    flaps: int
    flaps_per_h: float
    delay_median_s: float  # infinite (null in JSON) where more than half of the changes were missed
    delay_p95_s: float
    missed: int
    right: float
    right_by: dict[str, float]
    in_transition: float
    changes_per_h: float


class StreamScore(msgspec.Struct, frozen=True):
    """Raw and steady labels of the same recordings; the JSON that `--json` prints."""

    model: str
    recordings: int
    hours: float
    judged_hours: float  # of windows wholly within a labelled stretch
    transition_hours: float  # of windows between labelled stretches
    changes: int
    unknown: float  # share of the windows wholly within a labelled stretch whose steady label is `unknown`
    raw: Steadiness
    steady: Steadiness
    definitions: dict[str, str]


class Labelled(msgspec.Struct, frozen=True):
    """A recording with one kind of label for each window."""

    t_end: F64  # (n,) seconds
    labels: list[str]  # (n,)
    segments: NDArray[np.int64]  # (k, 3) label 0-5, first sample, one past the last
    length_s: float


class _Count(msgspec.Struct):
    flaps: int = 0
    judged: Counter[str] = msgspec.field(default_factory=Counter)  # windows of each activity
    right: Counter[str] = msgspec.field(default_factory=Counter)
    unknown: int = 0
    changes: int = 0
    between: int = 0  # windows of transitions
    between_right: int = 0


def evaluate_stream(model: Model, sessions: Sequence[Session]) -> StreamScore:
    """Label every recording from beginning to end and judge its raw and its steady labels."""
    if not set(LABELS) <= set(model.card.labels):
        raise HardError(f"{model.card.name}: labels {model.card.labels}; expected at least {list(LABELS)}")
    raw, steady = [], []
    for s in sessions:
        smoother = Smoother(SmoothingSettings())
        predictions = Recognizer(model).push(s.recording.name, s.recording.t, s.recording.samples)
        t_end = np.array([p.t_end for p in predictions])
        length_s = float(s.recording.t[-1] - s.recording.t[0])
        raw.append(Labelled(t_end, [p.activity for p in predictions], s.segments, length_s))
        steady.append(
            msgspec.structs.replace(raw[-1], labels=[smoother.update(p).activity for p in predictions])
        )
    w = model.card.windowing
    window_s, hop_s = (w.window - 1) / w.rate_hz, w.hop / w.rate_hz
    count = _count(steady, window_s)
    return StreamScore(
        model=model.card.name,
        recordings=len(sessions),
        hours=sum(r.length_s for r in raw) / 3600,
        judged_hours=count.judged.total() * hop_s / 3600,
        transition_hours=count.between * hop_s / 3600,
        changes=sum(len(delays(r)) for r in raw),
        unknown=count.unknown / count.judged.total(),
        raw=steadiness(raw, window_s, hop_s),
        steady=steadiness(steady, window_s, hop_s),
        definitions=DEFINITIONS,
    )


def steadiness(recordings: Sequence[Labelled], window_s: float, hop_s: float) -> Steadiness:
    """All figures of one kind of label; `window_s` from a window's first sample to its last."""
    count = _count(recordings, window_s)
    waits = sorted(itertools.chain.from_iterable(delays(r) for r in recordings))
    hours = sum(r.length_s for r in recordings) / 3600
    judged = count.judged.total()
    return Steadiness(
        flaps=count.flaps,
        flaps_per_h=count.flaps / (judged * hop_s / 3600),
        delay_median_s=_quantile(waits, 0.5),
        delay_p95_s=_quantile(waits, 0.95),
        missed=waits.count(np.inf),
        right=count.right.total() / judged,
        right_by={name: count.right[name] / n for name, n in sorted(count.judged.items())},
        in_transition=count.between_right / max(count.between, 1),
        changes_per_h=count.changes / hours,
    )


def delays(r: Labelled) -> list[float]:
    """Seconds until the label follows, for every true change of a recording; infinite where it never does."""
    out = []
    for (old, _, end), (new, first, last) in itertools.pairwise(r.segments / [1, RATE_HZ, RATE_HZ]):
        if old != new:
            times = (
                t for t, label in zip(r.t_end, r.labels, strict=True)
                if end <= t < last and label == LABELS[int(new)]
            )  # fmt: skip
            out.append(max(0.0, float(next(times, np.inf) - first)))
    return out


def _count(recordings: Sequence[Labelled], window_s: float) -> _Count:
    out = _Count()
    for r in recordings:
        changed = np.array([False, *(a != b for a, b in itertools.pairwise(r.labels))])
        ended = -np.inf  # seconds, of the last stretch
        before = None
        out.changes += int(changed.sum())
        for number, first, last in r.segments / [1, RATE_HZ, RATE_HZ]:
            truth, was_right = LABELS[int(number)], False
            for i in np.flatnonzero((r.t_end - window_s >= first - 1e-6) & (r.t_end < last)):
                right = r.labels[i] == truth
                answered = before in (None, truth) or changed[:i][r.t_end[:i] >= ended].any()
                out.flaps += bool(changed[i] and answered and not (right and not was_right))
                was_right |= right
                out.judged[truth] += 1
                out.right[truth] += right
                out.unknown += r.labels[i] == "unknown"
            before, ended = truth, last
        _count_between(r, window_s, out)
    return out


def _count_between(r: Labelled, window_s: float, out: _Count) -> None:
    for (old, _, end), (new, start, last) in itertools.pairwise(r.segments / [1, RATE_HZ, RATE_HZ]):
        allowed = (LABELS[int(old)], LABELS[int(new)])
        rows = (r.t_end >= end) & (r.t_end < last) & (r.t_end - window_s < start - 1e-6)
        out.between += int(rows.sum())
        out.between_right += sum(r.labels[i] in allowed for i in np.flatnonzero(rows))


def _quantile(values: list[float], share: float) -> float:
    """The smallest value that at least this share of the (sorted) values do not exceed."""
    return values[int(np.ceil(share * len(values))) - 1]


def show(result: StreamScore, console: Console) -> None:
    console.print(
        f"[bold]{result.model}[/bold] on {result.recordings} continuous recordings, {result.hours:.2f} h, "
        f"{result.changes} changes; {result.judged_hours:.2f} h of windows within labelled stretches, "
        f"{result.transition_hours:.2f} h in transitions"
    )
    table = Table("", "raw", "steady")
    for name in Steadiness.__struct_fields__:
        values = [getattr(kind, name) for kind in (result.raw, result.steady)]
        if name != "right_by":
            table.add_row(name, *(f"{v}" if isinstance(v, int) else f"{v:.4g}" for v in values))
    for label, share in result.raw.right_by.items():
        table.add_row(f"right, {label}", f"{share:.4g}", f"{result.steady.right_by[label]:.4g}")
    console.print(table)
    console.print(f"unknown: {100 * result.unknown:.2f} % of the windows within labelled stretches")
    for name, text in result.definitions.items():
        console.print(f"{name}: {text}", style="dim", highlight=False)


def main(args: argparse.Namespace) -> None:
    """`tools/evaluate.py stream`: the nine test people's recordings."""
    sessions = read_sessions(data_dir(args.data), TEST_USERS)
    result = evaluate_stream(load_model(args.model), sessions)
    answer(result, args, show)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    ask(parser)
