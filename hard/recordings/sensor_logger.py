"""Sensor Logger's exports: a zip or a folder with a CSV for each sensor, or one JSON file.

Documented in tszheichoi/awesome-sensor-logger, README.md (files, times) and UNITS.md; what its sensors mean
is in codecs/sensor_logger.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from hard.codecs.sensor_logger import SENSORS, UNCALIBRATED, by_sensor
from hard.codecs.units import acc_unit
from hard.recordings.files import Export
from hard.recordings.join import Series
from hard.recordings.table import Table, numbers, parse
from hard.types import F64, HardError, Sensor

COLUMNS: Final = frozenset({"seconds_elapsed", "x", "y", "z"})
METADATA: Final = "metadata.csv"  # in small letters
COUNTS_PER_G: Final = math.inf  # the app knows none


class _Row(msgspec.Struct, gc=False):
    """A reading of any sensor, or what is known of the phone; numbers are written as text."""

    sensor: str = ""
    seconds_elapsed: str | float | None = None
    x: str | float | None = None
    y: str | float | None = None
    z: str | float | None = None
    platform: str | None = None
    standardisation: str | bool | None = None


def is_one_of_its(file: str, columns: Sequence[str]) -> bool:
    """Whether a CSV is one sensor of an export, by its name and its columns."""
    return _sensor(file) is not None and set(columns) >= COLUMNS


def read_export(export: Export, names: Sequence[str]) -> dict[Sensor, Series]:
    """These files of an export, with its Metadata.csv."""
    tables = {}
    for name in names:
        sensor = _sensor(name)
        if sensor is not None:
            tables[sensor] = _table(parse(export.where(name), export.text(name)))
    metadata = None
    for name in export.names:
        if name.lower() == METADATA:
            metadata = _metadata(parse(export.where(name), export.text(name)))
    return _sensors(str(export.path), tables, metadata)


def read_json(path: Path, text: str) -> dict[Sensor, Series]:
    """[{"sensor": "Gravity", "time": "...", "seconds_elapsed": "0.2", "z": "9.8", "y": ..., "x": ...}]"""
    try:
        rows = msgspec.json.decode(text, type=list[_Row])
    except (msgspec.DecodeError, RecursionError) as e:
        raise HardError(f"{path}: {e}; expected Sensor Logger's export, a list of readings") from None
    values: dict[str, list[tuple[str | float, ...]]] = {}
    metadata = None
    for row in rows:
        if row.platform is not None:
            metadata = row.platform, row.standardisation
        name = row.sensor.lower()
        t, x, y, z = row.seconds_elapsed, row.x, row.y, row.z
        if not _known(name) or t is None or x is None or y is None or z is None:
            continue
        values.setdefault(name, []).append((t, x, y, z))
    try:
        tables = {name: np.array(v, np.float64) for name, v in values.items()}
    except ValueError as e:
        raise HardError(f"{path}: {e}; expected numbers in seconds_elapsed, x, y and z") from None
    return _sensors(str(path), tables, metadata)


def _sensors(
    where: str, tables: Mapping[str, F64], metadata: tuple[str, str | bool | None] | None
) -> dict[Sensor, Series]:
    """tables: (n, 4) seconds, x, y, z by the app's names in small letters."""
    tables = dict(tables)
    if "gravity" not in tables and {"totalacceleration", UNCALIBRATED} & tables.keys():
        tables.pop("accelerometer", None)  # what is without gravity is of no use
    found = by_sensor(tables, _is_ios(tables, metadata))
    if Sensor.ACC not in found and not {Sensor.LINEAR, Sensor.GRAVITY} <= found.keys():
        there = ", ".join(sorted(tables)) or "no sensor of motion"
        raise HardError(
            f"{where}: {there} of Sensor Logger, but no acceleration with gravity (its accelerometer has "
            "none); switch on Gravity or Total Acceleration, and give the whole export, zip or folder"
        )
    return {sensor: Series(t[:, 0], t[:, 1:]) for sensor, t in found.items()}


def _is_ios(tables: Mapping[str, F64], metadata: tuple[str, str | bool | None] | None) -> bool:
    """By the metadata; where there are none, by what only one of the two platforms sends."""
    if metadata is not None:
        platform, standardised = metadata
        return platform.lower() == "ios" and str(standardised).lower() != "true"
    if "accelerometer" not in tables and UNCALIBRATED in tables:
        return acc_unit(tables[UNCALIBRATED][:, 1:], COUNTS_PER_G) == "g"
    return "totalacceleration" not in tables


def _metadata(table: Table) -> tuple[str, str | bool | None]:
    """Platform, and whether "Standardise Units & Frames" was on, which makes iOS follow Android."""
    row = dict(zip(table.names, table.first_row(), strict=False))
    platform = row.get("platform", "").strip()
    if platform.lower() not in ("ios", "android"):
        raise HardError(
            f"{table.where}: platform {platform!r}; expected ios or android, which tells the sign"
        )
    return platform, row.get("standardisation", "").strip()


def _table(table: Table) -> F64:
    """(n, 4): seconds, x, y, z."""
    return numbers(table, [table.names.index(name) for name in ("seconds_elapsed", "x", "y", "z")])


def _known(name: str) -> bool:
    return name in SENSORS or name == UNCALIBRATED


def _sensor(file: str) -> str | None:
    """TotalAcceleration.csv -> totalacceleration; None of other files."""
    name = file.lower().removesuffix(".csv")
    return name if _known(name) else None
