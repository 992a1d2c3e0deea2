"""Phone motion in the daemon: sources -> inbox -> engine -> sinks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import msgspec

from hard.broker import Broker
from hard.card import find_model, read_card
from hard.config import state_dir
from hard.daemon.intake import Intake
from hard.daemon.metrics import Metrics, TimedModel
from hard.engine import Engine
from hard.handoff import Inbox
from hard.history import History
from hard.imu import Limits
from hard.model import MAX_BATCH, Model, load_model
from hard.personal.profiles import Profiles
from hard.recognizer import Recognizer, require_no_need_of_gyroscope, require_same_windows
from hard.router import Router
from hard.runtime import Runtime
from hard.settings import EngineSettings, ImuSettings, Settings
from hard.sinks import Sink
from hard.smoothing import Smoother
from hard.types import HardError

CHANGE_S: Final = 10.0
ANSWER_S: Final = 2.0  # for the broker to answer a subscription
FEW: Final = 8  # windows at once that models are prepared for which may never run


class Motion:
    """Sources, models and the engine of phone motion. Owner: the main thread; the engine has its own."""

    def __init__(self, settings: Settings, broker: Broker, metrics: Metrics, runtime: Runtime) -> None:
        """Load the models and build the sources; HardError where either cannot be."""
        i, e = settings.imu, settings.engine
        self._settings = settings
        self._runtime = runtime
        self._metrics = metrics
        self._broker = broker
        self._models = Models.load(i, e)
        self._inbox = Inbox(e.inbox_messages, e.inbox_mb << 20, runtime.counters)
        self.intake = Intake(settings.sources, broker, self._inbox, runtime)
        timed = self._models.timed(metrics)
        self._recognizer = Recognizer(
            timed.model, acc_model=timed.acc, elsewhere_model=timed.elsewhere,
            limits=Limits(i.max_gap_s, i.max_devices, i.evict_after_s),
            min_rate_hz=i.min_rate_hz, counters=runtime.counters,
        )  # fmt: skip
        o = settings.output
        self._history = History(Smoother(settings.smoothing), stale_s=o.stale_s, offline_s=o.offline_s)
        self._engine: Engine | None = None
        runtime.models_of["motion"] = lambda: [model.card.name for model in self._models.all()]
        runtime.named_sources["motion"] = lambda: self.intake.named

    @property
    def labels(self) -> list[str]:
        """Every activity that its models can tell."""
        return list(dict.fromkeys(label for model in self._models.all() for label in model.card.labels))

    def wire(self) -> None:
        """Start the sources: they register with the broker connection, before that starts."""
        self.intake.start()

    def start(self, sinks: Sequence[Sink]) -> None:
        """Start the engine; it ends after the sources, when the inbox is empty."""
        profiles = Profiles(state_dir(self._settings))
        profiles.refresh(self._recognizer.wear)
        engine = self._engine = Engine(
            self._inbox, Router(self.intake.codecs), self._recognizer, self._history, sinks,
            self._runtime.counters, tick_s=self._settings.engine.tick_ms / 1000,
            max_age_s=self._settings.engine.max_age_s,
            refresh=lambda: profiles.refresh(self._recognizer.wear),
        )  # fmt: skip
        self._runtime.thread("engine", engine.run, self._inbox.wake)
        self._runtime.watch("engine", lambda: engine.ticks)
        self._runtime.at_end(self.intake.stop)

    def change(self, settings: Settings) -> None:
        """Other sources, models and smoothing from now on; devices keep what can be kept.

        HardError, and nothing has changed, where the settings cannot be followed.
        """
        assert self._engine
        i, o = settings.imu, settings.output
        models = Models.load(i, self._settings.engine, self._models)
        codecs = self.intake.prepare(settings.sources)
        router = Router([(route[0], codec) for route, codec in codecs])
        timed = models.timed(self._metrics)

        def apply() -> None:
            assert self._engine
            self._recognizer.use(timed.model, timed.acc, timed.elsewhere, i.min_rate_hz)
            self._history.use(settings.smoothing, stale_s=o.stale_s, offline_s=o.offline_s)
            self._engine.router = router

        if not self._engine.call(apply, CHANGE_S):
            raise HardError("the engine is busy and nothing was changed; reload again")
        # with the engine as it was started
        self._settings = msgspec.structs.replace(settings, engine=self._settings.engine)
        self._models = models
        self.intake.change(settings.sources, codecs)
        self._broker.wait_subscribed(ANSWER_S)  # what is sent from now on meets the other settings


class Models(NamedTuple):
    """The models of phone motion, loaded."""

    model: Model
    acc: Model
    elsewhere: Model | None

    @classmethod
    def load(cls, settings: ImuSettings, engine: EngineSettings, before: Models | None = None) -> Models:
        """The models that the settings name; those of `before` that are the same need no loading.

        HardError where one cannot be had, or is none for its part.
        """
        known = list(before.all()) if before else []

        def get(name: str, batch: int = FEW) -> Model:
            card = read_card(find_model(name))
            found = next((model for model in known if model.card == card), None)
            if found is None:
                found = load_model(name, engine.runtime, engine.precision)
                found.warm_up(batch)
                known.append(found)
            return found

        model, acc = get(settings.model, MAX_BATCH), get(settings.acc_model)
        require_no_need_of_gyroscope(acc)
        elsewhere = get(settings.elsewhere_model) if settings.elsewhere_model else None
        if elsewhere is not None:
            require_same_windows(model, elsewhere)
        return cls(model, acc, elsewhere)

    def all(self) -> Iterator[Model]:
        return (model for model in self if model is not None)

    def timed(self, metrics: Metrics) -> Models:
        """The same, telling the metrics how long they take."""
        elsewhere = TimedModel(self.elsewhere, metrics) if self.elsewhere else None
        return Models(TimedModel(self.model, metrics), TimedModel(self.acc, metrics), elsewhere)
