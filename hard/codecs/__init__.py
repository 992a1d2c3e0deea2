"""bytes <-> Chunk, in SI units: one module a dialect; names are in registry.py."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, Literal, Protocol

import msgspec

from hard.stats import Counters
from hard.types import Chunk, Message, Readings

MAX_NAME: Final = 64
_ODD: Final = re.compile(r"[+#/$\s]+")


class PayloadError(ValueError):
    """A payload that cannot be read; the text says why, for the person who sent it."""


class CodecOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a person can say of a stream; every codec takes what concerns it."""

    frame: Literal["auto", "android", "ios"] = "auto"  # which way acceleration points
    acc_unit: Literal["m/s2", "g"] = "m/s2"
    gyro_unit: Literal["rad/s", "deg/s"] = "rad/s"
    columns: tuple[str, ...] = ()  # of a CSV, from the left


class Codec(Protocol):
    """One dialect, for one subscription; may keep state between messages. Owner: the engine thread."""

    def __init__(self, options: CodecOptions, counters: Counters) -> None: ...

    def decode(self, message: Message) -> Sequence[Chunk | Readings]:
        """What is in a message, none or several; raises PayloadError, and nothing else, for bad bytes."""
        ...


def good_name(device: str) -> bool:
    """Whether a device's name can be a topic level: 1-64 printable characters, no wildcard, no slash."""
    return 0 < len(device) <= MAX_NAME and device.isprintable() and not any(c in "+#/$" for c in device)


def safe_name(text: str) -> str:
    """The nearest good name: "android/sensor" -> "android-sensor"."""
    return "".join(c for c in _ODD.sub("-", text) if c.isprintable()).strip("-")[:MAX_NAME] or "unnamed"
