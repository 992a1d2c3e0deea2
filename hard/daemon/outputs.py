"""Where labels go, for every engine: the broker, the board, daily totals, Home Assistant."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hard.broker import Broker
from hard.daemon.leftovers import Leftovers
from hard.registry import SINKS, resolve
from hard.runtime import Runtime
from hard.settings import Settings
from hard.sinks import Sink
from hard.sinks.payload import encode_totals
from hard.totals import FILE, Store, Totals
from hard.types import DayTotals


class Outputs:
    """All sinks, in the order in which they get labels. Owner: the main thread."""

    def __init__(
        self,
        settings: Settings,
        state: Path,
        broker: Broker,
        labels: Sequence[str],
        metrics: Sink,
        runtime: Runtime,
    ) -> None:
        """`labels`: every activity that a model of this daemon can tell."""
        self._runtime = runtime
        self._labels = list(labels)
        o, h = settings.output, settings.homeassistant
        self._totals = _totals(settings, state, broker, runtime)
        labels_out: Sink = resolve("sinks", SINKS, "mqtt")(o, broker)
        self._leftovers = Leftovers(broker, o, runtime.board, labels_out.emit)
        self.sinks: list[Sink] = [
            labels_out,
            resolve("sinks", SINKS, "board")(runtime.board),
            self._totals,
            metrics,
        ]
        self._announcer = (
            resolve("sinks", SINKS, "homeassistant")(h, o, broker, labels) if h.enabled else None
        )
        if self._announcer is not None:
            self.sinks.append(self._announcer)

    def wire(self) -> None:
        """Register with the broker connection, before that starts."""
        if self._announcer is not None:
            self._announcer.start()

    def start(self) -> None:
        self._runtime.thread("totals", self._totals.run)
        self._runtime.thread("leftovers", self._leftovers.run)
        self._runtime.problems["totals"] = lambda: self._totals.trouble

    def relabel(self, old: Sequence[str], new: Sequence[str]) -> None:
        """A model was exchanged for one that tells other activities: Home Assistant is to know."""
        others = [label for label in self._labels if label not in old]  # of other parts' models
        self._labels = list(dict.fromkeys([*new, *others]))
        if self._announcer is not None:
            self._announcer.relabel(self._labels)

    def change(self, settings: Settings) -> None:
        """Other settings from now on."""
        self._totals.longest_s = settings.smoothing.restart_s

    def forget_at_end(self, devices: list[str]) -> None:
        """Have devices that do not exist taken back from Home Assistant at the end."""
        if self._announcer is not None:
            self._runtime.at_end(self._announcer.remove, devices)


def _totals(settings: Settings, state: Path, broker: Broker, runtime: Runtime) -> Totals:
    o = settings.output

    def publish(totals: DayTotals) -> bool:
        topic = f"{o.prefix}/{totals.device}/totals"
        return broker.publish(topic, encode_totals(totals), o.qos, retain=True)

    return Totals(
        Store(state / FILE), publish, runtime.board.put_totals, runtime.counters,
        keep_days=settings.totals.keep_days, write_every_s=settings.totals.write_every_s,
        longest_s=settings.smoothing.restart_s,
    )  # fmt: skip
