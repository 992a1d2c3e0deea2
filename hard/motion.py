"""Phone motion in the daemon: sources -> inbox -> engine -> sinks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from hard.broker import Broker
from hard.card import find_model, read_card
from hard.config import state_dir
from hard.engine import Engine
from hard.handoff import Inbox
from hard.history import History
from hard.imu import Limits
from hard.intake import Intake
from hard.metrics import Metrics, TimedModel
from hard.model import Model, load_model
from hard.model import Runtime as ModelRuntime
from hard.profiles import Profiles
from hard.recognizer import Recognizer
from hard.router import Router
from hard.runtime import Runtime
from hard.settings import Settings
from hard.sinks import Sink
from hard.smoothing import Smoother
from hard.types import HardError

CHANGE_S: Final = 10.0


class Motion:
    """Sources, models and the engine of phone motion. Owner: the main thread; the engine has its own."""

    def __init__(self, settings: Settings, broker: Broker, metrics: Metrics, runtime: Runtime) -> None:
        """Load the models and build the sources; HardError where either cannot be."""
        i, e = settings.imu, settings.engine
        self._settings = settings
        self._runtime = runtime
        self._metrics = metrics
        self._models = (_load(i.model, e.runtime), _load(i.acc_model, e.runtime))
        self._inbox = Inbox(e.inbox_messages, e.inbox_mb << 20, runtime.counters)
        self.intake = Intake(settings.sources, broker, self._inbox, runtime)
        model, acc_model = self._timed()
        self._recognizer = Recognizer(
            model, acc_model=acc_model, limits=Limits(i.max_gap_s, i.max_devices, i.evict_after_s),
            min_rate_hz=i.min_rate_hz, counters=runtime.counters,
        )  # fmt: skip
        o = settings.output
        self._history = History(Smoother(settings.smoothing), stale_s=o.stale_s, offline_s=o.offline_s)
        self._engine: Engine | None = None
        runtime.models_of["motion"] = lambda: [model.card.name for model in self._models]
        runtime.named_sources["motion"] = lambda: self.intake.named

    @property
    def labels(self) -> list[str]:
        """Every activity that its models can tell."""
        return list(dict.fromkeys(label for model in self._models for label in model.card.labels))

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
        runtime, pairs = self._settings.engine.runtime, zip((i.model, i.acc_model), self._models, strict=True)
        models = [_reload(name, old, runtime) for name, old in pairs]
        codecs = self.intake.prepare(settings.sources)
        router = Router([(route[0], codec) for route, codec in codecs])
        self._models = (models[0], models[1])
        model, acc_model = self._timed()

        def apply() -> None:
            assert self._engine
            self._recognizer.use(model, acc_model, i.min_rate_hz)
            self._history.use(settings.smoothing, stale_s=o.stale_s, offline_s=o.offline_s)
            self._engine.router = router

        if not self._engine.call(apply, CHANGE_S):
            raise HardError("the engine is busy; the change is made as soon as it is not")
        self._settings = settings
        self.intake.change(settings.sources, codecs)

    def _timed(self) -> tuple[TimedModel, TimedModel]:
        model, acc_model = self._models
        return TimedModel(model, self._metrics), TimedModel(acc_model, self._metrics)


def _load(name: str, runtime: ModelRuntime) -> Model:
    model = load_model(name, runtime)
    model.warm_up()
    return model


def _reload(name: str, before: Model, runtime: ModelRuntime) -> Model:
    """The model of this name: the one that is there, if it is the same."""
    return before if read_card(find_model(name)) == before.card else _load(name, runtime)
