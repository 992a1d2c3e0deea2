"""Fixed sets of clips for training: read from class folders, split by group, served in batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import Progress
from torch import Tensor

from hard.datasets.video import (
    Item,
    class_folders,
    evenly,
    image_folders,
    pseudo_clips,
    shirt,
    split,
    webcam_clips,
    weizmann,
)
from hard.frames import read_image, read_video
from hard.types import U8, HardError
from tools.augment import augment
from tools.video_presets import VideoPreset

OWN_TEST: Final = ("s06", "s07", "red")  # people and shirt that the project's own clips are tested on


class Example(Item, frozen=True):
    """A clip to be: a video, or images in turn; `path` is the first."""

    files: tuple[Path, ...] = ()


class ClipSet(msgspec.Struct, frozen=True):
    """Clips in memory; nobody writes to the arrays."""

    clips: U8  # (N, m, size, size, 3) RGB, m >= the preset's frames
    y: NDArray[np.int64]  # (N,)
    sources: NDArray[np.str_]  # (N,) the folder that the class folder is in


def examples(root: Path, classes: Sequence[str], frames: int) -> list[Example]:
    """The project's own clips, or any class folders with videos or, where there are none, with images."""
    if (root / "weizmann").is_dir() and (root / "webcam_clips").is_dir():
        items = weizmann(root) + webcam_clips(root)
        known = {i.label for i in items}
        if missing := sorted({*classes} - known):
            raise HardError(f"no clips of {', '.join(missing)}; there is: {', '.join(sorted(known))}")
        return [Example(i.path, i.label, i.group) for i in items if not classes or i.label in classes]
    try:
        return [Example(i.path, i.label, i.group) for i in class_folders(root, classes)]
    except HardError as no_videos:
        try:
            images = image_folders(root, classes)
        except HardError:
            raise no_videos from None
        runs = pseudo_clips(images, frames)
        if not runs:
            raise HardError(f"{root}: no class has {frames} images, which make a clip") from None
        return [Example(r[0].path, r[0].label, r[0].group, tuple(i.path for i in r)) for r in runs]


def divide(
    found: Sequence[Example], preset: VideoPreset, tested: Sequence[str], seed: int
) -> tuple[list[Example], list[Example], list[Example]]:
    """Training, validation and test examples; a group is in one of them only."""
    own = {i.path.parent.parent.name for i in found} == {"weizmann", "webcam_clips"}
    wanted = set(tested or (OWN_TEST if own else ()))
    if wanted:
        known = {name for i in found for name in _names(i)}
        if missing := sorted(wanted - known):
            raise HardError(f"no clips of {', '.join(missing)}; there is: {', '.join(sorted(known))}")
        rest = [i for i in found if not wanted & _names(i)]
        test = [i for i in found if wanted & _names(i)]
    else:
        rest, test = split(found, preset.test, seed)
    train, validation = split(rest, preset.validation, seed)
    if len(train) < 2 or not validation or not test:
        n = len({i.group for i in found})
        raise HardError(
            f"{len(found)} clips of {n} group(s) give {len(train)} to train, {len(validation)} to validate, "
            f"{len(test)} to test; expected clips of four groups (g01, s01, ...) or more"
        )
    return train, validation, test


def _names(item: Example) -> set[str]:
    in_webcam_clips = item.path.parent.parent.name == "webcam_clips"
    return {item.group, shirt(item.group)} if in_webcam_clips else {item.group}


def read(found: Sequence[Example], labels: Sequence[str], preset: VideoPreset, progress: Progress) -> ClipSet:
    """Read and squeeze clips; twice the frames where playing speed is to vary."""
    frames = preset.frames * (2 if "speed" in preset.augmentation else 1)
    task = progress.add_task("reading", total=len(found))
    clips = np.empty((len(found), frames, preset.size, preset.size, 3), np.uint8)
    for k, example in enumerate(found):
        if example.files:
            clips[k] = np.stack([read_image(p, preset.size) for p in example.files])
        else:
            film, _ = read_video(example.path, preset.size)
            clips[k] = film[evenly(len(film), frames)]
        progress.advance(task)
    y = np.array([labels.index(e.label) for e in found], np.int64)
    return ClipSet(clips, y, np.array([e.path.parent.parent.name for e in found]))


def batches(
    data: ClipSet, preset: VideoPreset, rng: np.random.Generator | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch: (n, frames, 3, size, size) in [0, 1], or (n, 3, size, size) by frame, and labels.

    With a generator: shuffled and augmented, for training; without: in order, as they are.
    """
    rows = np.arange(len(data.y) * (data.clips.shape[1] if preset.by_frame else 1))
    if rng is not None:
        rng.shuffle(rows)
    for start in range(0, len(rows), preset.schedule.batch):
        some = rows[start : start + preset.schedule.batch]
        if rng is not None and len(some) == 1:
            return  # a batch norm finds no variance in one example
        clips = data.clips
        if preset.by_frame:
            own, frame = np.divmod(some, data.clips.shape[1])
            chosen = [clips[i, j : j + 1] for i, j in zip(own, frame, strict=True)]
        else:
            own, chosen = some, [clips[i] for i in some]
        length = 1 if preset.by_frame else preset.frames
        drawn = [
            augment(c, length, preset.augmentation, rng) if rng else c[:: len(c) // length] for c in chosen
        ]
        x = torch.from_numpy(np.stack(drawn)).permute(0, 1, 4, 2, 3).float() / 255
        yield x[:, 0] if preset.by_frame else x, torch.from_numpy(data.y[own])
