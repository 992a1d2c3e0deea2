"""CSV tables of any app -> what each sensor measured, in SI units: told by the header, else by physics."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from hard.codecs import CodecOptions, units
from hard.recordings.columns import TIME_UNITS, Header, units_of
from hard.recordings.join import Series
from hard.recordings.table import Table, different, moments, numbers, utc_s
from hard.stats import Counters, Drop
from hard.types import F64, G, HardError, Sensor

COUNTS: Final = CodecOptions()  # of one g, and of one deg/s, where a file holds a chip's raw counts
DATES: Final = "dates"  # instead of a unit
PER_S: Final = {**units.UNITS_PER_S, "min": 1 / 60, "h": 1 / 3600}
MOST_ALIKE: Final = 4  # rows of the same time: sensors that take turns, or a clock that is too coarse
DECIMAL_COMMA: Final = re.compile(r"[+-]?\d+,\d+")
LEAST_G: Final = 0.5  # less than this, over a second, is an acceleration without gravity
WITH_GRAVITY: Final = (
    'export it with gravity: "Acceleration with g" in phyphox, Gravity or Total Acceleration as well in '
    "Sensor Logger, the raw accelerometer elsewhere"
)
NAMES: Final = (
    "expected t,ax,ay,az,gx,gy,gz or other common names of time, acceleration and angular velocity, a "
    "MotionSense CSV, or HAPT's acc_expNN_userNN.txt and gyro_expNN_userNN.txt"
)
WHOSE: Final = "of which sensor? Name the columns ax,ay,az or gx,gy,gz, or the file Accelerometer.csv"


class Own(msgspec.Struct, frozen=True):
    """The units that a person says; None: to be told."""

    acc_unit: str | None  # m/s2 or g
    gyro_unit: str | None  # rad/s or deg/s

    def refuse(self, path: Path) -> None:
        """HardError where any is said of a file whose format fixes them."""
        if self.acc_unit or self.gyro_unit:
            raise HardError(
                f"{path}: its units are fixed by its format; leave out --acc-unit and --gyro-unit"
            )


class Raw(msgspec.Struct, frozen=True):
    """One sensor's columns as they are in a file."""

    where: str
    sensor: Sensor
    t: F64  # (n,) s
    xyz: F64  # (n, 3)
    unit: str | None  # None: to be told
    core_motion: bool


def read_sensors(table: Table, header: Header, counters: Counters) -> list[Raw]:
    """All sensors of a table. Rows without a time are dropped and counted."""
    for sensor, columns in header.incomplete.items():
        there = ", ".join(repr(table.names[c]) for c in columns)
        raise HardError(
            f"{table.where}: {sensor.value} in {there} lacks an axis of x, y and z; name all three alike, or "
            "take these out"
        )
    if not header.sensors:
        bare = {"x", "y", "z"} <= {name.lower() for name in table.names}
        raise HardError(f"{table.where}: {_names(table)}; {WHOSE if bare else NAMES}")
    for who in header.who:
        several = different(table, who)
        if len(several) > 1:
            some = ", ".join([*(text[:20] for text in several[:3]), *(["..."] if several[3:] else [])])
            raise HardError(
                f"{table.where}: {len(several)} devices or people in column {table.names[who]!r} ({some}); "
                "give a file for each"
            )
    column, said = _time_column(table, header)
    wanted = [c for axes in header.sensors.values() for c in axes.columns]
    if said == DATES:
        said = "s"
        values = np.column_stack([moments(table, column), numbers(table, wanted)])
    else:
        values = numbers(table, [column, *wanted])  # (n, 1 + 3 k)
    timed = np.isfinite(values[:, 0])
    counters.add(Drop.NOT_FINITE, int(np.isfinite(values[~timed, 1:]).any(axis=1).sum()))
    values = values[timed]
    t = values[:, 0] / PER_S[said or _time_unit(table, column, values[:, 0])]
    parts = np.split(values[:, 1:], len(header.sensors), axis=1)
    whole = [np.isfinite(xyz).all(axis=1) for xyz in parts]
    turns = not all(np.array_equal(rows, whole[0]) for rows in whole)  # a cell is blank at others' moments
    out = []
    for (sensor, axes), xyz, rows in zip(header.sensors.items(), parts, whole, strict=True):
        if rows.any():
            mine = rows if turns else slice(None)
            out.append(Raw(table.where, sensor, t[mine], xyz[mine], axes.unit, axes.core_motion))
    if not out:
        raise HardError(f"{table.where}: no samples")
    return out


def in_si(raws: Sequence[Raw], own: Own) -> dict[Sensor, Series]:
    """Each sensor in m/s² (Android sign) or rad/s; units given win over those of the header."""
    by = {raw.sensor: raw for raw in _told_apart(raws)}
    heavy = by.get(Sensor.ACC) or by.get(Sensor.GRAVITY)
    if heavy is None:
        if Sensor.LINEAR in by:
            raise HardError(f"{by[Sensor.LINEAR].where}: acceleration without gravity; {WITH_GRAVITY}")
        raise HardError(
            f"{raws[0].where}: angular velocity, but no acceleration; export the accelerometer as well"
        )
    if heavy.sensor is Sensor.GRAVITY and Sensor.LINEAR not in by:
        raise HardError(f"{heavy.where}: gravity, but no acceleration; export the accelerometer as well")
    told = own.acc_unit or _checked(heavy) or _acc_unit(heavy)
    core_motion = any(raw.core_motion for raw in by.values())
    out = {}
    for sensor, raw in by.items():
        if sensor is Sensor.GYRO:
            scale = units.gyro_scale(
                own.gyro_unit or _checked(raw) or _gyro_unit(raw, told, core_motion), COUNTS.gyro_scale
            )
        else:
            scale = units.acc_scale(own.acc_unit or _checked(raw) or told, COUNTS.acc_scale)
            scale = -scale if core_motion else scale
        out[sensor] = Series(raw.t, raw.xyz * scale)
    if heavy.sensor is Sensor.ACC:
        _require_gravity(heavy.where, out[Sensor.ACC])
    return out


def level(s: Series) -> float:
    """Size of the acceleration's mean over a second, the median of all seconds: g, where gravity is in it."""
    good = np.isfinite(s.xyz).all(axis=1)
    if not good.any():
        return 0.0
    second = np.floor(s.t[good] - s.t[good].min())
    _, which, counts = np.unique(second, return_inverse=True, return_counts=True)
    sums = np.stack([np.bincount(which, s.xyz[good, i]) for i in range(3)], axis=1)  # (k, 3)
    return float(np.median(np.linalg.norm(sums / counts[:, None], axis=1)))


def _told_apart(raws: Sequence[Raw]) -> list[Raw]:
    """An acceleration beside gravity is without it, whatever it is called, if it is so by its values."""
    by = {raw.sensor: raw for raw in raws}
    acc, gravity = by.get(Sensor.ACC), by.get(Sensor.GRAVITY)
    if (
        acc
        and gravity
        and Sensor.LINEAR not in by
        and level(Series(acc.t, acc.xyz)) < LEAST_G * level(Series(gravity.t, gravity.xyz))
    ):
        by[Sensor.LINEAR] = msgspec.structs.replace(by.pop(Sensor.ACC), sensor=Sensor.LINEAR)
    return list(by.values())


def _require_gravity(where: str, acc: Series) -> None:
    size = level(acc)
    if size < LEAST_G * G:
        raise HardError(
            f"{where}: no gravity in the acceleration ({size:.2g} m/s² over a second, expected 9.8); "
            f"{WITH_GRAVITY}; or name its unit with --acc-unit"
        )


def _time_column(table: Table, header: Header) -> tuple[int, str | None]:
    """The time's column, and its unit where the header says it, or DATES."""
    line, first = table.first()
    for column, unit in header.times:
        try:
            float(first[column])
        except (ValueError, IndexError):
            continue  # a date, or nothing
        if unit is not None and unit not in TIME_UNITS:
            raise HardError(
                f"{table.where}: column {table.names[column]!r} is in {unit!r}; expected one of "
                f"{', '.join(TIME_UNITS)}, or no unit"
            )
        return column, unit
    for column, _ in header.times:
        with contextlib.suppress(ValueError, IndexError):
            utc_s(first[column])
            return column, DATES
    if first and header.times:
        column = header.times[0][0]
        if column < len(first) and DECIMAL_COMMA.fullmatch(first[column].strip()):
            raise HardError(
                f"{table.where}: {first[column].strip()!r} in line {line}: with decimal commas, columns are "
                "separated by ; or tabs"
            )
        raise HardError(
            f"{table.where}: the times in column {table.names[column]!r} are no numbers (line {line}); "
            "export seconds, milliseconds, nanoseconds or ISO 8601, without a line of units"
        )
    if not first:
        raise HardError(f"{table.where}: no samples")
    raise HardError(f"{table.where}: {_names(table)} has no time; name its column t, time or timestamp")


def _time_unit(table: Table, column: int, t: F64) -> str:
    times = np.unique(t)
    if len(times) < 2:
        return "s"
    if MOST_ALIKE * len(times) < len(t):
        raise HardError(
            f"{table.where}: {len(times)} different times in {len(t)} rows, column {table.names[column]!r}; "
            "export them finer, in milliseconds"
        )
    step = float(np.median(np.diff(times)))
    unit = units.unit_of_step(step)
    if unit is None:
        raise HardError(
            f"{table.where}: times in column {table.names[column]!r} are {step:g} apart, which is no "
            "sampling in s, ms, us or ns; say the unit in the header, such as time (ms)"
        )
    return unit


def _checked(raw: Raw) -> str | None:
    """The unit that the header says; HardError where it is none."""
    allowed = units_of(raw.sensor)
    if raw.unit is None or raw.unit in allowed:
        return raw.unit
    option = "--gyro-unit" if raw.sensor is Sensor.GYRO else "--acc-unit"
    raise HardError(
        f"{raw.where}: {raw.sensor.value} in {raw.unit!r}; expected {' or '.join(allowed)}: convert it, or "
        f"say what it is with {option}"
    )


def _acc_unit(heavy: Raw) -> str:
    unit = units.acc_unit(heavy.xyz, COUNTS.acc_scale)
    if unit is None:
        norm = units.median_norm(heavy.xyz)
        raise HardError(
            f"{heavy.where}: {heavy.sensor.value} has a median size of {norm:.3g}, which is 1 g in no unit: "
            f"say its unit with --acc-unit, or, if gravity was taken out of it, {WITH_GRAVITY}"
        )
    return unit


def _gyro_unit(gyro: Raw, acc_unit: str, core_motion: bool) -> str:
    """By the company it keeps; g goes with deg/s on boards, with rad/s in iOS, and only values tell."""
    if acc_unit != "g" or (np.abs(gyro.xyz) > units.MAX_RAD_S).any():
        return units.gyro_unit(gyro.xyz, acc_unit)
    if core_motion:
        return "rad/s"
    most = float(np.nanmax(np.abs(gyro.xyz)))
    raise HardError(
        f"{gyro.where}: angular velocity of up to {most:.3g} beside acceleration in g may be in rad/s or in "
        "deg/s: say it with --gyro-unit"
    )


def _names(table: Table) -> str:
    return f"header {','.join(table.names)[:60]!r}" if table.names else "(an empty file)"
