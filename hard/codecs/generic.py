"""Generic JSON: a sample or a list of samples under common names; the time's unit is told by its step."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
import numpy as np

from hard.codecs import UNREADABLE, CodecOptions, PayloadError, safe_name, units
from hard.stats import Counters, Drop
from hard.types import Chunk, Message, Readings, Sensor

_TIME: Final = ("t", "time", "timestamp", "ts")
_NAME_TYPES: Final = (str, int, float)
_NAMES: Final = dict.fromkeys(("device", "deviceid", "dev", "id", "name"))  # of devices, likeliest first
_VECTORS: Final = {
    "acc": Sensor.ACC, "accel": Sensor.ACC, "accelerometer": Sensor.ACC, "acceleration": Sensor.ACC,
    "gyro": Sensor.GYRO, "gyr": Sensor.GYRO, "gyroscope": Sensor.GYRO, "rotation": Sensor.GYRO,
}  # fmt: skip
_SCALARS: Final = (
    (Sensor.ACC, ("ax", "ay", "az")),
    (Sensor.ACC, ("accx", "accy", "accz")),
    (Sensor.GYRO, ("gx", "gy", "gz")),
    (Sensor.GYRO, ("gyrx", "gyry", "gyrz")),
    (Sensor.GYRO, ("gyrox", "gyroy", "gyroz")),
)
STUDIED: Final = 25  # samples looked at to tell units
MOST_HELD: Final = 1000  # readings that tell nothing
PAUSE_S: Final = 5.0  # after it a device may be another, or the same with other settings
MAX_DEVICES: Final = 20_000

log = logging.getLogger(__name__)

Json = Mapping[str, object]


class _Learned(msgspec.Struct):
    """What is known of a device; readings are held until it is."""

    per_s: float | None = None  # time units
    scale: dict[Sensor, float] = {}  # SI of one unit
    guessed: bool = False  # that angular velocity is in rad/s
    fast: int = 0  # samples too fast for that
    held: list[Readings] = []
    heard_s: float = 0.0  # monotonic arrival of the newest


class GenericCodec:
    """{"t": 1.5, "ax": 0.1, ..., "gz": 0}, or {"time": 1.5, "acc": [x, y, z], "gyro": {"x": ...}}, or a list.

    A time's unit is that in which the first two samples are between 2 and 1,500 Hz apart; acceleration's,
    where it is not given, that in which the first 25 samples have a median norm of one g. Frame: Android.
    """

    def __init__(self, options: CodecOptions, counters: Counters) -> None:
        self._options = options
        self._counters = counters
        self._learned: dict[str, _Learned] = {}

    def decode(self, message: Message) -> Sequence[Chunk | Readings]:
        try:
            found = msgspec.json.decode(message.payload)
        except UNREADABLE as e:
            raise PayloadError(f"JSON: {e}") from None
        whole = found if isinstance(found, dict) else {}
        key = _name_key(whole)
        if whole:
            found = next((v for v in whole.values() if _is_list_of_samples(v)), [whole])
        if not _is_list_of_samples(found):
            raise PayloadError(
                'JSON: expected a sample such as {"t": 0, "ax": 0, ..., "gz": 0}, or a list of them'
            )
        device = str(whole[key]) if key else message.topic.rpartition("/")[2]
        if not key and found[0] is not whole:
            device = _device_of_all(found) or device
        rows: dict[Sensor, list[list[float]]] = {}
        for sample in found:
            t, vectors = _sample(sample)
            for sensor, vector in vectors.items():
                rows.setdefault(sensor, []).append([t, *vector])
        return self._readings(safe_name(device), rows, message.arrival_s)

    def _readings(
        self, device: str, rows: dict[Sensor, list[list[float]]], arrival_s: float
    ) -> Sequence[Readings]:
        known = self._learned.get(device)
        if known is None or arrival_s - known.heard_s > PAUSE_S:
            if known is not None:
                self._lose(known)
            elif len(self._learned) >= MAX_DEVICES:
                self._lose(self._learned.pop(next(iter(self._learned))))
            known = self._learned[device] = _Learned()
        known.heard_s = arrival_s
        fresh = []
        for sensor, values in rows.items():
            table = np.array(values, np.float64)
            fresh.append(Readings(device, sensor, table[:, 0], table[:, 1:], arrival_s))
        if known.per_s is None:
            known.held += fresh
            try:
                self._learn(known)
            except PayloadError:
                self._lose(known)
                raise
            if known.per_s is None:
                if sum(len(r.t) for r in known.held) > MOST_HELD:
                    self._lose(known)
                    raise PayloadError("JSON: the times are all the same")
                return ()
            fresh, known.held = known.held, []
        per_s, scale = known.per_s, known.scale
        out = [Readings(r.device, r.sensor, r.t / per_s, r.xyz * scale[r.sensor], r.arrival_s) for r in fresh]
        if known.guessed and _any_fast(rows.get(Sensor.GYRO, ())):
            return [self._corrected(known, raw, r) if r.sensor is Sensor.GYRO else r
                    for raw, r in zip(fresh, out, strict=True)]  # fmt: skip
        return out

    def _corrected(self, known: _Learned, raw: Readings, r: Readings) -> Readings:
        """Angular velocity, which is in deg/s after all where it is too fast for rad/s time after time."""
        known.fast, since = units.too_fast(raw.xyz, known.fast)
        if since == len(raw.t):
            return r
        known.guessed = False
        known.scale = known.scale | {Sensor.GYRO: units.gyro_scale("deg/s", 1.0)}
        log.warning("%s: too fast for rad/s, taken as deg/s from now on; set gyro_unit", r.device)
        late = raw.xyz[since:] * known.scale[Sensor.GYRO]
        return msgspec.structs.replace(r, xyz=np.concatenate([r.xyz[:since], late]))

    def _lose(self, known: _Learned) -> None:
        self._counters.add(Drop.NOT_LEARNED, _samples(known.held))
        known.held = []

    def _learn(self, known: _Learned) -> None:
        """Settle the units by what is held, if it is enough."""
        o = self._options
        times = np.unique(np.concatenate([r.t for r in known.held]))
        acc, gyro = (
            np.concatenate([np.empty((0, 3)), *(r.xyz for r in known.held if r.sensor is sensor)])
            for sensor in (Sensor.ACC, Sensor.GYRO)
        )
        if len(times) < 2 or (o.acc_unit == "auto" and max(len(acc), len(gyro)) < STUDIED):
            return
        unit = units.acc_unit(acc, o.acc_scale) if o.acc_unit == "auto" else o.acc_unit
        if unit is None and not len(acc):
            raise PayloadError("JSON: angular velocity without acceleration: send both")
        if unit is None:
            norm = units.median_norm(acc)
            raise PayloadError(
                f"JSON: acceleration has a median norm of {norm:.4g}: set acc_unit for its topic"
            )
        turning = units.gyro_unit(gyro, unit) if o.gyro_unit == "auto" else o.gyro_unit
        known.per_s = _per_s(float(np.median(np.diff(times))))
        known.guessed = o.gyro_unit == "auto" and turning == "rad/s"
        known.scale = {
            Sensor.ACC: units.acc_scale(unit, o.acc_scale),
            Sensor.GYRO: units.gyro_scale(turning, o.gyro_scale),
        }
        device = known.held[0].device
        log.info("%s: acceleration in %s, angular velocity in %s", device, unit, turning)


def _any_fast(gyro: Sequence[Sequence[float]]) -> bool:
    """Whether any of these, each t, x, y, z, is too fast for rad/s."""
    most = units.MAX_RAD_S
    for _, x, y, z in gyro:  # noqa: SIM110  # a third of what `any` takes
        if not (-most <= x <= most and -most <= y <= most and -most <= z <= most):
            return True
    return False


def _samples(held: Sequence[Readings]) -> int:
    """How many samples these readings were: a sample has one of every sensor."""
    return max((sum(len(r.t) for r in held if r.sensor is sensor) for sensor in Sensor), default=0)


def _is_list_of_samples(found: object) -> bool:
    return isinstance(found, list) and bool(found) and all(isinstance(s, dict) for s in found)


def _name_key(fields: Json) -> str | None:
    """Where a device's name stands, a text or a number; None where there is none."""
    keys = {
        plain: key
        for key, value in fields.items()
        if (plain := key.lower().replace("_", "")) in _NAMES and isinstance(value, _NAME_TYPES)
    }
    return next((keys[name] for name in _NAMES if name in keys), None) if keys else None


def _device_of_all(samples: Sequence[Json]) -> str | None:
    """Whose samples these are, where they say it."""
    key = _name_key(samples[0])
    if key is None:
        return None
    device = samples[0][key]
    if all(sample.get(key) == device for sample in samples):
        return str(device)
    if isinstance(device, str):
        raise PayloadError("JSON: samples of several devices in one list; send a list for each device")
    return None  # they are numbered


def _sample(sample: Json) -> tuple[float, dict[Sensor, list[float]]]:
    fields = {key.lower().replace("_", ""): value for key, value in sample.items()}
    t = next((fields[key] for key in _TIME if key in fields), None)
    if t is None:
        raise PayloadError(f"JSON: no time among {', '.join(sample)}; expected one of {', '.join(_TIME)}")
    vectors = {}
    for key, sensor in _VECTORS.items():
        if key in fields:
            value = fields[key]
            axes = [value.get(a) for a in "xyz"] if isinstance(value, dict) else value
            vectors[sensor] = _numbers(axes, key)
    for sensor, (x, y, z) in _SCALARS:
        if x in fields and y in fields and z in fields:
            vectors[sensor] = _numbers([fields[x], fields[y], fields[z]], x)
    if not vectors:
        raise PayloadError(f"JSON: no acceleration or angular velocity among {', '.join(sample)}")
    return _numbers([t], "time")[0], vectors


def _numbers(values: object, key: str) -> list[float]:
    if not isinstance(values, list) or not values or not all(type(v) in (int, float) for v in values):
        raise PayloadError(f"JSON: {key} is not made of numbers")
    if key != "time" and len(values) != 3:
        raise PayloadError(f"JSON: {key} has {len(values)} values; expected x, y, z")
    try:
        return [float(v) for v in values]
    except OverflowError as e:
        raise PayloadError(f"JSON: {key}: {e}") from None


def _per_s(step: float) -> float:
    unit = units.unit_of_step(step)
    if unit is None:
        raise PayloadError(f"JSON: times are {step:g} apart, which is no sampling in s, ms, us or ns")
    return units.UNITS_PER_S[unit]
