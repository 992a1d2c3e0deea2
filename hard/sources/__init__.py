"""Where bytes and frames come in: one module a source; names are in registry.py."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from hard.registry import SOURCES, make_codec, resolve

if TYPE_CHECKING:
    from hard.broker import Broker
    from hard.codecs import Codec
    from hard.handoff import Inbox
    from hard.settings import SourcesSettings
    from hard.stats import Counters


WEBCAM: Final = "webcam"


class Source(Protocol):
    """Constructors assign, `start` acts, `stop` is idempotent.

    Constructed with its section of the settings (None for sources of other packages), the broker connection,
    the inbox and the counters.
    """

    def start(self) -> None: ...

    def stop(self) -> None: ...


def build(
    settings: SourcesSettings, broker: Broker, inbox: Inbox, counters: Counters
) -> tuple[list[Source], list[tuple[str, Codec]]]:
    """The enabled sources of bytes, and for the router which codec reads which topics; imports only those.

    The webcam gives frames: sight.py.
    """
    sections = {"mqtt": settings.mqtt, "serial": settings.serial}
    sources: dict[str, Source] = {}
    for name in settings.enabled:
        if name == WEBCAM:
            continue
        sources[name] = resolve("sources", SOURCES, name)(sections.get(name), broker, inbox, counters)
    codecs: list[tuple[str, Codec]] = []
    if "serial" in sources:
        from hard.sources.serial import SerialSource

        source = sources["serial"]
        assert isinstance(source, SerialSource)
        ports = source.ports.items()
        codecs += [(f"serial/{device}", make_codec("csv-lines", port, counters)) for device, port in ports]
    if "mqtt" in sources:
        codecs += [(t.filter, make_codec(t.codec, t, counters)) for t in settings.mqtt.topics]
    return list(sources.values()), codecs
