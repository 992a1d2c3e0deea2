"""sp_sw_har (Matey-Sanz et al.): 23 people, phone in the front pocket, get up, walk, turn and sit down."""

from __future__ import annotations

import gzip
import re
from itertools import groupby
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from hard.recordings import Recording
from hard.types import F64, HardError

ACTIVITIES: Final = {"WALKING": "walking", "TURNING": "walking", "SEATED": "sitting"}
"""Who turns here walks around a cone. Getting up and sitting down are neither sitting nor walking."""
COLUMNS: Final = ("x_acc", "y_acc", "z_acc", "x_gyro", "y_gyro", "z_gyro", "timestamp", "label")
_NAME: Final = re.compile(r"s(\d+)_(\d+)_sp\.csv(\.gz)?$")


class Execution(msgspec.Struct, frozen=True):
    """One recording, 11 s on average, with its person and its labelled stretches."""

    user: int
    number: int
    recording: Recording
    activities: list[str]  # (k,)
    spans_s: F64  # (k, 2): first and last sample of each stretch, seconds on the recording's clock


def read_executions(data: Path, users: frozenset[int] | None = None) -> list[Execution]:
    """All phone recordings of these users (None: of everyone), by user and number."""
    folder = data / "sp_sw_har" / "DATA"
    found = []
    for path in folder.glob("s*/s*_sp.csv*"):
        name = _NAME.match(path.name)
        if name and (users is None or int(name[1]) in users):
            found.append((int(name[1]), int(name[2]), path))
    if not found:
        raise HardError(
            f"{folder}: no s01/s01_01_sp.csv and the like; expected sp_sw_har's DATA folder "
            "(tools/fetch_data.py fetches it)"
        )
    return [_read(user, number, path) for user, number, path in sorted(found)]


def _read(user: int, number: int, path: Path) -> Execution:
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        rows = [line.split(",") for line in raw.decode("utf-8-sig").splitlines()]
    except (OSError, EOFError, UnicodeDecodeError) as e:
        raise HardError(f"{path}: {getattr(e, 'strerror', None) or e}") from None
    if not rows or tuple(rows[0]) != COLUMNS:
        raise HardError(f"{path}: header {','.join(rows[0]) if rows else ''!r}; expected {','.join(COLUMNS)}")
    try:
        table = np.array([row[:7] for row in rows[1:]], np.float64).reshape(-1, 7)
    except ValueError as e:
        raise HardError(f"{path}: {e}; expected seven numbers and a label on every line") from None
    if len(table) < 2:
        raise HardError(f"{path}: {len(table)} samples; expected two or more")
    t = uniform(table[:, 6] / 1000)
    activities, spans = _spans([row[7].strip() for row in rows[1:]])
    name = path.name.split(".")[0]
    return Execution(user, number, Recording(name, t, table[:, :6].astype(np.float32)), activities, t[spans])


def uniform(stamps_s: F64) -> F64:
    """The clock behind time stamps of samples that were handed over in bursts: (n,) -> (n,) from 0.

    The stamps are of the hand-over, several samples to a millisecond and then none for 50. The sensor's own
    clock is even: a straight line through them leaves 5-16 ms (standard deviation), in every recording.
    """
    i = np.arange(len(stamps_s))
    slope = np.polyfit(i, stamps_s - stamps_s[0], 1)[0]
    return np.asarray(i * slope, np.float64)


def _spans(labels: list[str]) -> tuple[list[str], NDArray[np.int64]]:
    """Stretches of one activity, and their first and last rows, (k, 2)."""
    activities, spans, at = [], [], 0
    for activity, group in groupby(labels, lambda label: ACTIVITIES.get(label)):
        n = len(list(group))
        if activity is not None:
            activities.append(activity)
            spans.append((at, at + n - 1))
        at += n
    return activities, np.array(spans, np.int64).reshape(-1, 2)
