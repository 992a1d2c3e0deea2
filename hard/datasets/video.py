"""Folders of video clips, one folder a class, and of which people, groups or shirts each clip is."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from hard.types import U8, HardError

ACTIVITIES: Final = (
    "bend",
    "boxing",
    "handclapping",
    "jumping_jack",
    "wave_one_hand",
    "wave_two_hands",
)
OTHER: Final = "other"  # everything else, and nothing at all

_VIDEO: Final = {".avi", ".mp4", ".mov", ".mkv", ".mpg", ".webm"}
_IMAGE: Final = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}
_GROUP: Final = re.compile(
    r"_([gsd]\d+)(?=[_.])"
)  # UCF: v_Boxing_g01_c02; Weizmann: bend_s01; ours: boxing_d01
_SCENES: Final = {
    "mmaction2_S001C001P001R001A001_rgb": "laboratory",
    "mmaction2_demo_skeleton": "laboratory",
    "mmaction2_demo": "arm wrestling",
    "mmaction2_demo_spatiotemporal_det": "arm wrestling",
    "mmaction2_part_0": "pool",
    "mmaction2_test": "pool",  # test.mp4; test.avi is another scene of the same name
}
"""Files of `clips/` that were filmed in one place."""


class Item(msgspec.Struct, frozen=True):
    """A file of a class, and the group that it shares a person, a place or a day with."""

    path: Path
    label: str
    group: str


T = TypeVar("T", bound=Item)
D = TypeVar("D", bound=np.generic)


def class_folders(root: Path, classes: Sequence[str] = ()) -> list[Item]:
    """The videos in `root/<class>/`, by name; all classes, or these. As UCF50 and UCF101 ship them.

    The group is `gNN`, `sNN` or `dNN` of the file's name; a file that names none is a group of its own.
    """
    return _listing(root, classes, _VIDEO, "videos")


def image_folders(root: Path, classes: Sequence[str] = ()) -> list[Item]:
    """The images in `root/<class>/`, by name; each is a group of its own."""
    return _listing(root, classes, _IMAGE, "images")


def _listing(root: Path, classes: Sequence[str], endings: set[str], what: str) -> list[Item]:
    folders = [root / c for c in classes] or sorted(p for p in root.glob("*") if p.is_dir())
    items = []
    for folder in folders:
        files = sorted(p for p in folder.glob("*") if p.suffix.lower() in endings)
        if not files:
            raise HardError(f"{folder}: no {what}; expected one folder a class, with its {what} in it")
        for path in files:
            named = _GROUP.search(path.name)
            items.append(Item(path, folder.name, named[1] if named else f"{folder.name}/{path.stem}"))
    if not items:
        raise HardError(f"{root}: no class folders; expected {root}/<class>/<{what}>")
    return items


def weizmann(data: Path) -> list[Item]:
    """Seven people outdoors, four activities; the groups are the people, s01-s07."""
    return class_folders(data / "weizmann")


def webcam_clips(data: Path) -> list[Item]:
    """One man at a webcam, two activities; the groups are his clips, d01-d20 (see `shirt`)."""
    return class_folders(data / "webcam_clips")


def loose_videos(folder: Path, label: str) -> list[Item]:
    """The videos of one folder, all of one label; those that show the same scene are one group."""
    files = sorted(p for p in folder.glob("*") if p.suffix.lower() in _VIDEO)
    return [Item(p, label, _SCENES.get(p.stem, p.stem)) for p in files]


def shirt(group: str) -> str:
    """Which shirt the man of `webcam_clips` wears: clips of one shirt stay on one side of a split."""
    return "dark" if int(group[1:]) <= 10 else "red"


def split(items: Sequence[T], share: float, seed: int) -> tuple[list[T], list[T]]:
    """Training and test items of about this share of the groups each class has; no group is in both.

    Groups are drawn by their name alone, so `g07` of one class goes where `g07` of every class goes.
    """
    groups = sorted({item.group for item in items})
    order = np.random.default_rng(seed).permutation(len(groups))
    tested = {groups[i] for i in order[: max(1, round(share * len(groups)))]}
    return [i for i in items if i.group not in tested], [i for i in items if i.group in tested]


def pseudo_clips(items: Sequence[Item], frames: int) -> list[list[Item]]:
    """Each class's images, by name, in runs of `frames`: so CNN_LSTM-HAR makes clips of stills."""
    runs = []
    for label in sorted({i.label for i in items}):
        own = [i for i in items if i.label == label]
        runs += [own[k : k + frames] for k in range(0, len(own) - frames + 1, frames)]
    return runs


def evenly(n: int, frames: int) -> NDArray[np.int64]:
    """Which of n frames make a clip of `frames`, each in the middle of its even part of the whole."""
    return ((np.arange(frames) + 0.5) * n / frames).astype(np.int64)


def at_rate(frames: U8, rate_hz: float, wanted_hz: float) -> U8:
    """What a camera of `wanted_hz` would have seen of a video: the nearest frame at each moment."""
    moments = np.arange(int((len(frames) - 1) * wanted_hz / rate_hz + 1e-6) + 1)
    seen: U8 = frames[np.rint(moments * rate_hz / wanted_hz).astype(np.int64)]
    return seen


def windows(frames: NDArray[D], length: int, hop: int) -> list[NDArray[D]]:
    """Every window of `length` frames that begins at a multiple of `hop`; a shorter video gives none."""
    return [frames[k : k + length] for k in range(0, len(frames) - length + 1, hop)]
