"""Composition root: builds, starts, watches and stops the parts; the one file that knows everyone."""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console, RenderableType

from hard import __version__
from hard import log as logs
from hard.broker import Broker
from hard.config import state_dir
from hard.console import over, report, show
from hard.daemon.care import Care
from hard.daemon.link import Link
from hard.daemon.outputs import Outputs
from hard.embedded import password_file
from hard.memory import settle
from hard.mqtt.passwords import forms, known_secrets
from hard.opencv import need_opencv
from hard.phones import Simulator
from hard.runtime import Runtime, Stop
from hard.settings import Settings
from hard.sources import WEBCAM
from hard.sources.cameras import Kind, parse
from hard.stats import Counters
from hard.synthetic import NAME
from hard.table import render
from hard.types import HardError
from hard.welcome import welcome

if TYPE_CHECKING:
    from hard.daemon.metrics import Metrics
    from hard.daemon.motion import Motion
    from hard.daemon.sight import Sight
    from hard.sinks.display import Display

log = logging.getLogger(__name__)


def run(
    load: Callable[[], Settings],
    *,
    config: Path | None = None,
    simulate: int = 0,
    for_s: float | None = None,
    window: bool = False,
    record: Path | None = None,
) -> int:
    """The daemon, until a signal or `for_s` seconds; returns the exit status.

    `load` reads the settings, now and for every reload; `config` is the file that it reads them from.
    `window` shows the camera's picture, `record` films it.
    """
    began_s = time.monotonic()
    settings = load()
    if WEBCAM in settings.sources.enabled:
        need_opencv()
        address = parse(settings.sources.webcam.camera)  # a mistake is said before anything starts
        if record:
            from hard.footage import check_film, check_output

            check_film(record)
            if address.kind is Kind.FILE:
                check_output("--record", record, Path(address.place))
    if window:
        from hard.sinks.display import need_window

        need_window()
    console = Console()
    terminal = console if console.is_terminal and not (window or record) else None
    spread = logs.setup(settings.log_level, settings.log_format, terminal, known_secrets(settings))
    if terminal:
        logging.getLogger("hard.labels").setLevel(logging.WARNING)  # the table shows them
    sys.excepthook = lambda kind, error, trace: log.critical("%s", kind, exc_info=(kind, error, trace))
    faulthandler.enable()  # the watchdog's SIGABRT leaves every thread's stack in the log
    stop = Stop()
    with stop.on_signals(), stop.on_hangup(), contextlib.ExitStack() as stack:
        daemon = Daemon(settings, Runtime(stop, stack), spread, config)
        daemon.start(load, simulate, shown=window or record is not None)
        display = daemon.display(window, record)
        settle()
        log.info("ready in %.1f s: %s", time.monotonic() - began_s, daemon.summary)
        kept = password_file(state_dir(settings))
        with contextlib.suppress(OSError):  # nobody needs it, and the disk behind stdout may be full
            console.print(daemon.welcome(kept), markup=False, highlight=False, soft_wrap=True)
        end_s = None if for_s is None else time.monotonic() + for_s
        if display is not None:
            display.run(lambda: stop.event.is_set() or over(end_s), daemon.check, stop.event.set)
            daemon.say_totals()
        elif terminal:
            show(terminal, daemon.frame, stop, end_s, daemon.check)
        else:
            report(daemon.say_totals, stop, end_s, daemon.check)
        log.info("stopping")
    if stop.failure:
        raise HardError(spread.blotted(stop.failure))
    return 0


class Daemon:
    """The parts, and what the main thread does with them. Owner: the main thread."""

    def __init__(
        self, settings: Settings, runtime: Runtime, spread: logs.Spread, config: Path | None
    ) -> None:
        self.settings = settings
        self.runtime = runtime
        self.link = Link(settings, state_dir(settings), runtime)
        spread.hide(forms([self.link.url.password or ""]))
        self.care = Care(settings, self.link, spread, config, runtime)
        self.motion: Motion | None = None
        self.sight: Sight | None = None

    def start(self, load: Callable[[], Settings], simulate: int, *, shown: bool) -> None:
        """Start the parts in order; what was started the runtime stops in reverse, also after an error."""
        self.link.launch()
        from hard.daemon.metrics import Metrics

        sys.setswitchinterval(0.0005)  # else a forward of 0.8 ms waits 11 ms for a busy thread to let go
        settings, runtime = self.settings, self.runtime
        metrics = Metrics(runtime.source_of, runtime.modality_of)
        self._build(metrics, shown)
        labels = [label for part in (self.motion, self.sight) if part for label in part.labels]
        outputs = Outputs(
            settings, state_dir(settings), self.link.broker, list(dict.fromkeys(labels)), metrics, runtime
        )
        outputs.wire()
        if self.motion:
            self.motion.wire()
        self.care.hold()
        self.link.connect()
        self._forget_synthetic(simulate, outputs)
        outputs.start()
        for part in (self.motion, self.sight):
            if part:
                part.start(outputs.sinks)
        self.care.start(load, self.motion, outputs, metrics)
        self.link.wait(self.care.turn)
        if simulate:
            self._simulate(simulate)

    def _build(self, metrics: Metrics, shown: bool) -> None:
        """What the enabled sources need; imported after the broker's child runs: torch takes a second."""
        enabled = self.settings.sources.enabled
        if any(name != WEBCAM for name in enabled):
            from hard.daemon.motion import Motion

            self.motion = Motion(self.settings, self.link.broker, metrics, self.runtime)
        if WEBCAM in enabled:
            from hard.daemon.sight import Sight

            self.sight = Sight(self.settings, self.runtime, shown=shown)

    def display(self, window: bool, record: Path | None) -> Display | None:
        """The camera's window or film, where one is asked for."""
        if self.sight is None or self.sight.view is None:
            return None
        from hard.sinks.display import Display

        return Display(
            self.sight.device, self.sight.view, self.runtime.board,
            window=window, record=record, folder=Path.cwd(),
        )  # fmt: skip

    def check(self) -> None:
        """What the main thread does several times a second."""
        self.link.check()
        self.care.turn()
        if self.sight and not self.motion and self.sight.source.ended.is_set():
            self.runtime.stop.event.set()  # a video file was the only source, and has been played

    @property
    def summary(self) -> str:
        missing = "" if self.link.broker.connected else " (not connected yet)"
        return f"{self._what()}{missing}"

    def frame(self) -> RenderableType:
        """The live table now."""
        title = f"hard {__version__}   {self._what('   ')}   Ctrl-C ends"
        board, drops = self.runtime.board, self.runtime.counters.drops()
        return render(title, board.labels(), drops, time.time(), board.totals())

    def welcome(self, password_file: Path) -> str:
        """How to connect a phone, and what else is read."""
        ports = self.motion.intake.ports if self.motion else {}
        camera = self.sight.source.address if self.sight else None
        return welcome(self.settings, self.link.url, password_file, ports, camera)

    def say_totals(self) -> None:
        """One line in the log."""
        totals = self.runtime.counters.snapshot()
        what = ", ".join(f"{k} {n}" for k, n in totals.items()) or "idle"
        log.info("%d devices; %s", len(self.runtime.board.labels()), what)

    def _what(self, between: str = ", ") -> str:
        """The first model of each part, and the broker."""
        models = ", ".join(models()[0] for models in self.runtime.models_of.values())
        return f"{models}{between}{self.link.kind} {self.link.url}"

    def _forget_synthetic(self, phones: int, outputs: Outputs) -> None:
        """Nobody wants retained labels of people who do not exist."""
        names = [NAME.format(n + 1) for n in range(phones)]
        if names:
            outputs.forget_at_end(names)
        for name in names:
            for kind in ("activity", "totals"):
                topic = f"{self.settings.output.prefix}/{name}/{kind}"
                self.runtime.at_end(self.link.broker.publish, topic, b"", retain=True)

    def _simulate(self, phones: int) -> None:
        broker = Broker(self.link.url, Counters())
        broker.start()
        self.runtime.at_end(broker.stop)
        broker.wait_ready(5.0)
        self.runtime.thread("simulator", Simulator(broker, self.settings.sources.mqtt.topics, phones).run)
