"""Phone motion in the daemon: sources -> inbox -> engine -> sinks; imports torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from hard.broker import Broker
from hard.config import state_dir
from hard.engine import Engine
from hard.handoff import Inbox
from hard.history import History
from hard.imu import Limits
from hard.model import TorchScriptModel, load_model
from hard.profiles import Profiles
from hard.recognizer import Recognizer
from hard.router import Router
from hard.runtime import Runtime
from hard.settings import ImuSettings, Settings
from hard.sinks import Sink
from hard.smoothing import Smoother
from hard.sources import build

STUCK_S: Final = 15.0  # a tick takes 20 ms, and at least one comes a second


class Motion:
    """Sources, models and the engine of phone motion. Owner: the main thread; the engine has its own."""

    def __init__(self, settings: Settings, broker: Broker, runtime: Runtime) -> None:
        """Load the models and build the sources; HardError where either cannot be."""
        i, e = settings.imu, settings.engine
        self._settings = settings
        self._runtime = runtime
        self.model, self.acc_model = load_models(i)
        self._inbox = Inbox(e.inbox_messages, e.inbox_mb << 20, runtime.counters)
        self._recognizer = Recognizer(
            self.model, acc_model=self.acc_model, limits=Limits(i.max_gap_s, i.max_devices, i.evict_after_s),
            min_rate_hz=i.min_rate_hz, counters=runtime.counters,
        )  # fmt: skip
        self._sources, self._codecs = build(settings.sources, broker, self._inbox, runtime.counters)

    @property
    def labels(self) -> list[str]:
        """Every activity that its models can tell."""
        return list(dict.fromkeys(self.model.card.labels + self.acc_model.card.labels))

    def wire(self) -> None:
        """Start the sources: they register with the broker connection, before that starts."""
        for source in self._sources:
            source.start()

    def start(self, sinks: Sequence[Sink]) -> None:
        """Start the engine; it ends after the sources, when the inbox is empty."""
        o, e = self._settings.output, self._settings.engine
        history = History(Smoother(self._settings.smoothing), stale_s=o.stale_s, offline_s=o.offline_s)
        profiles = Profiles(state_dir(self._settings))
        profiles.refresh(self._recognizer.wear)
        engine = Engine(
            self._inbox, Router(self._codecs), self._recognizer, history, sinks, self._runtime.counters,
            tick_s=e.tick_ms / 1000, max_age_s=e.max_age_s,
            refresh=lambda: profiles.refresh(self._recognizer.wear),
        )  # fmt: skip
        self._runtime.thread("engine", engine.run, self._inbox.wake)
        self._runtime.watch("engine", lambda: engine.ticks, STUCK_S)
        for source in self._sources:
            self._runtime.at_end(source.stop)


def load_models(settings: ImuSettings) -> tuple[TorchScriptModel, TorchScriptModel]:
    """The models for devices with and without a gyroscope, warmed up."""
    models = load_model(settings.model), load_model(settings.acc_model)
    for model in models:
        model.warm_up()
    return models
