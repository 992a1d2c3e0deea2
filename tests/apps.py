"""Encoders of the apps' dialects, written from their documentation: what each sends of a recording.

Sensors are sampled apart from each other, at rates and with jitter of their own, and some messages are lost.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import numpy as np

from hard.recordings import Recording
from hard.types import G

Sent = tuple[str, bytes]
BOOT_S = 86_400.0 * 3
UTC_S = 1_760_000_000.0
BATCH_S = 0.5


class Phone:
    """A recording as a phone's sensors would have seen it."""

    def __init__(self, recording: Recording, seed: int) -> None:
        self._recording = recording
        self._rng = np.random.default_rng(seed)
        acc = recording.samples[:, :3].astype(float)
        self._gravity = np.empty_like(acc)  # some app's own idea of gravity: a slow average
        level = acc[0]
        for i, a in enumerate(acc):
            level = level + 0.05 * (a - level)
            self._gravity[i] = level

    def sensor(self, name: str, rate_hz: float, jitter_s: float = 0.002) -> tuple[np.ndarray, np.ndarray]:
        """Times since the recording's start (n,) s, and values (n, 3) m/s² or rad/s, of one sensor."""
        end_s = self._recording.t[-1]
        t = np.arange(self._rng.uniform(0, 0.02), end_s, 1 / rate_hz)
        t = np.sort(t + self._rng.uniform(-jitter_s, jitter_s, len(t)))
        acc, gyro = self._recording.samples[:, :3].astype(float), self._recording.samples[:, 3:].astype(float)
        table = {"total": acc, "gravity": self._gravity, "linear": acc - self._gravity, "gyro": gyro}[name]
        return t, np.stack([np.interp(t, self._recording.t, table[:, i]) for i in range(3)], axis=1)

    def lost(self, share: float) -> bool:
        return bool(self._rng.random() < share)


def batches(*streams: tuple[np.ndarray, np.ndarray]) -> Iterator[list[tuple[np.ndarray, np.ndarray]]]:
    """Half-second slices of several streams."""
    for start_s in np.arange(0, max(t[-1] for t, _ in streams), BATCH_S):
        yield [(t[(k := (t >= start_s) & (t < start_s + BATCH_S))], values[k]) for t, values in streams]


def sensor_logger(phone: Phone, names: dict[str, str], sign: float, accuracy: bool) -> Iterator[Sent]:
    streams = [phone.sensor(source, 50.0 if source != "gyro" else 52.0) for source in names.values()]
    for k, parts in enumerate(batches(*streams)):
        payload = []
        for (name, source), (t, values) in zip(names.items(), parts, strict=True):
            factor = 1.0 if source == "gyro" else sign
            for at, (x, y, z) in zip(t, factor * values, strict=True):
                reading = {"name": name, "time": int((UTC_S + at) * 1e9), "values": {"z": z, "y": y, "x": x}}
                payload.append(reading | ({"accuracy": 3} if accuracy else {}))
        if not phone.lost(0.002):
            batch = {"messageId": k, "sessionId": "s", "deviceId": "pocket", "payload": payload}
            yield "sensor-logger", json.dumps(batch).encode()


def sensor_logger_android(phone: Phone) -> Iterator[Sent]:
    names = {
        "accelerometer": "linear",
        "gravity": "gravity",
        "totalacceleration": "total",
        "gyroscope": "gyro",
    }
    return sensor_logger(phone, names, 1.0, True)


def sensor_logger_ios(phone: Phone) -> Iterator[Sent]:
    """No total acceleration, and all three axes the other way round."""
    names = {"accelerometer": "linear", "gravity": "gravity", "gyroscope": "gyro"}
    return sensor_logger(phone, names, -1.0, False)


def events(phone: Phone, topic: Callable[[str], str], typed: bool) -> Iterator[Sent]:
    """SensorSpot and SensaGram: one event a message, since boot; single events get lost."""
    streams = {"accelerometer": phone.sensor("total", 50.0), "gyroscope": phone.sensor("gyro", 50.0)}
    rows = [(at, name, v) for name, (t, values) in streams.items() for at, v in zip(t, values, strict=True)]
    for at, name, v in sorted(rows, key=lambda row: row[0]):
        event = {"timestamp": int((BOOT_S + at) * 1e9), "values": list(v)}
        if not phone.lost(0.01):
            yield (
                topic(name),
                json.dumps(({"type": f"android.sensor.{name}"} if typed else {}) | event).encode(),
            )


def sensorspot_shared(phone: Phone) -> Iterator[Sent]:
    return events(phone, lambda _: "android/sensor", True)


def sensorspot_dedicated(phone: Phone) -> Iterator[Sent]:
    return events(phone, lambda name: f"android/sensor/{name}", False)


def phyphox_json(phone: Phone) -> Iterator[Sent]:
    """Seconds since the experiment's start, with the clock map."""
    clock = {"now": UTC_S, "events": [{"event": "START", "experimentTime": 0.0, "systemTime": UTC_S}]}
    for (ta, acc), (tg, gyro) in batches(phone.sensor("total", 100.0), phone.sensor("gyro", 100.0)):
        fields: dict[str, object] = {f"acc{axis}": list(acc[:, i]) for i, axis in enumerate("XYZ")}
        fields |= {f"gyr{axis}": list(gyro[:, i]) for i, axis in enumerate("XYZ")}
        if not phone.lost(0.002):
            yield (
                "phyphox/me",
                json.dumps(fields | {"accT": list(ta), "gyrT": list(tg), "time": clock}).encode(),
            )


def phyphox_kept(phone: Phone) -> Iterator[Sent]:
    """keep="true": every message repeats the last seconds of the buffer."""
    ta, acc = phone.sensor("total", 50.0)
    tg, gyro = phone.sensor("gyro", 50.0)
    for end_s in np.arange(BATCH_S, ta[-1] + BATCH_S, BATCH_S):
        a, g = (ta > end_s - 3.0) & (ta <= end_s), (tg > end_s - 3.0) & (tg <= end_s)
        fields: dict[str, object] = {f"a{axis}": list(acc[a, i]) for i, axis in enumerate("xyz")}
        fields |= {f"g{axis}": list(gyro[g, i]) for i, axis in enumerate("xyz")}
        yield "phyphox/me", json.dumps(fields | {"at": list(ta[a]), "gt": list(tg[g])}).encode()


def phyphox_csv(phone: Phone) -> Iterator[Sent]:
    """Each buffer on a topic of its own."""
    for (ta, acc), (tg, gyro) in batches(phone.sensor("total", 50.0), phone.sensor("gyro", 50.0)):
        columns = {"accT": ta, "gyrT": tg}
        columns |= {f"acc{axis}": acc[:, i] for i, axis in enumerate("XYZ")}
        columns |= {f"gyr{axis}": gyro[:, i] for i, axis in enumerate("XYZ")}
        for name, values in columns.items():
            if not phone.lost(0.0005):
                yield f"phyphox/{name}", ",".join(f"{v:.6f}" for v in values).encode()


def hyperimu(phone: Phone) -> Iterator[Sent]:
    """Whole milliseconds since 1970."""
    t, acc = phone.sensor("total", 50.0)
    _, gyro = phone.sensor("gyro", 50.0)
    for at, a, g in zip(t, acc, gyro, strict=False):
        row = {
            "op": "hyperimu",
            "Timestamp": round((UTC_S + at) * 1000),
            "Accelerometer": list(a),
            "Gyroscope": list(g),
        }
        if not phone.lost(0.01):
            yield "hyperimu/me", json.dumps(row).encode()


def generic_json(phone: Phone) -> Iterator[Sent]:
    """A maker's own board: milliseconds since boot, in g and deg/s, ten samples a message."""
    t, acc = phone.sensor("total", 62.5)
    _, gyro = phone.sensor("gyro", 62.5)
    names = ("ax", "ay", "az", "gx", "gy", "gz")
    n = min(len(acc), len(gyro))
    t, rows = t[:n], np.concatenate([acc[:n] / G, np.rad2deg(gyro[:n])], axis=1)
    for k in range(0, len(t), 10):
        part = [
            {"t": round(at * 1e3, 1)} | dict(zip(names, row, strict=True))
            for at, row in zip(t[k : k + 10].tolist(), rows[k : k + 10].tolist(), strict=True)
        ]
        if not phone.lost(0.0005):
            yield "lab/board", json.dumps(part).encode()


APPS: dict[str, tuple[Callable[[Phone], Iterator[Sent]], str]] = {
    "Sensor Logger, Android": (sensor_logger_android, "pocket"),
    "Sensor Logger, iOS": (sensor_logger_ios, "pocket"),
    "SensorSpot, shared topic": (sensorspot_shared, "android-sensor"),
    "SensorSpot, dedicated topics": (sensorspot_dedicated, "android-sensor"),
    "phyphox, mqtt/json": (phyphox_json, "me"),
    "phyphox, buffers kept": (phyphox_kept, "me"),
    "phyphox, mqtt/csv": (phyphox_csv, "phyphox"),
    "HyperIMU": (hyperimu, "me"),
    "generic JSON": (generic_json, "board"),
}
"""Encoder, and the device name that must come of it."""
