"""Recognises a dialect from a stream's first messages, says which it found, and hands over to its codec."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from typing import Final

import msgspec

from hard.codecs import UNREADABLE, Codec, CodecOptions, PayloadError
from hard.registry import make_codec
from hard.stats import Counters
from hard.types import Chunk, Message, Readings

log = logging.getLogger(__name__)

MAX_TOPICS: Final = 20_000
_NUMBERS: Final = re.compile(rb"\s*(-?[\d.]+(e[-+]?\d+)?|null)(\s*,\s*(-?[\d.]+(e[-+]?\d+)?|null))*\s*", re.I)
_COLUMNS_HYPERIMU: Final = 7


def recognise(topic: str, payload: bytes) -> str | None:
    """The name of the codec for such a payload, or None where it is unlike any."""
    if payload[:4] == b"HARD":
        return "native"
    if _NUMBERS.fullmatch(payload):
        values = payload.count(b",") + 1
        named = re.search(r"(acc|gyr|lin|^[agt]?)_?(x|y|z|t|time)$", topic.rpartition("/")[2], re.I)
        return "phyphox" if named else "hyperimu" if values >= _COLUMNS_HYPERIMU else None
    try:
        found = msgspec.json.decode(payload)
    except UNREADABLE:
        return None
    if isinstance(found, list):
        return "json" if found and isinstance(found[0], dict) else None
    if not isinstance(found, dict):
        return None
    return _object({str(key): value for key, value in found.items()})


def _object(found: dict[str, object]) -> str | None:
    payload, samples, kind = found.get("payload"), found.get("samples"), found.get("type")
    if isinstance(payload, list) and (not payload or (isinstance(payload[0], dict) and "name" in payload[0])):
        return "sensor-logger"
    if isinstance(samples, list) and samples and isinstance(samples[0], list):
        return "native"
    if isinstance(kind, str) and kind.startswith("android.sensor."):
        return "android-sensor"
    if isinstance(found.get("values"), list) and "timestamp" in found:
        return "android-sensor"
    if found.get("op") == "hyperimu" or (
        "Timestamp" in found and isinstance(found.get("Accelerometer"), list)
    ):
        return "hyperimu"
    keys = {key.lower() for key in found}
    arrays = [key for key, value in found.items() if isinstance(value, list)]
    if arrays and any(re.fullmatch(r"(acc|a|lin|gyr|g)\w*_?(x|y|z|t|time)|t", key, re.I) for key in arrays):
        return "phyphox"
    if keys & {"t", "time", "timestamp", "ts"} or any(isinstance(v, list) for v in found.values()):
        return "json"
    return None


class AutoCodec:
    """Keeps a codec a topic; a topic whose dialect changes is recognised anew."""

    def __init__(self, options: CodecOptions, counters: Counters) -> None:
        self._options = options
        self._counters = counters
        self._codecs: dict[str, Codec] = {}
        self._found: dict[str, str] = {}

    def dialect(self, topic: str) -> str | None:
        """What a topic was found to speak."""
        return self._found.get(topic)

    def decode(self, message: Message) -> Sequence[Chunk | Readings]:
        name = self._found.get(message.topic)
        if name is not None:
            try:
                return self._codecs[name].decode(message)
            except PayloadError:
                if recognise(message.topic, message.payload) in (name, None):
                    raise
        name = recognise(message.topic, message.payload)
        if name is None:
            start = message.payload[:24]
            raise PayloadError(
                f"unlike every known dialect: {start!r}; name its codec in sources.mqtt.topics"
            )
        if len(self._found) >= MAX_TOPICS:
            self._found.pop(next(iter(self._found)))
        self._found[message.topic] = name
        log.info("%s speaks %s", message.topic, name)
        if name not in self._codecs:  # one for all topics: phyphox's CSV comes on several
            self._codecs[name] = make_codec(name, self._options, self._counters)
        return self._codecs[name].decode(message)
