"""bytes <-> Chunk, in SI units: one module a dialect; names are in registry.py."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from hard.types import Chunk, Message


class PayloadError(ValueError):
    """A payload that cannot be read; the text says why, for the person who sent it."""


class Codec(Protocol):
    """One dialect, for one subscription; may keep state between messages. Owner: the engine thread.

    Constructed with the Counters, for what it drops inside of messages.
    """

    def decode(self, message: Message) -> Sequence[Chunk]:
        """The chunks in a message, none or several; raises PayloadError, and nothing else, for bad bytes."""
        ...
