"""What the columns of a CSV hold, told by their names: time, a sensor's axis, and its unit in parentheses."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import msgspec

from hard.types import Sensor

TIMES: Final = {
    "secondselapsed": "s", "t": None, "time": None, "timestamp": None, "ts": None, "elapsed": None,
    "elapsedtime": None, "timeelapsed": None, "timesincestart": None, "timesincestartin": None,
    "sensortimestamp": None, "unixtime": None, "epoch": None, "epochtime": None, "timestampunix": None,
    "seconds": "s", "millis": "ms", "milliseconds": "ms", "micros": "us", "microseconds": "us",
}  # fmt: skip
"""Names, likeliest first, and the unit that a name says; the first column that is a number counts."""
SENSORS: Final = {
    Sensor.ACC: (
        "gf", "gforce", "totalacceleration", "totalaccel", "totalacc", "totacc", "accelerationwithg",
        "accelerationincludinggravity", "accelerometer", "acceleration", "accel", "acc", "a",
    ),
    Sensor.LINEAR: (
        "linearacceleration", "linearaccelerometer", "linearaccel", "linearacc", "linacc", "lin", "linear",
        "useracceleration", "useraccelerometer", "useraccel", "useracc", "bodyacc", "accelerationwithoutg",
    ),
    Sensor.GRAVITY: ("gravity", "grav"),
    Sensor.GYRO: ("gyroscope", "gyro", "gyr", "rotationrate", "angularvelocity", "angvel", "omega", "w", "g"),
}  # fmt: skip
"""Before or after an axis; of several the first: Physics Toolbox's gFx is with gravity, its ax without."""
WHO: Final = frozenset(
    who + of for who in ("user", "subject", "person", "participant", "volunteer", "device", "phone")
    for of in ("", "id", "name")
)  # fmt: skip
"""Columns that say whose a row is."""
CORE_MOTION: Final = "useracceleration"  # iOS calls it so, and points it and gravity the other way
_UNITS: Final = {
    "m/s2": ("m/s2", "m/s/s", "ms-2", "m.s-2", "ms2", "mps2", "m/sec2"),
    "g": ("g", "gs", "gforce"),
    "rad/s": ("rad/s", "rads-1", "rad.s-1", "rad/sec", "radps"),
    "deg/s": ("deg/s", "°/s", "º/s", "degs-1", "deg/sec", "degrees/s", "degree/s", "dps"),
    "s": ("s", "sec", "secs", "second", "seconds"),
    "ms": ("ms", "msec", "millis", "milliseconds"),
    "us": ("us", "µs", "μs", "micros", "microseconds"),
    "ns": ("ns", "nanos", "nanoseconds"),
}
_KNOWN: Final = {name: unit for unit, names in _UNITS.items() for name in names}
_LONG: Final = {
    **dict.fromkeys(("min", "mins", "minute", "minutes"), "min"),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), "h"),
}  # in parentheses only: acc_x_min is the least of something
_IN: Final = {
    Sensor.ACC: ("m/s2", "g"), Sensor.LINEAR: ("m/s2", "g"), Sensor.GRAVITY: ("m/s2", "g"),
    Sensor.GYRO: ("rad/s", "deg/s"),
}  # fmt: skip
TIME_UNITS: Final = ("s", "ms", "us", "ns", "min", "h")
_PARENTHESES: Final = re.compile(r"(.*?)[(\[]([^()\[\]]*)[)\]]\s*$")
_SEPARATORS: Final = re.compile(r"[\s._:/-]+")
_AXIS: Final = re.compile(r"(?P<before>.*)(?P<last>[xyz])|(?P<first>[xyz])(?P<after>.+)")
_FILES: Final = (
    (Sensor.LINEAR, ("linear", "useracc", "without")),
    (Sensor.GRAVITY, ("gravity",)),
    (Sensor.GYRO, ("gyr", "rotationrate")),
    (Sensor.ACC, ("acc",)),
)


class Name(msgspec.Struct, frozen=True):
    """A column's name taken apart."""

    key: str  # small letters and digits, without the unit
    unit: str | None  # as in _UNITS; what is none of them, as it is written


class Axes(msgspec.Struct, frozen=True):
    """Where a sensor's values are."""

    columns: tuple[int, int, int]  # x, y, z
    unit: str | None  # where the axes' differ, all of them: "g and m/s2"
    core_motion: bool = False


class Header(msgspec.Struct, frozen=True):
    """What is in a table."""

    times: list[tuple[int, str | None]]  # columns and units, the likeliest first
    sensors: dict[Sensor, Axes]
    incomplete: dict[Sensor, list[int]]  # columns of what lacks an axis
    who: list[int]  # columns that say whose a row is


def read_header(names: Sequence[str], file: str = "") -> Header:
    """The columns of known names. x, y, z alone are the sensor that their unit or the file's name tells.

    Where another sensor has its name, they are acceleration if it is the gyroscope.
    """
    parts = [_name(name) for name in names]
    found: dict[tuple[str, str], int] = {}  # by sensor's name and axis
    for i, part in enumerate(parts):
        match = _AXIS.fullmatch(part.key)
        if match:
            last = match["last"] is not None
            where = (match["before"], match["last"]) if last else (match["after"], match["first"])
            found.setdefault(where, i)
    sensors = {}
    incomplete = {}
    for sensor, called in SENSORS.items():
        axes = next(filter(None, (_axes(found, name, parts) for name in called)), None)
        some = [i for (name, _), i in found.items() if name in called]
        if axes:
            sensors[sensor] = axes
        elif some:
            incomplete[sensor] = some
    bare = _axes(found, "", parts)
    quaternion = any(part.key in ("w", "qw") for part in parts)
    if bare and not quaternion:
        whose = _bare_sensor(bare.unit, file, set(sensors))
        if whose is not None and whose not in sensors:
            sensors[whose] = bare
    times = [
        (i, part.unit or said)
        for key, said in TIMES.items()
        for i, part in enumerate(parts)
        if part.key == key
    ]
    return Header(times, sensors, incomplete, [i for i, part in enumerate(parts) if part.key in WHO])


def units_of(sensor: Sensor) -> tuple[str, ...]:
    """The units that a sensor's columns may be in."""
    return _IN[sensor]


def _name(text: str) -> Name:
    """Acceleration x (m/s^2) -> accelerationx in m/s2; time_ms -> time in ms."""
    match = _PARENTHESES.fullmatch(text)
    words = [w for w in _SEPARATORS.split((match[1] if match else text).lower()) if w not in ("", "axis")]
    unit = _unit(match[2]) if match else None
    gyroscope = len(words) == 2 and words[0] in "xyz" and words[1] == "g"  # x_g
    if unit is None and len(words) > 1 and words[-1] in _KNOWN and not gyroscope:
        unit = _KNOWN[words.pop()]
    return Name("".join(words), unit)


def _unit(text: str) -> str | None:
    plain = re.sub(r"[\s^*]", "", text.lower().replace("²", "2").replace("⁻", "-").replace("¹", "1"))
    return (_KNOWN | _LONG).get(plain.replace("·", "."), plain) or None


def _axes(found: dict[tuple[str, str], int], sensor: str, parts: Sequence[Name]) -> Axes | None:
    at = [found.get((sensor, axis)) for axis in "xyz"]
    if at[0] is None or at[1] is None or at[2] is None:
        return None
    units = dict.fromkeys(unit for i in (at[0], at[1], at[2]) if (unit := parts[i].unit))
    return Axes((at[0], at[1], at[2]), " and ".join(units) or None, sensor == CORE_MOTION)


def _bare_sensor(unit: str | None, file: str, named: set[Sensor]) -> Sensor | None:
    plain = _SEPARATORS.sub("", file.lower())
    hint = next((sensor for sensor, words in _FILES if any(word in plain for word in words)), None)
    if named == {Sensor.GYRO}:
        hint = hint if hint in (Sensor.LINEAR, Sensor.GRAVITY) else Sensor.ACC
    elif named:
        return None
    if unit is None or (hint is not None and unit in _IN[hint]):
        return hint
    return next((sensor for sensor in (Sensor.ACC, Sensor.GYRO) if unit in _IN[sensor]), None)
