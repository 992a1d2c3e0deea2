"""Measure a video model on clips played as a camera would show them: every window, and every clip."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Protocol

import msgspec
import numpy as np
from rich.console import Console

from hard.datasets import data_dir
from hard.datasets.video import (
    OTHER,
    Item,
    at_rate,
    class_folders,
    loose_videos,
    webcam_clips,
    weizmann,
    windows,
)
from hard.frames import read_video
from hard.model import load_video_model
from hard.types import F32, U8, Clip, HardError
from tools.scores import Scores, scores, show

HOP: Final = 2  # frames between windows


class TwoSteps(Protocol):
    """A VideoModel, or a network that is not one yet."""

    def encode(self, frames: U8) -> F32: ...

    def classify(self, embeddings: F32) -> F32: ...


class Film(msgspec.Struct, frozen=True):
    """A clip as the daemon's camera would see it; nobody writes to the frames."""

    item: Item
    frames: U8  # (n, size, size, 3) RGB at the model's rate


class PartScore(msgspec.Struct, frozen=True):
    """One source of clips: its windows, and its clips by the mean probabilities of their windows."""

    windows: Scores
    clips: Scores
    too_short: list[str]  # files that do not fill one window


class VideoScore(msgspec.Struct, frozen=True):
    """What a model reached; the JSON that `--json` prints."""

    model: str
    parts: dict[str, PartScore]


def films(items: Sequence[Item], clip: Clip) -> list[Film]:
    """The clips, squeezed as the daemon does and seen at the model's rate."""
    found = []
    for item in items:
        frames, rate_hz = read_video(item.path, clip.size)
        found.append(Film(item, at_rate(frames, rate_hz, clip.rate_hz)))
    return found


def watch(model: TwoSteps, film: Film, clip: Clip) -> F32:
    """(windows, labels) probabilities: each frame encoded once, a window every HOP frames."""
    embeddings = model.encode(film.frames)  # (n, E)
    cut = windows(embeddings, clip.frames, HOP)
    return np.concatenate([model.classify(w[None]) for w in cut]) if cut else np.empty((0, 0), np.float32)


def score_films(model: TwoSteps, shown: Sequence[Film], labels: Sequence[str], clip: Clip) -> PartScore:
    """Score one source; a clip whose label the model does not know ought to be `other`."""
    y, said, clip_y, clip_said, short = [], [], [], [], []
    for film in shown:
        p = watch(model, film, clip)
        if not len(p):
            short.append(film.item.path.name)
            continue
        label = film.item.label if film.item.label in labels else OTHER
        truth = list(labels).index(label)
        y += [truth] * len(p)
        said += p.argmax(axis=1).tolist()
        clip_y.append(truth)
        clip_said.append(int(p.mean(axis=0).argmax()))
    if not y:
        raise HardError(f"no clip lasts {clip.frames / clip.rate_hz:g} s, which is what the model looks at")
    return PartScore(
        windows=scores(np.array(y), np.array(said), labels),
        clips=scores(np.array(clip_y), np.array(clip_said), labels),
        too_short=short,
    )


def parts_of(data: Path, groups: Sequence[str]) -> dict[str, list[Item]]:
    """The project's own clips, source by source, or one folder of class folders; some groups alone."""
    own = (data / "weizmann").is_dir() and (data / "webcam_clips").is_dir()
    found = (
        {"clips": class_folders(data)}
        if not own
        else {
            "weizmann": weizmann(data),
            "webcam_clips": webcam_clips(data),
        }
    )
    if groups:
        known = {i.group for items in found.values() for i in items}
        if missing := sorted(set(groups) - known):
            raise HardError(f"no clips of {', '.join(missing)}; there is: {', '.join(sorted(known))}")
        found = {name: [i for i in items if i.group in groups] for name, items in found.items()}
    elif own and (data / "clips").is_dir():
        found["clips"] = loose_videos(data / "clips", OTHER)
    return found


def main(args: argparse.Namespace) -> None:
    """`tools/evaluate.py video`."""
    model = load_video_model(args.model)
    card = model.card
    parts = {
        name: score_films(model, films(items, card.clip), card.labels, card.clip)
        for name, items in parts_of(data_dir(args.data), args.groups).items()
        if items
    }
    result = VideoScore(card.name, parts)
    if args.json:
        print(msgspec.json.encode(result).decode())
        return
    console = Console()
    for name, part in parts.items():
        show(
            part.windows,
            f"{card.name}, {name}, windows of {card.clip.frames / card.clip.rate_hz:g} s",
            console,
        )
        show(part.clips, f"{card.name}, {name}, whole clips", console)
        if part.too_short:
            console.print(f"shorter than a window: {', '.join(part.too_short)}", style="dim")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default="lrcn-webcam", help="name or folder (default: %(default)s)")
    parser.add_argument("--data", type=Path, help="data folder, or a folder of class folders with videos")
    parser.add_argument("--groups", nargs="+", default=[], help="only these groups, such as s07 d20")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
