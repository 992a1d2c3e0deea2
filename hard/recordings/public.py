"""Public data sets' own files: HAPT pairs, and MotionSense CSV without a clock."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from hard.recordings.columns import Header
from hard.recordings.files import read_text
from hard.recordings.recording import Recording
from hard.recordings.table import Table, numbers
from hard.types import F64, G, HardError

HAPT: Final = re.compile(r"(acc|gyro)(_exp\d+_user\d+\.txt(\.gz)?)$")
_HAPT_HZ: Final = 50.0
_MOTIONSENSE_HZ: Final = 50.0


def read_hapt(path: Path, pair: re.Match[str]) -> Recording:
    """Both halves, from the path of either."""
    acc, gyro = (_half(_other(path, kind + pair[2])) for kind in ("acc", "gyro"))
    if len(acc) != len(gyro):
        raise HardError(f"{path}: {len(acc)} acceleration rows but {len(gyro)} gyroscope rows")
    samples = np.concatenate([acc * G, gyro], axis=1).astype(np.float32)
    name = pair[2].split(".")[0].strip("_")
    return Recording(name, np.arange(len(samples)) / _HAPT_HZ, samples)


def is_motionsense(columns: Sequence[str], header: Header) -> bool:
    """By its columns, none of which is a time."""
    return "userAcceleration.x" in columns and not header.times


def read_motionsense(path: Path, table: Table) -> Recording:
    column = {name: i for i, name in enumerate(table.names)}

    def axes(sensor: str) -> list[int]:
        try:
            return [column[f"{sensor}.{axis}"] for axis in "xyz"]
        except KeyError as e:
            raise HardError(f"{path}: column {e.args[0]} is missing") from None

    values = numbers(table, [*axes("gravity"), *axes("userAcceleration"), *axes("rotationRate")])
    acc = -G * (values[:, :3] + values[:, 3:6])  # iOS points gravity down
    samples = np.concatenate([acc, values[:, 6:]], axis=1).astype(np.float32)
    name = f"{path.parent.name}_{path.name.split('.')[0]}"
    return Recording(name, np.arange(len(samples)) / _MOTIONSENSE_HZ, samples)


def _other(path: Path, name: str) -> Path:
    half = path.with_name(name)
    if not half.exists():  # one of the two may be compressed
        other = half.name[:-3] if half.suffix == ".gz" else half.name + ".gz"
        half = half.with_name(other) if half.with_name(other).exists() else half
    return half


def _half(path: Path) -> F64:
    table = Table(str(path), ["x", "y", "z"], read_text(path), 1, None)
    columns = len(table.first_row())
    if columns not in (0, 3):
        raise HardError(f"{path}: {columns} columns; expected 3")
    return numbers(table, [0, 1, 2])
