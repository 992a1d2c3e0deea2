"""Where labels go out: one module a sink; names are in registry.py."""

from __future__ import annotations

from typing import Protocol

from hard.types import Event, Label


class Sink(Protocol):
    """Called in an engine's thread, for each device always the same; must not block, nor keep the lists."""

    def emit(self, labels: list[Label]) -> None: ...

    def announce(self, events: list[Event]) -> None:
        """Activities that ended and began, in this order; the labels that say so are emitted next."""
        ...

    def forget(self, devices: list[str]) -> None:
        """These devices have been silent for long; their state may go."""
        ...
