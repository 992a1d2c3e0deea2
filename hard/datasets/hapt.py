"""HAPT (Reyes-Ortiz et al.): raw waist recordings of 30 people, and the official UCI HAR windows in them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from hard.datasets import features
from hard.recordings import Recording, read_recording
from hard.types import F32, HardError, Windowing

LABELS: Final = ("walking", "walking_upstairs", "walking_downstairs", "sitting", "standing", "laying")
"""In the order of the published numbers 1-6; numbers 7-12 are transitions between postures."""
TEST_USERS: Final = frozenset({2, 4, 9, 10, 12, 13, 18, 20, 24})
TRAIN_USERS: Final = frozenset(range(1, 31)) - TEST_USERS
_NAME: Final = re.compile(r"exp(\d+)_user(\d+)$")


class Session(msgspec.Struct, frozen=True):
    """One recording with its number, its person and its labelled stretches."""

    exp: int
    user: int
    recording: Recording
    segments: NDArray[np.int64]  # (k, 3): label 0-5, first sample, one past the last sample


class Official(msgspec.Struct, frozen=True):
    """The published windows of one split, in the published order."""

    exp: NDArray[np.int64]  # (N,)
    start: NDArray[np.int64]  # (N,) first sample in the recording, 0-based
    y: NDArray[np.int64]  # (N,) label 0-5
    user: NDArray[np.int64]  # (N,)
    count_matched: NDArray[np.bool_]  # (N,) False: the place is uncertain at a segment's edge


def read_sessions(data: Path, users: frozenset[int] | None = None) -> list[Session]:
    """All recordings of these users (None: of everyone), in the order of their numbers."""
    raw = data / "hapt" / "RawData"
    segments = _segments(raw)
    out = []
    for path in sorted(raw.glob("acc_exp*_user*.txt*")):
        found = _NAME.search(path.name.split(".")[0])
        if found is None:
            continue
        exp, user = int(found[1]), int(found[2])
        if users is None or user in users:
            rows = segments[segments[:, 0] == exp][:, 1:]
            out.append(Session(exp, user, read_recording(path), rows))
    if not out:
        raise HardError(f"{raw}: no acc_expNN_userNN.txt; expected HAPT's raw recordings")
    return out


def read_official(data: Path, split: str) -> Official:
    """The published windows of `train` (21 people) or `test` (9 people)."""
    path = data / "uci_har_windows" / f"{split}.npz"
    try:
        with np.load(path) as file:
            return Official(file["exp"], file["start"], file["y"] - 1, file["subject"], file["count_matched"])
    except FileNotFoundError:
        raise HardError(
            f"{path}: no such file; it says where the official windows lie, and cannot be "
            "downloaded; `python tools/evaluate.py sets --data-set hapt` does without"
        ) from None
    except (OSError, ValueError, KeyError) as e:
        raise HardError(f"{path}: {e}; expected exp, start, y, subject and count_matched") from None


def official_windows(data: Path, split: str, windowing: Windowing) -> tuple[F32, Official]:
    """The official windows as the daemon would see them, (N, window, 9), and what is known of them."""
    official = read_official(data, split)
    users = frozenset(int(user) for user in np.unique(official.user))
    sessions = read_sessions(data, users)
    streams = features([s.recording for s in sessions], windowing)
    by_exp = {s.exp: stream for s, stream in zip(sessions, streams, strict=True)}
    rows = zip(official.exp, official.start, strict=True)
    return np.stack([by_exp[e][s : s + windowing.window] for e, s in rows]), official


def read_transitions(data: Path) -> NDArray[np.int64]:
    """Stretches between two postures: (k, 3) exp, first sample, one past the last."""
    table = _labels(data / "hapt" / "RawData")
    table = table[table[:, 2] > len(LABELS)]
    return np.stack([table[:, 0], table[:, 3] - 1, table[:, 4]], axis=1)


def _segments(raw: Path) -> NDArray[np.int64]:
    """Labelled stretches of the six activities: (k, 4) exp, label 0-5, first sample, one past the last."""
    table = _labels(raw)
    table = table[table[:, 2] <= len(LABELS)]
    return np.stack([table[:, 0], table[:, 2] - 1, table[:, 3] - 1, table[:, 4]], axis=1)


def _labels(raw: Path) -> NDArray[np.int64]:
    """As published: (k, 5) exp, user, activity 1-12, first and last sample from 1."""
    path = next((p for p in (raw / "labels.txt", raw / "labels.txt.gz") if p.exists()), None)
    if path is None:
        raise HardError(f"{raw}/labels.txt: no such file; expected HAPT's RawData folder")
    return np.loadtxt(path, np.int64, ndmin=2)
