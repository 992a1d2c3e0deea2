"""Recordings on disk -> samples in SI units: HAPT pairs, MotionSense CSV, plain t,ax,ay,az,gx,gy,gz CSV."""

from __future__ import annotations

import difflib
import gzip
import io
import re
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from hard.types import F32, F64, G, HardError

ACC_UNITS: Final = {"m/s2": 1.0, "g": G}
GYRO_UNITS: Final = {"rad/s": 1.0, "deg/s": np.pi / 180}
COLUMNS: Final = ("t", "ax", "ay", "az", "gx", "gy", "gz")
_HAPT: Final = re.compile(r"(acc|gyro)(_exp\d+_user\d+\.txt(\.gz)?)$")
_HAPT_HZ: Final = 50.0
_MOTIONSENSE_HZ: Final = 50.0


class Recording(msgspec.Struct, frozen=True):
    """One device's samples from beginning to end."""

    name: str
    t: F64  # (n,) seconds on the recording's own clock
    samples: F32  # (n, 6) m/s² (Android sign), rad/s


def read_recording(path: Path, acc_unit: str | None = None, gyro_unit: str | None = None) -> Recording:
    """Read a recording; its format is told by its name (HAPT) or its header.

    `acc_unit` and `gyro_unit` apply to plain CSV (default m/s2 and rad/s); the other formats fix theirs.
    Raises HardError with the file, and the line where there is one.
    """
    pair = _HAPT.search(path.name)
    if pair:
        recording = _hapt(path, pair)
    else:
        lines = _text(path).splitlines()
        header = [name.strip().strip('"') for name in lines[0].split(",")] if lines else []
        if "userAcceleration.x" in header:
            recording = _motionsense(path, header, lines)
        else:
            return _plain(path, header, lines, acc_unit or "m/s2", gyro_unit or "rad/s")
    if acc_unit or gyro_unit:
        raise HardError(f"{path}: its units are fixed by its format; leave out --acc-unit and --gyro-unit")
    return recording


def _text(path: Path) -> str:
    try:
        raw = path.read_bytes()
        if path.suffix == ".gz":
            raw = gzip.decompress(raw)
        return raw.decode("utf-8-sig")
    except FileNotFoundError:
        siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        near = difflib.get_close_matches(path.name, siblings, n=1)
        raise HardError(f"{path}: no such file" + (f"; did you mean {near[0]}?" if near else "")) from None
    except (OSError, EOFError) as e:
        raise HardError(f"{path}: {getattr(e, 'strerror', None) or e}") from None
    except UnicodeDecodeError:
        raise HardError(f"{path}: not a text file; expected CSV or a HAPT recording") from None


def _table(path: Path, lines: list[str], delimiter: str | None, columns: int, first_line: int) -> F64:
    """The numbers of a text table, (n, columns)."""
    if not any(line.strip() for line in lines):
        raise HardError(f"{path}: no samples")
    try:
        table = np.loadtxt(io.StringIO("\n".join(lines)), delimiter=delimiter, ndmin=2)
    except ValueError as e:
        from_one = "columns changed" in str(e)  # that message counts rows from 1, the others from 0
        shift = first_line - from_one
        message = re.sub(r" at row (\d+)", lambda m: f" in line {int(m[1]) + shift}", str(e))
        raise HardError(f"{path}: {message.split(';')[0].rstrip('.')}") from None
    if table.shape[1] != columns:
        raise HardError(f"{path}: {table.shape[1]} columns; expected {columns}")
    return np.asarray(table, np.float64)


def _hapt(path: Path, pair: re.Match[str]) -> Recording:
    halves = []
    for kind in ("acc", "gyro"):
        half = path.with_name(kind + pair[2])
        if not half.exists():  # one of the two may be compressed
            other = half.name[:-3] if half.suffix == ".gz" else half.name + ".gz"
            half = half.with_name(other) if half.with_name(other).exists() else half
        halves.append(_table(half, _text(half).splitlines(), None, 3, 1))
    acc, gyro = halves
    if len(acc) != len(gyro):
        raise HardError(f"{path}: {len(acc)} acceleration rows but {len(gyro)} gyroscope rows")
    samples = np.concatenate([acc * G, gyro], axis=1).astype(np.float32)
    name = pair[2].split(".")[0].strip("_")
    return Recording(name, np.arange(len(samples)) / _HAPT_HZ, samples)


def _motionsense(path: Path, header: list[str], lines: list[str]) -> Recording:
    table = _table(path, lines[1:], ",", len(header), 2)
    column = {name: i for i, name in enumerate(header)}

    def axes(sensor: str) -> F64:
        try:
            return table[:, [column[f"{sensor}.{axis}"] for axis in "xyz"]]
        except KeyError as e:
            raise HardError(f"{path}: column {e.args[0]} is missing") from None

    acc = -G * (axes("gravity") + axes("userAcceleration"))  # iOS points gravity down
    samples = np.concatenate([acc, axes("rotationRate")], axis=1).astype(np.float32)
    name = f"{path.parent.name}_{path.name.split('.')[0]}"
    return Recording(name, np.arange(len(samples)) / _MOTIONSENSE_HZ, samples)


def _plain(path: Path, header: list[str], lines: list[str], acc_unit: str, gyro_unit: str) -> Recording:
    if tuple(header) != COLUMNS:
        shown = ",".join(header)[:60] or "(an empty file)"
        raise HardError(
            f"{path}: header {shown!r}; expected {','.join(COLUMNS)}, a MotionSense CSV, or HAPT's "
            "acc_expNN_userNN.txt and gyro_expNN_userNN.txt"
        )
    table = _table(path, lines[1:], ",", len(COLUMNS), 2)
    scale = np.array([ACC_UNITS[acc_unit]] * 3 + [GYRO_UNITS[gyro_unit]] * 3)
    samples = (table[:, 1:] * scale).astype(np.float32)
    return Recording(path.name.split(".")[0], np.ascontiguousarray(table[:, 0]), samples)
