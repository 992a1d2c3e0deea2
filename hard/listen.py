"""What every stream on a broker is, what is wrong with it, and how to set the app right."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec
import numpy as np

from hard.codecs import Codec, PayloadError, good_name
from hard.codecs.auto import AutoCodec
from hard.codecs.csv_lines import CsvLinesCodec
from hard.router import Router
from hard.types import F64, G, Message, Readings, Sensor, Windowing

MAX_STREAMS: Final = 1000
MAX_READINGS: Final = 200_000  # of one sensor
MIN_RATE_HZ: Final = 19.0
GOOD_RATE_HZ: Final = 45.0
MAX_RATE_HZ: Final = 800.0  # of more, a hop of 1.28 s has no room
WINDOW_S: Final = Windowing().window / Windowing().rate_hz
DAY_S: Final = 86_400.0
FEW: Final = 4  # messages tell nothing about what each of them does
PACED_S: Final = 2.0  # of arrivals, to tell how fast a clock runs
BACK_S: Final = 1.0  # a clock that goes back by more is another clock


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
        self.sensors: dict[Sensor, _Parts] = {}

    def add(self, sensor: Sensor, t: F64, xyz: F64) -> None:
        parts = self.sensors.setdefault(sensor, _Parts([], [], []))
        good = np.isfinite(t)
        if good.any() and sum(map(len, parts.times)) < MAX_READINGS:
            parts.times.append(t[good])
            parts.values.append(xyz[good])
            parts.arrivals_s.append(self.arrival_s)


class _Parts(NamedTuple):
    """What each message brought of one sensor; none is empty."""

    times: list[F64]
    values: list[F64]
    arrivals_s: list[float]  # monotonic


class Listener:
    """Takes messages of any topics and describes the streams in them. Owner: one thread."""

    def __init__(
        self, configured: Sequence[tuple[str, str, Codec]], auto: AutoCodec, max_gap_s: float = 0.2
    ) -> None:
        """`configured`: (topic filter, codec name, codec), asked before `auto`."""
        self._max_gap_s = max_gap_s
        self._router = Router([*((f, codec) for f, _, codec in configured), ("#", auto)])
        self._names = {id(codec): name for _, name, codec in configured}
        self._auto = auto
        self._heard: dict[str, _Heard] = {}
        self.unreadable: dict[str, tuple[int, str]] = {}  # topic -> messages, why
        self._empty: dict[str, tuple[int, str]] = {}  # topic -> messages without a sample, why
        self._full: set[str] = set()  # topics of which a message had samples

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
        topic = message.topic
        if dialect == "phyphox" and not message.payload.lstrip().startswith(b"{"):
            topic = topic.rpartition("/")[0]  # each buffer has a topic, and the last one brings them all
        if items:
            if len(self._full) < MAX_STREAMS:
                self._full.add(topic)
        elif topic in self._empty or len(self._empty) < MAX_STREAMS:
            why = "no acceleration in them"
            if isinstance(codec, CsvLinesCodec):
                why = codec.why(message.payload)
            self._empty[topic] = self._empty.get(topic, (0, ""))[0] + 1, why
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

    def empty(self) -> dict[str, tuple[int, str]]:
        """Topics that can be read and had no samples: how many messages, and why."""
        return {topic: found for topic, found in self._empty.items() if topic not in self._full}

    def findings(self) -> list[Finding]:
        """Every stream heard so far, by name."""
        return [_describe(device, self._heard[device], self._max_gap_s) for device in sorted(self._heard)]


def _describe(device: str, heard: _Heard, max_gap_s: float) -> Finding:
    times = {s: np.unique(np.concatenate(parts.times)) for s, parts in heard.sensors.items() if parts.times}
    every = {s: np.diff(t) for s, t in times.items() if len(t) > 2}
    steps = {s: step[~_holes(step, max_gap_s)] for s, step in every.items()}
    rate = {s.value: round(float(1 / step.mean()), 1) for s, step in steps.items()}
    jitter = {
        s.value: round(float(np.percentile(np.abs(step - np.median(step)), 95)) * 1e3, 1)
        for s, step in steps.items()
    }
    acc = _acceleration(heard)
    norm = float(np.median(np.linalg.norm(acc, axis=1))) if acc is not None and len(acc) else None
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
    clock = _clock_problem(heard)
    problems = [clock] if clock else _gaps(heard, every, max_gap_s)
    problems += _problems(finding, set(heard.sensors), of_rate=not clock)
    return msgspec.structs.replace(finding, problems=problems)


def _acceleration(heard: _Heard) -> F64 | None:
    """Total acceleration, or what there is of it, where it is finite: gravity alone is as good here."""
    for sensor in (Sensor.ACC, Sensor.GRAVITY, Sensor.LINEAR):
        if sensor in heard.sensors and heard.sensors[sensor].values:
            values = np.concatenate(heard.sensors[sensor].values)
            return values[np.isfinite(values).all(axis=1)]
    return None


def _clock(times: dict[Sensor, F64], arrival_s: float) -> str:
    newest_s = max((float(t[-1]) for t in times.values() if len(t)), default=0.0)
    utc_s = time.time() - (time.monotonic() - arrival_s)
    if abs(newest_s - utc_s) < DAY_S:
        return f"UTC, {1000 * (utc_s - newest_s):+.0f} ms behind on arrival"
    return f"its own, at {newest_s:.0f} s"


def _holes(step: F64, max_gap_s: float) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Which steps begin a window anew, though the sampling is quick enough."""
    return np.asarray(step > max(max_gap_s, 3 * float(np.median(step))))


def _clock_problem(heard: _Heard) -> str | None:
    """What is wrong with the times, and so with the rates that are told by them."""
    parts = max(heard.sensors.values(), key=lambda p: len(p.times))
    first, last = (np.array([t[k] for t in parts.times]) for k in (0, -1))
    if len(first) < FEW:
        return None
    new = np.zeros(len(first), bool)  # not delivered once more
    new[np.unique(first, return_index=True)[1]] = True
    back = int((new[1:] & (first[1:] < last[:-1] - BACK_S)).sum())
    if back >= FEW:
        return f"its clock went back {back} times: give every phone a topic or name of its own"
    arrivals = np.array(parts.arrivals_s)
    half = len(first) // 2  # what had waited for the connection has come by then
    spent_s = arrivals[-1] - arrivals[half]
    if spent_s >= PACED_S and not back:
        n = sum(map(len, parts.times[half + 1 :]))
        found = _pace(heard.dialect, float(last[-1] - last[half]) / spent_s, n / spent_s)
        if found:
            return found
    return _cover(heard.dialect, parts, first, last)


def _pace(dialect: str, pace: float, rate_hz: float) -> str | None:
    """What is wrong with a clock that runs `pace` times as fast as ours."""
    for factor, name, unit in ((1e3, "milli", "ms"), (1e6, "micro", "us"), (1e9, "nano", None)):
        if 0.5 < pace / factor < 2:
            mend = (
                "send seconds"
                if dialect == "native" or not unit
                else f"set `time_unit: {unit}` for its topic"
            )
            return f"t looks like {name}seconds, as it goes on by {pace:.0f} a second: {mend}"
    if 0.6 < pace < 1.7:
        return None
    if abs(pace) < 0.01:
        return "its clock stands still: t is to be the seconds at which each sample was taken"
    mend = (
        f"state the rate that is sent, {rate_hz:.0f} Hz"
        if dialect == "native"
        else "send the samples' own times"
    )
    return f"its clock goes on by {pace:.2g} s a second: {mend}"


def _cover(dialect: str, parts: _Parts, first: F64, last: F64) -> str | None:
    """Messages whose samples last for another time than passes until the next message's."""
    inner = np.concatenate([np.diff(t) for t in parts.times])
    every_s = float(np.median(np.diff(first)))
    if not len(inner) or every_s <= 0:
        return None
    step_s = float(np.median(inner))
    n = float(np.median([len(t) for t in parts.times]))
    holds_s = n * step_s
    often = 0.8 * (len(first) - 1)
    apart = (first[1:] - last[:-1] > max(2 * step_s, 0.25 * every_s)).sum() >= often
    overlap = (first[1:] < last[:-1] - 2 * step_s).sum() >= often
    if not (apart or overlap):
        return None
    mend = (
        f"the stated rate, {1 / step_s:.0f} Hz, is wrong, as {n / every_s:.0f} samples a second come"
        if dialect == "native"
        else "send every sample, with its own time"
    )
    return f"a message has {holds_s:.2g} s of samples, and the next begins {every_s:.2g} s after it: {mend}"


def _gaps(heard: _Heard, steps: dict[Sensor, F64], max_gap_s: float) -> list[str]:
    """Several gaps of one sensor, that which has most of them."""
    arrivals = [s for parts in heard.sensors.values() for s in parts.arrivals_s]
    longest_s = max(arrivals, default=0.0) - min(arrivals, default=0.0) + 5  # beyond, a clock was set
    found = {s: np.flatnonzero(_holes(step, max_gap_s) & (step < longest_s)) for s, step in steps.items()}
    sensor = max(found, key=lambda s: len(found[s]), default=None)
    if sensor is None or len(holes := found[sensor]) < 2:
        return []
    step = steps[sensor]
    t = np.concatenate([[0.0], np.cumsum(step)])
    begins, ends = np.concatenate([[0.0], t[holes + 1]]), np.concatenate([t[holes], t[-1:]])
    whole_s = float((ends - begins).max())
    effect = (
        f"never {WINDOW_S:g} s without one ({whole_s:.1f} s at most), so it is not labelled"
        if whole_s < WINDOW_S
        else f"each costs a window of {WINDOW_S:g} s"
    )
    return [
        f"{len(holes)} gaps of up to {step[holes].max():.2g} s in {t[-1]:.0f} s; {effect}. "
        "Messages are lost, or the app pauses: send with QoS 1, keep the app in front and its Wi-Fi awake"
    ]


def _up(acc: F64) -> str:
    mean = np.mean(acc, axis=0)
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


def _problems(f: Finding, sensors: set[Sensor], of_rate: bool) -> list[str]:
    """What is wrong, each with the mend; `of_rate`: whether rates can be told."""
    out = []
    slow = {name: hz for name, hz in f.rate_hz.items() if hz < GOOD_RATE_HZ and of_rate}
    for name, hz in slow.items():
        how = _RATE.get(f.dialect, "send at 50 Hz")
        effect = "too slow to be labelled" if hz < MIN_RATE_HZ else "slower than the models were trained on"
        out.append(f"{name} at {hz:g} Hz is {effect}: {how}")
    out += [
        f"{name} at {hz:g} Hz is too fast to be labelled: send at 50 Hz"
        for name, hz in f.rate_hz.items()
        if hz > MAX_RATE_HZ and of_rate
    ]
    if f.acc_norm is None and sensors & {Sensor.ACC, Sensor.LINEAR, Sensor.GRAVITY}:
        out.append("no value of the acceleration is a number: is the sensor connected?")
    elif f.acc_norm is None:
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
