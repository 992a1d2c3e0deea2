"""Where bytes come in, on their way to the Inbox: one module a source; names are in registry.py."""

from __future__ import annotations

from typing import Protocol


class Source(Protocol):
    """Constructors assign, `start` acts, `stop` is idempotent."""

    def start(self) -> None: ...

    def stop(self) -> None: ...
