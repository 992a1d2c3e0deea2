"""Sensor Logger (iOS, Android): JSON batches of many sensors, UTC nanoseconds.

Documented in tszheichoi/awesome-sensor-logger, PUSHING.md, UNITS.md and CROSSPLATFORM.md.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
import numpy as np

from hard.codecs import UNREADABLE, CodecOptions, PayloadError, safe_name
from hard.stats import Counters, Drop
from hard.types import F64, Chunk, G, Message, Readings, Sensor

SENSORS: Final = {
    "totalacceleration": Sensor.ACC,  # Android only
    "accelerometer": Sensor.LINEAR,  # without gravity, despite the name
    "gravity": Sensor.GRAVITY,
    "gyroscope": Sensor.GYRO,
}
UNCALIBRATED: Final = "accelerometeruncalibrated"  # with gravity: m/s² on Android, g on iOS
_OURS: Final = frozenset((*SENSORS, UNCALIBRATED))
MAX_KNOWN: Final = 20_000


class _Values(msgspec.Struct, gc=False):
    x: float | None = None
    y: float | None = None
    z: float | None = None


class _Reading(msgspec.Struct, gc=False):
    name: str
    time: int  # ns, UTC
    values: _Values = msgspec.field(default_factory=_Values)
    accuracy: int | None = None  # Android only, on some sensors


class _Batch(msgspec.Struct):
    payload: list[_Reading] = []
    deviceId: str = ""  # noqa: N815  (the app's key)


_DECODER = msgspec.json.Decoder(_Batch)


class SensorLoggerCodec:
    """iOS and Android point acceleration in opposite directions; `frame` says which, or `auto` tells it.

    A phone that ever sends an accuracy or a total acceleration is an Android. "Standardise Units & Frames" on
    an iPhone cannot be seen in the stream: it needs `frame: android`.
    """

    def __init__(self, options: CodecOptions, counters: Counters) -> None:
        self._counters = counters
        self._frame = options.frame
        self._androids: OrderedDict[str, None] = OrderedDict()
        self._useful: OrderedDict[str, None] = OrderedDict()  # devices with a sensor of ours

    def decode(self, message: Message) -> Sequence[Chunk | Readings]:
        try:
            batch = _DECODER.decode(message.payload)
        except UNREADABLE as e:
            raise PayloadError(f"Sensor Logger: {e}") from None
        device = safe_name(batch.deviceId or message.topic)
        rows: dict[str, list[float]] = {}  # by the sensor's name: time, x, y, z, time, x, ...
        row: list[float] = []
        before, android = None, False
        for reading in batch.payload:
            v, name = reading.values, reading.name
            if v.x is not None and v.y is not None and v.z is not None:
                if name != before:
                    row, before = rows.setdefault(name.lower(), []), name
                row += (reading.time, v.x, v.y, v.z)
            elif name.lower() in _OURS:
                self._counters.add(Drop.NOT_FINITE)
            if reading.accuracy is not None:
                android = True
        # nanoseconds since 1970 lose 0.2 µs in float64
        try:
            by_name = {
                name: np.fromiter(row, np.float64, len(row)).reshape(-1, 4) for name, row in rows.items()
            }
        except OverflowError as e:
            raise PayloadError(f"Sensor Logger: time: {e}") from None
        if device not in self._useful:
            self._expect(device, {reading.name for reading in batch.payload})
        ios = not self._is_android(device, android or "totalacceleration" in by_name)
        return [
            Readings(device, sensor, table[:, 0] * 1e-9, table[:, 1:], message.arrival_s)
            for sensor, table in by_sensor(by_name, ios).items()
        ]

    def _expect(self, device: str, names: set[str]) -> None:
        """PayloadError where a device sends, but has never sent a sensor of ours."""
        if any(name.lower() in _OURS for name in names):
            self._useful[device] = None
            if len(self._useful) > MAX_KNOWN:
                self._useful.popitem(last=False)
        elif names:
            sent = ", ".join(sorted(name[:20] for name in names)[:4])
            raise PayloadError(
                f"Sensor Logger: {device} sends {sent} only: turn on Accelerometer, Gravity and Gyroscope"
            )

    def _is_android(self, device: str, evidence: bool) -> bool:
        if self._frame != "auto":
            return self._frame == "android"
        if evidence:
            self._androids[device] = None
            if len(self._androids) > MAX_KNOWN:
                self._androids.popitem(last=False)
        return device in self._androids


def by_sensor(by_name: Mapping[str, F64], ios: bool) -> dict[Sensor, F64]:
    """What the app's sensors mean: (n, 4) time, x, y, z, by name in small letters -> by sensor, in SI units.

    ios: acceleration points the other way, and uncalibrated acceleration is in g.
    """
    tables = dict(by_name)
    if "totalacceleration" in tables:
        tables.pop("accelerometer", None)
        tables.pop("gravity", None)
    elif "accelerometer" not in tables and UNCALIBRATED in tables:
        tables["totalacceleration"] = _scaled(tables[UNCALIBRATED], G if ios else 1.0)
    return {
        sensor: _scaled(tables[name], -1.0) if ios and sensor is not Sensor.GYRO else tables[name]
        for name, sensor in SENSORS.items()
        if name in tables
    }


def _scaled(table: F64, factor: float) -> F64:
    """The same times, other values."""
    return table * [1.0, factor, factor, factor]
