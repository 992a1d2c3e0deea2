"""What every stream on a broker is, what is wrong with it, and how to set the app right."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np

from hard.codecs import Codec, PayloadError, good_name
from hard.codecs.auto import AutoCodec
from hard.router import Router
from hard.types import F64, G, Message, Readings, Sensor

MAX_STREAMS: Final = 1000
MAX_READINGS: Final = 200_000  # of one sensor
MIN_RATE_HZ: Final = 19.0
GOOD_RATE_HZ: Final = 45.0
DAY_S: Final = 86_400.0


class Finding(msgspec.Struct, frozen=True):
    """One stream: facts, and what is wrong with its mend."""

    device: str
    topic: str
    dialect: str
    messages: int
    rate_hz: dict[str, float]  # by sensor
    jitter_ms: dict[str, float]  # 95th percentile of the distance from the median step
    clock: str
    acc_norm: float | None  # median, m/s² as decoded
    up: str | None  # which axis points up, in hard's frame
    gravity: bool
    gyroscope: bool
    problems: list[str]


class _Heard:
    """What has come of one device."""

    def __init__(self, topic: str, dialect: str) -> None:
        self.topic = topic
        self.dialect = dialect
        self.messages = 0
        self.arrival_s = 0.0
        self.sensors: dict[Sensor, tuple[list[F64], list[F64]]] = {}

    def add(self, sensor: Sensor, t: F64, xyz: F64) -> None:
        times, values = self.sensors.setdefault(sensor, ([], []))
        if sum(map(len, times)) < MAX_READINGS:
            times.append(t)
            values.append(xyz)


class Listener:
    """Takes messages of any topics and describes the streams in them. Owner: one thread."""

    def __init__(self, configured: Sequence[tuple[str, str, Codec]], auto: AutoCodec) -> None:
        """`configured`: (topic filter, codec name, codec), asked before `auto`."""
        self._router = Router([*((f, codec) for f, _, codec in configured), ("#", auto)])
        self._names = {id(codec): name for _, name, codec in configured}
        self._auto = auto
        self._heard: dict[str, _Heard] = {}
        self.unreadable: dict[str, tuple[int, str]] = {}  # topic -> messages, why

    def take(self, message: Message) -> None:
        codec = self._router.codec(message.topic)
        assert codec is not None  # auto takes every topic
        try:
            items = codec.decode(message)
        except PayloadError as e:
            count, _ = self.unreadable.get(message.topic, (0, ""))
            if count or len(self.unreadable) < MAX_STREAMS:
                self.unreadable[message.topic] = count + 1, str(e)
            return
        dialect = self._auto.dialect(message.topic) or self._names.get(id(codec), "auto")
        counted: set[str] = set()
        for item in items:
            if not good_name(item.device) or (
                item.device not in self._heard and len(self._heard) >= MAX_STREAMS
            ):
                continue
            heard = self._heard.setdefault(item.device, _Heard(message.topic, dialect))
            heard.messages += item.device not in counted
            counted.add(item.device)
            heard.arrival_s = message.arrival_s
            if isinstance(item, Readings):
                heard.add(item.sensor, item.t, item.xyz)
            else:
                heard.add(Sensor.ACC, item.t, item.samples[:, :3].astype(float))
                if item.gyro:
                    heard.add(Sensor.GYRO, item.t, item.samples[:, 3:].astype(float))

    def findings(self) -> list[Finding]:
        """Every stream heard so far, by name."""
        return [_describe(device, self._heard[device]) for device in sorted(self._heard)]


def _describe(device: str, heard: _Heard) -> Finding:
    times = {s: np.unique(np.concatenate(t)) for s, (t, _) in heard.sensors.items()}
    steps = {s: np.diff(t) for s, t in times.items() if len(t) > 2}
    rate = {s.value: round(float(1 / step.mean()), 1) for s, step in steps.items()}
    jitter = {
        s.value: round(float(np.percentile(np.abs(step - np.median(step)), 95)) * 1e3, 1)
        for s, step in steps.items()
    }
    acc = _acceleration(heard)
    norm = float(np.nanmedian(np.linalg.norm(acc, axis=1))) if acc is not None and len(acc) else None
    gravity = norm is not None and 0.5 * G < norm < 1.6 * G
    finding = Finding(
        device=device,
        topic=heard.topic,
        dialect=heard.dialect,
        messages=heard.messages,
        rate_hz=rate,
        jitter_ms=jitter,
        clock=_clock(times, heard.arrival_s),
        acc_norm=None if norm is None else round(norm, 2),
        up=_up(acc) if gravity and acc is not None else None,
        gravity=gravity,
        gyroscope=Sensor.GYRO in heard.sensors,
        problems=[],
    )
    return msgspec.structs.replace(finding, problems=_problems(finding, set(heard.sensors)))


def _acceleration(heard: _Heard) -> F64 | None:
    """Total acceleration, or what there is of it: gravity alone is as good here."""
    for sensor in (Sensor.ACC, Sensor.GRAVITY, Sensor.LINEAR):
        if sensor in heard.sensors:
            return np.concatenate(heard.sensors[sensor][1])
    return None


def _clock(times: dict[Sensor, F64], arrival_s: float) -> str:
    newest_s = max((float(t[-1]) for t in times.values() if len(t)), default=0.0)
    utc_s = time.time() - (time.monotonic() - arrival_s)
    if abs(newest_s - utc_s) < DAY_S:
        return f"UTC, {1000 * (utc_s - newest_s):+.0f} ms behind on arrival"
    return f"its own, at {newest_s:.0f} s"


def _up(acc: F64) -> str:
    mean = np.nanmean(acc, axis=0)
    axis = int(np.abs(mean).argmax())
    return f"{'-' if mean[axis] < 0 else '+'}{'xyz'[axis]} ({mean[axis]:+.1f} m/s²)"


_RATE = {
    "android-sensor": "set the sampling period to 20000 µs (SensorSpot's own default is 200000)",
    "sensor-logger": "set the sampling frequency to 50 Hz or Max in the sensor's settings",
    "phyphox": 'ask for rate="50" in the experiment\'s <sensor> elements',
}


_IN_G = {
    "native": 'say so in its messages: "acc": "g" in JSON, flag 1 in binary (hard/codecs/README.md)',
    "json": "set `acc_unit: g` for its topic",
    "csv-lines": "set `acc_unit: g` for its topic or port",
}


def _problems(f: Finding, sensors: set[Sensor]) -> list[str]:
    """What is wrong, each with the mend."""
    out = []
    slow = {name: hz for name, hz in f.rate_hz.items() if hz < GOOD_RATE_HZ}
    for name, hz in slow.items():
        how = _RATE.get(f.dialect, "send at 50 Hz")
        effect = "too slow to be labelled" if hz < MIN_RATE_HZ else "slower than the models were trained on"
        out.append(f"{name} at {hz:g} Hz is {effect}: {how}")
    if f.acc_norm is None:
        out.append("no acceleration: turn on the accelerometer")
    elif not f.gravity:
        out.append(_no_gravity(f, sensors))
    if not f.gyroscope:
        out.append(
            "no gyroscope: turn it on if the phone has one; without, a model for acceleration alone is used"
        )
    return out


def _no_gravity(f: Finding, sensors: set[Sensor]) -> str:
    assert f.acc_norm is not None
    if Sensor.LINEAR in sensors and Sensor.ACC not in sensors:
        how = (
            "turn on Gravity"
            if f.dialect == "sensor-logger"
            else "send the acceleration with gravity, or gravity too"
        )
        return f"acceleration without gravity: {how}"
    if 0.7 < f.acc_norm < 1.4:
        how = _IN_G.get(f.dialect, "have the app send m/s²")
        return f"the acceleration's size is 1: it is in g, not in m/s²; {how}"
    return (
        f"the acceleration's median size is {f.acc_norm:g} m/s², but a body at rest feels 9.8: it is without "
        "gravity, or in another unit"
    )
