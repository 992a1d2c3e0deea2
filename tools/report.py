"""Every model on one page: card, figures, confusion, calibration of probabilities, and where it fails."""

from __future__ import annotations

import argparse
import subprocess
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from hard.card import SensorCard, VideoCard, list_models, read_card
from hard.datasets import data_dir
from hard.datasets.hapt import LABELS, TEST_USERS, read_official, read_sessions
from hard.model import Model, load_model
from hard.types import F32, HardError
from tools import pictures
from tools.elsewhere import evaluate_elsewhere
from tools.evaluate_sets import labelled_windows
from tools.pocket_pool import PERSON
from tools.scores import BINS, bins, calibration_error, confusion_matrix
from tools.stretches import after_those_before, in_stretches
from tools.worn import evaluate_worn

WEAK: Final = 0.95  # people below are named among the failures
STYLE: Final = (
    "body{font:15px/1.45 sans-serif;max-width:60em;margin:2em auto;padding:0 1em;color:#222}"
    "table{border-collapse:collapse;margin:.6em 0}"
    "td,th{border:1px solid #ddd;padding:.25em .6em;text-align:left;vertical-align:top}"
    "code{font-size:.9em}svg{display:block;margin:.6em 0}h1,h2{border-bottom:1px solid #ddd}"
)


class Reliability(msgspec.Struct, frozen=True):
    """How far confidence can be believed: bins of equal width that hold windows, and the mean gap."""

    confidence: list[float]
    right: list[float]
    n: list[int]
    error: float  # expected calibration error: the mean of |confidence - right|, bins weighted by windows


class Found(msgspec.Struct, frozen=True):
    """What a model does on windows of people unseen in training."""

    windows: str
    labels: list[str]
    confusion: NDArray[np.int64]  # rows truth
    reliability: Reliability
    people: dict[int, float]  # share right by user
    worst: dict[int, str]  # what most of a weak person's errors are
    elsewhere: dict[str, float]  # share right by placement


def reliability(probabilities: F32, y: NDArray[np.int64]) -> Reliability:
    """Of the greatest probabilities, (N, labels), for the truth (N,)."""
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == y
    place = bins(confidence)
    n = np.bincount(place)
    held = n > 0
    said = np.bincount(place, confidence)[held] / n[held]
    true = np.bincount(place, right)[held] / n[held]
    return Reliability(said.tolist(), true.tolist(), n[held].tolist(), calibration_error(confidence, right))


def look(model: Model, data: Path) -> Found:
    """Measure a model of HAPT's six activities."""
    official = read_official(data, "test")
    p = after_those_before(model, data, official)
    said = p.argmax(axis=1)
    confusion = confusion_matrix(official.y, said, len(LABELS))
    people, worst = {}, {}
    for user in sorted(TEST_USERS):
        mine = official.user == user
        people[user] = float((said == official.y)[mine].mean())
        if people[user] < WEAK:
            worst[user] = mistakes(official.y[mine], said[mine])[0]
    worn = evaluate_worn(model, read_sessions(data, TEST_USERS), official)
    elsewhere = {f"phone {way}": share for way, share in worn.accuracy.items()}
    if (data / "motionsense").is_dir():
        names = "in a trouser pocket (MotionSense, five activities)", "the same, calibrated"
        elsewhere |= dict(zip(names, evaluate_elsewhere(model, data).means, strict=True))
    windows = f"the {len(p):,} official test windows"
    return Found(windows, list(LABELS), confusion, reliability(p, official.y), people, worst, elsewhere)


def look_anywhere(model: Model, data: Path) -> Found:
    """Measure a model of any labels on HAPT's test people, as recorded and turned."""
    labels = model.card.labels
    windows = labelled_windows(model, data, "hapt", hapt_test=True)
    y, users = windows.y, windows.person
    p = in_stretches(model, windows.x, windows.stretch)
    said = p.argmax(axis=1)
    people = {int(u) % PERSON: float((said == y)[users == u].mean()) for u in np.unique(users)}
    worst = {
        int(u) % PERSON: mistakes(y[users == u], said[users == u], labels=labels)[0]
        for u in np.unique(users)
        if people[int(u) % PERSON] < WEAK
    }
    turned = labelled_windows(model, data, "hapt", hapt_test=True, turn=0)
    said_turned = in_stretches(model, turned.x, turned.stretch).argmax(axis=1)
    elsewhere = {"phone turned": float((said_turned == turned.y).mean())}
    where = f"{len(y):,} windows of HAPT's test people"
    confusion = confusion_matrix(y, said, len(labels))
    return Found(where, labels, confusion, reliability(p, y), people, worst, elsewhere)


def mistakes(
    y: NDArray[np.int64], said: NDArray[np.intp], most: int = 3, labels: Sequence[str] = LABELS
) -> list[str]:
    """The commonest, in words."""
    pairs, counts = np.unique(np.stack([y, said])[:, y != said], axis=1, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:most]
    names = [label.replace("_", " ") for label in labels]
    return [f"{names[pairs[0, i]]} taken for {names[pairs[1, i]]} ({counts[i]} windows)" for i in order]


def render(card: SensorCard | VideoCard, found: Found | None) -> str:
    """One model's section."""
    facts = [
        ("labels", ", ".join(card.labels)), ("input", card.input), ("output", card.output),
        ("size", f"{card.parameters:,} parameters, sha256 {card.sha256[:12]}"),
        ("intended use", card.intended_use), ("licence", card.licence),
        *((f"training: {name}", text) for name, text in card.training.items()),
    ]  # fmt: skip
    parts = [
        f"<h2>{escape(card.name)}</h2><p>{escape(card.summary)}</p>",
        _table((), facts),
        "<h3>Figures</h3>",
    ]
    figures = [
        (f.metric, f"{f.value:g}", f.data, str(f.n or ""), f"<code>{escape(f.command)}</code>")
        for f in card.figures
    ]
    parts.append(_table(("figure", "value", "of", "n", "command"), figures, raw=4))
    parts.append("<h3>Known failures</h3>" + _list(card.limitations))
    if found is not None:
        parts += _measured(found)
    return "".join(parts)


def _measured(found: Found) -> list[str]:
    c, r = found.confusion, found.reliability
    y, said = np.repeat(np.indices(c.shape).reshape(2, -1), c.ravel(), axis=1)
    failures = mistakes(y, said, labels=found.labels)
    failures += [
        f"user {u}: {100 * found.people[u]:.1f} % right; most often {text}" for u, text in found.worst.items()
    ]
    failures += [f"{way}: {100 * share:.1f} % right" for way, share in found.elsewhere.items()]
    recall = (np.diag(c) / np.maximum(c.sum(axis=1), 1)).tolist()
    return [
        f"<p>Measured on {found.windows}:</p>" + _list(failures),
        "<h3>Confusion</h3>" + pictures.confusion(found.labels, c.tolist()),
        "<h3>Right, by activity</h3>" + pictures.bars(found.labels, recall),
        "<h3>Right, by person</h3>"
        + pictures.bars([f"user {u}" for u in found.people], list(found.people.values())),
        f"<h3>Confidence</h3><p>Expected calibration error {100 * r.error:.2f} % ({BINS} bins of equal "
        "width; a circle's area is its share of the windows).</p>"
        + pictures.reliability(r.confidence, r.right, r.n),
    ]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], raw: int = -1) -> str:
    """`raw`: the column that is HTML already."""
    lines = ["<tr>" + "".join(f"<th>{escape(name)}</th>" for name in head) + "</tr>"] if head else []
    for row in rows:
        cells = (cell if i == raw else escape(cell) for i, cell in enumerate(row))
        lines.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    return f"<table>{''.join(lines)}</table>"


def _list(items: Sequence[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(item)}</li>" for item in items) + "</ul>"


def main(args: argparse.Namespace) -> None:
    """`tools/evaluate.py report`: all models, or the one named."""
    console = Console()
    data = data_dir(args.data)
    folders = [f for f in list_models() if args.model in (None, f.name)]
    if not folders:
        raise HardError(f"no model named {args.model!r}; `hard models` lists them")
    sections = []
    for folder in folders:
        card = read_card(folder)
        found = None
        if isinstance(card, SensorCard):
            console.print(f"measuring {card.name} ...", highlight=False)
            of_hapt = tuple(card.labels) == LABELS
            found = (look if of_hapt else look_anywhere)(load_model(str(folder)), data)
            if args.pictures:
                picture = pictures.confusion(found.labels, found.confusion.tolist())
                (folder / "confusion.svg").write_text(picture + "\n", "utf-8")
        sections.append(render(card, found))
    command = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True).stdout.strip()
    head = f'<meta charset="utf-8"><title>hard: models</title><style>{STYLE}</style>'
    intro = (
        f"<p>By <code>python tools/evaluate.py report</code>, commit {commit or 'unknown'}. Official test "
        "windows: UCI HAR, nine people unseen in training.</p>"
    )
    page = f'<!doctype html><html lang="en">{head}<h1>hard: models</h1>{intro}{"".join(sections)}</html>\n'
    try:
        args.out.write_text(page, "utf-8")
    except OSError as e:
        raise HardError(f"{args.out}: {e.strerror}") from None
    console.print(f"{args.out}: {len(sections)} models, {len(page) // 1024} kB", highlight=False)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", help="only this one (default: all)")
    parser.add_argument("--out", type=Path, default=Path("report.html"), help="default: %(default)s")
    parser.add_argument("--pictures", action="store_true", help="write confusion.svg beside each card too")
    parser.add_argument("--data", type=Path, help="data folder (default: HARD_DATA, ../shared/data, data)")
