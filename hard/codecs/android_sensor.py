"""SensorSpot and SensaGram (Android): one sensor event a message, nanoseconds since boot.

Documented in UmerCodez/SensorSpot and umer0586/SensaGram, README.md and SensorPublisher.kt.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np

from hard.codecs import UNREADABLE, CodecOptions, PayloadError, safe_name
from hard.stats import Counters
from hard.types import Chunk, Message, Readings, Sensor

SENSORS: Final = {
    "accelerometer": Sensor.ACC,
    "gyroscope": Sensor.GYRO,
    "gravity": Sensor.GRAVITY,
    "linear_acceleration": Sensor.LINEAR,
}


class _Event(msgspec.Struct):
    timestamp: int  # ns since boot
    values: list[float]
    type: str = ""  # "android.sensor.accelerometer"


_DECODER = msgspec.json.Decoder(_Event)


class AndroidSensorCodec:
    """On a shared topic the event names its sensor; on a topic of its own, the topic's last level does.

    The messages do not say which phone they are from: the topic does. Keeps no state.
    """

    def __init__(self, options: CodecOptions, counters: Counters) -> None:
        pass

    def decode(self, message: Message) -> Sequence[Chunk | Readings]:
        try:
            event = _DECODER.decode(message.payload)
        except UNREADABLE as e:
            raise PayloadError(f"Android sensor event: {e}") from None
        base, _, last = message.topic.rpartition("/")
        dedicated = last in SENSORS
        sensor = SENSORS.get((event.type or last).rsplit(".", 1)[-1])
        if sensor is None:
            return ()  # light, location, ...: not ours
        if len(event.values) < 3:
            raise PayloadError(f"Android sensor event: {len(event.values)} values; expected x, y, z")
        try:
            t = np.array([event.timestamp * 1e-9])
        except OverflowError as e:
            raise PayloadError(f"Android sensor event: timestamp: {e}") from None
        device = safe_name(base if dedicated else message.topic)
        return (Readings(device, sensor, t, np.array([event.values[:3]], np.float64), message.arrival_s),)
