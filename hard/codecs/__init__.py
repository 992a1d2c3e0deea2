"""bytes <-> Chunk, in SI units: one module a dialect; names are in registry.py."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import Annotated, Final, Literal, Protocol

import msgspec
from msgspec import Meta

from hard.stats import Counters
from hard.types import Chunk, Message, Readings

AXES: Final = ("ax", "ay", "az", "gx", "gy", "gz")
Column = Literal["t", "ax", "ay", "az", "gx", "gy", "gz", "-"]
MAX_NAME: Final = 64
_ODD: Final = re.compile(r"[+#/$\s]+")


UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What reading JSON raises: not JSON, not UTF-8, nested without end."""


class PayloadError(ValueError):
    """A payload that cannot be read; the text says why, for the person who sent it."""


class CodecOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a person can say of a stream; every codec takes what its dialect does not fix."""

    frame: Literal["auto", "android", "ios"] = "auto"  # which way acceleration points at rest
    columns: tuple[Column, ...] = ()  # of a CSV, from the left
    time_unit: Literal["auto", "s", "ms", "us"] = "auto"
    acc_unit: Literal["auto", "m/s2", "g", "counts"] = "auto"
    acc_scale: Annotated[float, Meta(gt=0)] = 16384.0  # counts of one g
    gyro_unit: Literal["auto", "rad/s", "deg/s", "counts"] = "auto"
    gyro_scale: Annotated[float, Meta(gt=0)] = 131.0  # counts of one deg/s

    def __post_init__(self) -> None:
        named = sorted(c for c in self.columns if c not in ("t", "-"))
        fits = named in (sorted(AXES), sorted(AXES[:3])) and self.columns.count("t") <= 1
        if self.columns and not fits:
            raise ValueError(
                "Columns name each of ax, ay, az once, likewise gx, gy, gz or none of them, t at most once, "
                "and - for the rest"
            )


class Codec(Protocol):
    """One dialect, for one subscription; may keep state between messages. Owner: the engine thread.

    Constructed with the Counters, for what it drops inside of messages.
    """

    def __init__(self, options: CodecOptions, counters: Counters) -> None: ...

    def decode(self, message: Message) -> Sequence[Chunk | Readings]:
        """What is in a message, none or several; raises PayloadError, and nothing else, for bad bytes.

        Readings in one message are of one device.
        """
        ...


def good_name(device: str) -> bool:
    """Whether a device's name can be a topic level: 1-64 printable characters, no wildcard, no slash."""
    return 0 < len(device) <= MAX_NAME and device.isprintable() and not any(c in "+#/$" for c in device)


@functools.lru_cache(maxsize=32_768)  # every message says its device anew
def safe_name(text: str) -> str:
    """The nearest good name: "android/sensor" -> "android-sensor"."""
    return "".join(c for c in _ODD.sub("-", text) if c.isprintable()).strip("-")[:MAX_NAME] or "unnamed"
