"""HyperIMU (Android): all sensors of one moment as JSON or as CSV in the order of the user's list, epoch ms.

Documented at ianovir.com/works/mobile/hyperimu/hyperimu-help.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np

from hard.codecs import AXES, UNREADABLE, CodecOptions, PayloadError, safe_name
from hard.stats import Counters
from hard.types import Chunk, HardError, Message, Readings, Sensor

_NAMED: Final = (("Accelerometer", Sensor.ACC), ("Gyroscope", Sensor.GYRO), ("Gravity", Sensor.GRAVITY))
_CSV: Final = ((("ax", "ay", "az"), Sensor.ACC), (("gx", "gy", "gz"), Sensor.GYRO))


class HyperImuCodec:
    """`columns` names the CSV's values from the left, any other name being left out; default t, acc, gyro."""

    def __init__(self, options: CodecOptions, counters: Counters) -> None:
        columns = options.columns or ("t", *AXES)
        self._length = len(columns)
        self._columns: dict[str, int] = {name: i for i, name in enumerate(columns)}
        if "t" not in self._columns:
            raise HardError(f"columns {', '.join(columns)}: t is missing, HyperIMU's timestamp")

    def decode(self, message: Message) -> Sequence[Chunk | Readings]:
        device = safe_name(message.topic.rpartition("/")[2])
        if message.payload.lstrip()[:1] == b"{":
            t_ms, values = self._json(message.payload)
        else:
            t_ms, values = self._csv(message.payload)
        if not values:
            return ()
        t = np.array([t_ms / 1000.0])
        return [Readings(device, s, t, np.array([v[:3]], np.float64), message.arrival_s) for s, v in values]

    def _json(self, payload: bytes) -> tuple[float, list[tuple[Sensor, list[float]]]]:
        try:
            fields: dict[str, msgspec.Raw] = msgspec.json.decode(payload, type=dict[str, msgspec.Raw])
            t_ms = msgspec.json.decode(fields.get("Timestamp", b"null"), type=float)
            values = [
                (sensor, msgspec.json.decode(fields[name], type=list[float]))
                for name, sensor in _NAMED
                if name in fields
            ]
        except UNREADABLE as e:
            raise PayloadError(f"HyperIMU: {e}") from None
        if any(len(v) < 3 for _, v in values):
            raise PayloadError("HyperIMU: a sensor with fewer than three values")
        return t_ms, values

    def _csv(self, payload: bytes) -> tuple[float, list[tuple[Sensor, list[float]]]]:
        try:
            row = [float(v) for v in payload.split(b",")]
            t_ms = row[self._columns["t"]]
            values = [
                (sensor, [row[self._columns[axis]] for axis in axes])
                for axes, sensor in _CSV
                if all(axis in self._columns for axis in axes)
            ]
        except ValueError:
            raise PayloadError(f"HyperIMU: {payload[:20]!r}; expected numbers separated by commas") from None
        except IndexError:
            raise PayloadError(f"HyperIMU: {len(row)} values, but `columns` names {self._length}") from None
        return t_ms, values
