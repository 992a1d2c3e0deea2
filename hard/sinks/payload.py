"""Labels, events and totals as JSON, to and from; only events are never read back."""

from __future__ import annotations

import functools
from datetime import UTC, datetime
from typing import Annotated, TypeAlias

import msgspec

from hard.types import DayTotals, Event, Label, Prediction

VERSION = 1
Share: TypeAlias = Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]  # anybody may publish below our prefix


class WindowEnd(msgspec.Struct, frozen=True):
    device_s: float  # on the device's own clock
    utc: str  # ISO 8601


class ModelId(msgspec.Struct, frozen=True):
    name: str
    sha256: str  # first 12 digits


class Raw(msgspec.Struct, frozen=True):
    """What the window itself said, unsmoothed."""

    activity: str
    confidence: Share


class EventPayload(msgspec.Struct, frozen=True, omit_defaults=True):
    """The fields of an event's JSON object, in order."""

    v: int
    device: str
    type: str
    activity: str
    t: float  # on the device's own clock
    utc: str
    dwell_s: float | None = None


class TotalsPayload(msgspec.Struct, frozen=True):
    """The fields of a day's totals, in order."""

    v: int
    device: str
    day: str
    seconds: dict[str, float]


class ActivityPayload(msgspec.Struct, frozen=True):
    """The fields of a label's JSON object, in order."""

    v: int
    device: str
    activity: str
    confidence: Share
    raw: Raw
    probabilities: dict[str, float]
    since: str
    window_end: WindowEnd
    seq: int
    model: ModelId
    latency_ms: float
    rate_hz: float
    gaps: int
    reason: str | None = None


_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(ActivityPayload)
_TOTALS_DECODER = msgspec.json.Decoder(TotalsPayload)


def encode(label: Label) -> bytes:
    p = label.prediction
    return _ENCODER.encode(
        ActivityPayload(
            v=VERSION,
            device=p.device,
            activity=label.activity,
            confidence=_share(label.confidence),
            raw=Raw(p.activity, _share(p.confidence)),
            probabilities={name: int(x * 1e4 + 0.5) / 1e4 for name, x in p.probabilities.items()},
            since=_since(label.since_s),
            window_end=WindowEnd(round(p.t_end, 6), iso(label.window_end_s)),
            seq=label.seq,
            model=ModelId(p.model, p.model_hash),
            latency_ms=round(label.latency_ms, 2),
            rate_hz=round(p.rate_hz, 2),
            gaps=p.gaps,
            reason=label.reason,
        )
    )


def encode_event(event: Event) -> bytes:
    return _ENCODER.encode(
        EventPayload(
            v=VERSION,
            device=event.device,
            type=event.type,
            activity=event.activity,
            t=round(event.t, 6),
            utc=iso(event.utc_s),
            dwell_s=None if event.dwell_s is None else round(event.dwell_s, 6),
        )
    )


def decode(payload: bytes) -> Label:
    """The label in a payload; raises ValueError where it is not one."""
    try:
        a = _DECODER.decode(payload)
        return Label(
            prediction=Prediction(
                a.device, a.window_end.device_s, a.raw.activity, a.raw.confidence, a.probabilities, a.rate_hz,
                a.gaps, 0.0, 0.0, a.model.name, a.model.sha256,
            ),
            activity=a.activity,
            confidence=a.confidence,
            reason=a.reason,
            since_s=datetime.fromisoformat(a.since).timestamp(),
            window_end_s=datetime.fromisoformat(a.window_end.utc).timestamp(),
            seq=a.seq,
            latency_ms=a.latency_ms,
        )  # fmt: skip
    except (msgspec.DecodeError, RecursionError) as e:
        raise ValueError(str(e)) from None


def encode_totals(totals: DayTotals) -> bytes:
    seconds = {activity: round(s, 2) for activity, s in totals.seconds.items()}
    return _ENCODER.encode(TotalsPayload(VERSION, totals.device, totals.day, seconds))


def decode_totals(payload: bytes) -> DayTotals:
    """The totals in a payload; raises ValueError where there are none."""
    try:
        t = _TOTALS_DECODER.decode(payload)
    except (msgspec.DecodeError, RecursionError) as e:
        raise ValueError(str(e)) from None
    return DayTotals(t.device, t.day, t.seconds)


def iso(utc_s: float) -> str:
    """2026-11-20T05:17:48.123Z."""
    seconds, us = divmod(round(utc_s * 1e6), 1_000_000)
    return f"{_second(seconds)}.{us // 1000:03d}Z"


_since = functools.lru_cache(maxsize=16_384)(iso)  # the same for as long as an activity lasts


@functools.lru_cache(maxsize=1024)  # labels of one second share it
def _second(utc_s: int) -> str:
    return datetime.fromtimestamp(utc_s, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _share(value: float) -> float:
    """Rounded to four digits, for what is 0 to 1; a third of what `round` takes."""
    return int(value * 1e4 + 0.5) / 1e4
