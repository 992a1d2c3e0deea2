"""A label as JSON on <prefix>/<device>/activity: written by the MQTT sink, read by `hard watch`."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from hard.types import Label, Prediction

VERSION = 1


class WindowEnd(msgspec.Struct, frozen=True):
    device_s: float  # on the device's own clock
    utc: str  # ISO 8601


class ModelId(msgspec.Struct, frozen=True):
    name: str
    sha256: str  # first 12 digits


class ActivityPayload(msgspec.Struct, frozen=True):
    """The fields of the JSON object, in order."""

    v: int
    device: str
    activity: str
    confidence: float
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


def encode(label: Label) -> bytes:
    p = label.prediction
    return _ENCODER.encode(
        ActivityPayload(
            v=VERSION,
            device=p.device,
            activity=p.activity,
            confidence=round(p.confidence, 4),
            probabilities={name: round(value, 4) for name, value in p.probabilities.items()},
            since=iso(label.since_s),
            window_end=WindowEnd(round(p.t_end, 6), iso(label.window_end_s)),
            seq=label.seq,
            model=ModelId(label.model, label.model_hash),
            latency_ms=round(label.latency_ms, 2),
            rate_hz=round(p.rate_hz, 2),
            gaps=p.gaps,
            reason=p.reason,
        )
    )


def decode(payload: bytes) -> Label:
    """The label in a payload; raises ValueError where it is not one."""
    try:
        a = _DECODER.decode(payload)
        return Label(
            prediction=Prediction(
                a.device, a.window_end.device_s, a.activity, a.confidence, a.probabilities, a.rate_hz, a.gaps,
                0.0, 0.0, a.model.name, a.model.sha256, a.reason,
            ),
            since_s=datetime.fromisoformat(a.since).timestamp(),
            window_end_s=datetime.fromisoformat(a.window_end.utc).timestamp(),
            seq=a.seq,
            model=a.model.name,
            model_hash=a.model.sha256,
            latency_ms=a.latency_ms,
        )  # fmt: skip
    except msgspec.DecodeError as e:
        raise ValueError(str(e)) from None


def iso(utc_s: float) -> str:
    """2026-11-20T05:17:48.123Z."""
    return datetime.fromtimestamp(utc_s, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"
