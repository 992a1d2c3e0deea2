"""phyphox (iOS, Android): buffers of values by name, seconds since the experiment's start.

Documented in phyphox/phyphox-docs, network-connections.md: `mqtt/json` sends one object of arrays, `mqtt/csv`
each buffer on a topic of its own. Both platforms use Android's sign.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np

from hard.codecs import UNREADABLE, CodecOptions, PayloadError, safe_name
from hard.log import Sampled
from hard.stats import Counters, Drop
from hard.types import F64, Chunk, Message, Readings, Sensor

Buffers = dict[str, F64]

_KINDS: Final = (
    (Sensor.GYRO, re.compile(r"(gyr\w*|g|rot\w*|w)_?(x|y|z|t|time)")),
    (Sensor.LINEAR, re.compile(r"(lin\w*)_?(x|y|z|t|time)")),
    (Sensor.GRAVITY, re.compile(r"(grav\w*)_?(x|y|z|t|time)")),
    (Sensor.ACC, re.compile(r"(acc\w*?|a)_?(x|y|z|t|time)")),
)
_PLAIN: Final = {Sensor.GYRO: "gyr", Sensor.LINEAR: "lin", Sensor.GRAVITY: "grav", Sensor.ACC: "acc"}
_SHARED_TIME: Final = {"t", "time_s", "timestamp"}
MAX_DEVICES: Final = 20_000
NEW_EXPERIMENT_S: Final = 5.0

log = logging.getLogger(__name__)


class _Event(msgspec.Struct):
    event: str
    experimentTime: float  # noqa: N815  (the app's key)
    systemTime: float  # noqa: N815


class _Clock(msgspec.Struct):
    """`<send type="time"/>`: the only exact map to UTC that any app offers."""

    events: list[_Event] = []


class _Cycle:
    """CSV: what has come of one device's sending interval."""

    def __init__(self) -> None:
        self.buffers: Buffers = {}
        self.sent: set[Sensor] = set()


class PhyphoxCodec:
    """Buffers are told by their ids (accX, ay, gyroscopeZ, gT, t); values sent again are left out."""

    def __init__(self, options: CodecOptions, counters: Counters) -> None:
        self._counters = counters
        self._complaints = Sampled(log)
        self._newest: dict[tuple[str, Sensor], float] = {}  # experiment seconds
        self._cycles: dict[str, _Cycle] = {}
        self._starts: dict[str, list[tuple[float, float]]] = {}  # (experiment, system) seconds of each START

    def decode(self, message: Message) -> Sequence[Chunk | Readings]:
        text = message.payload.lstrip()
        levels = message.topic.split("/")
        if text[:1] == b"{":
            device, buffers = self._json(text, safe_name(levels[-1]))
        else:
            device = safe_name("/".join(levels[:-1]))
            buffers = self._csv(device, levels[-1], text)
        return self._readings(device, buffers, message.arrival_s)

    def _json(self, payload: bytes, device: str) -> tuple[str, Buffers]:
        try:
            fields: dict[str, msgspec.Raw] = msgspec.json.decode(payload, type=dict[str, msgspec.Raw])
            buffers: Buffers = {}
            clocks = []
            single = None  # a buffer of which only the newest value is sent
            for name, raw in fields.items():
                head = bytes(raw)[:1]
                if head == b"[":
                    buffers[name.lower()] = _values(msgspec.json.decode(raw, type=list[float | None]))
                elif head == b"{":
                    clocks.append(msgspec.json.decode(raw, type=_Clock))
                elif head == b'"' and name.lower() in ("dev", "device", "uniqueid"):
                    device = safe_name(msgspec.json.decode(raw, type=str))
                elif any(pattern.fullmatch(name.lower()) for _, pattern in _KINDS):
                    single = name
        except UNREADABLE as e:
            raise PayloadError(f"phyphox: {e}") from None
        for clock in clocks:  # the device's name may come after it
            self._clock(device, clock)
        if single and not _groups(buffers):
            raise PayloadError(f'phyphox: {single[:20]} is one value; send its buffer with datatype="array"')
        return device, buffers

    def _csv(self, device: str, name: str, text: bytes) -> Buffers:
        """Buffers of the sensors that this one completes; what an interval leaves incomplete is dropped."""
        try:
            values = _values(
                [None if v.strip() == b"null" else float(v) for v in text.split(b",") if v.strip()]
            )
        except ValueError:
            raise PayloadError(
                f"phyphox: buffer {name!r} holds {text[:20]!r}; expected comma-separated numbers"
            ) from None
        cycle = self._cycles.setdefault(device, _Cycle())
        if name.lower() in cycle.buffers:
            lost = [g for sensor, g in _groups(cycle.buffers).items() if sensor not in cycle.sent]
            self._counters.add(Drop.UNPAIRED, max((len(v) for g in lost for v in g.values()), default=0))
            cycle = self._cycles[device] = _Cycle()
        cycle.buffers[name.lower()] = values
        if len(self._cycles) > MAX_DEVICES:
            self._cycles.pop(next(iter(self._cycles)))
        out: Buffers = {}
        for sensor, group in _groups(cycle.buffers).items():
            if len(group) == 4 and sensor not in cycle.sent:
                cycle.sent.add(sensor)
                out |= {f"{_PLAIN[sensor]}{axis}": column for axis, column in group.items()}
        return out

    def _clock(self, device: str, clock: _Clock) -> None:
        if len(self._starts) >= MAX_DEVICES and device not in self._starts:
            self._starts.pop(next(iter(self._starts)))
        starts = [(e.experimentTime, e.systemTime) for e in clock.events if e.event == "START"]
        if starts:
            self._starts[device] = starts[-16:]

    def _readings(self, device: str, buffers: Buffers, arrival_s: float) -> list[Readings]:
        groups = _groups(buffers)
        incomplete = {sensor: group for sensor, group in groups.items() if len(group) < 4}
        if incomplete:
            sensor, group = next(iter(incomplete.items()))
            why = _missing(sensor, group)
            if len(incomplete) == len(groups):
                raise PayloadError(why)
            self._complaints.warning(device, f"{device}: {why}")
        out = []
        for sensor, group in groups.items():
            n = {len(v) for v in group.values()}
            if len(n) > 1 or sensor in incomplete:
                self._counters.add(Drop.UNPAIRED, max(n))
                continue
            t = group["t"]
            fresh = self._fresh((device, sensor), t)
            xyz = np.stack([group[axis] for axis in "xyz"], axis=1)
            if fresh.any():
                out.append(Readings(device, sensor, self._utc(device, t[fresh]), xyz[fresh], arrival_s))
        return out

    def _fresh(self, key: tuple[str, Sensor], t: F64) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """With `keep="true"` phyphox sends the whole buffer again and again: only what is newer counts."""
        newest_s = self._newest.get(key, -np.inf)
        known = t[np.isfinite(t)]
        if len(known) and known.max() < newest_s - NEW_EXPERIMENT_S:
            newest_s = -np.inf  # the experiment was started again
        fresh = ~(t <= newest_s)  # what has no time is counted further on
        if len(known) and fresh.any():
            if len(self._newest) >= MAX_DEVICES * len(Sensor) and key not in self._newest:
                self._newest.pop(next(iter(self._newest)))
            self._newest[key] = max(newest_s, float(known.max()))
        return np.asarray(fresh)

    def _utc(self, device: str, t: F64) -> F64:
        """Experiment time -> UTC by the last START before each value, where the app told its starts."""
        starts = self._starts.get(device)
        if not starts:
            return t
        began, system = (np.array(column) for column in zip(*starts, strict=True))
        last = np.maximum(np.searchsorted(began, t, side="right") - 1, 0)
        return np.asarray(system[last] + (t - began[last]))


def _missing(sensor: Sensor, group: Buffers) -> str:
    names = [f"{_PLAIN[sensor]}{axis.upper()}" for axis in "xyzt" if axis not in group]
    return f"phyphox: {sensor.value} without {', '.join(names)}: send these buffers, too"


def _values(values: list[float | None]) -> F64:
    return np.array([np.nan if v is None else v for v in values], np.float64)


def _groups(buffers: Buffers) -> dict[Sensor, Buffers]:
    """Buffers by sensor and axis; a time that is not a sensor's own serves all."""
    shared = next((buffers[name] for name in buffers if name in _SHARED_TIME), None)
    out: dict[Sensor, Buffers] = {}
    for name, values in buffers.items():
        for sensor, pattern in _KINDS:
            match = pattern.fullmatch(name)
            if match:
                out.setdefault(sensor, {})[match[2][0]] = values
                break
    for group in out.values():
        if "t" not in group and shared is not None:
            group["t"] = shared
    return out
