"""Where bytes and frames come in: one module a source; names are in registry.py."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol, runtime_checkable

if TYPE_CHECKING:
    from hard.runtime import Stage
    from hard.settings import SourcesSettings


WEBCAM: Final = "webcam"  # gives frames, not bytes: sight.py


class Source(Protocol):
    """Constructors assign, `start` acts, `stop` is idempotent.

    Constructed with its section of the settings (None for sources of other packages), the broker connection,
    the inbox and the counters.
    """

    def start(self) -> None: ...

    def stop(self) -> None: ...


@runtime_checkable
class Watched(Protocol):
    """A source with threads of its own: their progress is watched, its problems are published."""

    def stages(self) -> list[Stage]: ...

    def problem(self) -> str | None: ...


@runtime_checkable
class Changing(Protocol):
    """A source that takes other settings while it runs, and does nothing where its own are the same."""

    def change(self, settings: SourcesSettings) -> None: ...
