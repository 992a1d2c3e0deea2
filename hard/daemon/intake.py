"""The enabled sources of motion and the codecs of their topics; both can be exchanged while it runs."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from hard.codecs import Codec, CodecOptions
from hard.registry import SOURCES, make_codec, resolve
from hard.settings import PortSettings, SourcesSettings
from hard.sources import WEBCAM, Changing, Source, Watched
from hard.sources.ports import PortNames, by_device

if TYPE_CHECKING:
    from hard.broker import Broker
    from hard.handoff import Inbox
    from hard.runtime import Runtime

Route: TypeAlias = tuple[str, str, CodecOptions]  # topic filter, codec, its options


class Intake:
    """Sources -> inbox. Owner: the main thread."""

    def __init__(
        self,
        settings: SourcesSettings,
        broker: Broker,
        inbox: Inbox,
        runtime: Runtime,
        names: PortNames | None = None,
    ) -> None:
        """Build the sources and codecs; HardError where one cannot be."""
        self._names = names or PortNames()
        settings = self._named(settings)
        self.ports = _ports(settings)  # serial ones, by device
        self._broker = broker
        self._inbox = inbox
        self._runtime = runtime
        self._sources = {name: self._make(name, settings) for name in _enabled(settings)}
        self._codecs: list[tuple[Route, Codec]] = []
        self._codecs = self._build_codecs(settings)

    @property
    def codecs(self) -> list[tuple[str, Codec]]:
        """For the router: which codec reads which topics."""
        return [(route[0], codec) for route, codec in self._codecs]

    @property
    def named(self) -> Collection[str]:
        """Devices that are a source of their own."""
        return self.ports.keys()

    def start(self) -> None:
        self._watch()
        for source in self._sources.values():
            source.start()

    def stop(self) -> None:
        for source in self._sources.values():
            source.stop()

    def prepare(self, settings: SourcesSettings) -> list[tuple[Route, Codec]]:
        """The codecs for other settings, and HardError where sources cannot be built from them.

        A codec that stays as it was is the same object: it knows its streams.
        """
        settings = self._named(settings)
        for name in _enabled(settings):
            self._make(name, settings)  # constructors only assign and check
        return self._build_codecs(settings)

    def change(self, settings: SourcesSettings, codecs: list[tuple[Route, Codec]]) -> None:
        """Other sources from now on, with what `prepare` made of the same settings."""
        self._names.keep(settings.serial)
        settings = self._named(settings)
        self.ports, self._codecs = _ports(settings), codecs
        for name in list(self._sources):
            if name not in settings.enabled:
                self._sources.pop(name).stop()
        for name in _enabled(settings):
            source = self._sources.get(name)
            if source is None:
                self._sources[name] = self._make(name, settings)
                self._sources[name].start()
            elif isinstance(source, Changing):
                source.change(settings)
        self._watch()

    def _named(self, settings: SourcesSettings) -> SourcesSettings:
        """The same, each serial port with the name that it has from the first time on."""
        return msgspec.structs.replace(settings, serial=self._names.give(settings.serial))

    def _make(self, name: str, settings: SourcesSettings) -> Source:
        section = {"mqtt": settings.mqtt, "serial": settings.serial}.get(name)
        made: Source = resolve("sources", SOURCES, name)(
            section, self._broker, self._inbox, self._runtime.counters
        )
        return made

    def _build_codecs(self, settings: SourcesSettings) -> list[tuple[Route, Codec]]:
        out: list[tuple[Route, Codec]] = []
        for route in _routes(settings):
            _, name, options = route
            known = next((codec for r, codec in self._codecs if r == route), None)
            out.append((route, known or make_codec(name, options, self._runtime.counters)))
        return out

    def _watch(self) -> None:
        """Have the progress and the problems of the present sources watched, and no others'."""
        watched = [s for s in self._sources.values() if isinstance(s, Watched)]
        self._runtime.watch_group("sources", [stage for s in watched for stage in s.stages()])
        self._runtime.problems["sources"] = lambda: _joined(s.problem() for s in watched)


def _enabled(settings: SourcesSettings) -> list[str]:
    """The sources of bytes."""
    return [name for name in settings.enabled if name != WEBCAM]


def _ports(settings: SourcesSettings) -> Mapping[str, PortSettings]:
    return by_device(settings.serial) if "serial" in settings.enabled else {}


def _routes(settings: SourcesSettings) -> list[Route]:
    routes: list[Route] = [(f"serial/{d}", "csv-lines", port) for d, port in _ports(settings).items()]
    if "mqtt" in settings.enabled:
        routes += [(t.filter, t.codec, t) for t in settings.mqtt.topics]
    return routes


def _joined(texts: Iterable[str | None]) -> str | None:
    return "; ".join(filter(None, texts)) or None
