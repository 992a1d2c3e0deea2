"""Composition root: builds, starts, watches and stops the parts; the one file that knows everyone."""

from __future__ import annotations

import contextlib
import gc
import logging
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console, RenderableType

from hard import __version__
from hard import log as logs
from hard.broker import Broker
from hard.config import state_dir
from hard.console import over, report, show
from hard.embedded import password_file
from hard.link import Link
from hard.opencv import need_opencv
from hard.outputs import Outputs
from hard.phones import Simulator
from hard.runtime import Runtime, Stop
from hard.settings import Settings
from hard.sources import WEBCAM
from hard.sources.cameras import parse
from hard.stats import Counters
from hard.synthetic import NAME
from hard.table import render
from hard.types import HardError
from hard.welcome import welcome

if TYPE_CHECKING:
    from hard.motion import Motion
    from hard.sight import Sight
    from hard.sinks.display import Display

log = logging.getLogger(__name__)


def run(
    settings: Settings,
    *,
    simulate: int = 0,
    for_s: float | None = None,
    window: bool = False,
    record: Path | None = None,
) -> int:
    """The daemon, until a signal or `for_s` seconds; returns the exit status.

    `window` shows the camera's picture, `record` films it.
    """
    began_s = time.monotonic()
    if WEBCAM in settings.sources.enabled:
        need_opencv()
        parse(settings.sources.webcam.camera)  # a mistake is said before anything starts
    if window:
        from hard.sinks.display import need_window

        need_window()
    console = Console()
    if console.is_terminal and not (window or record):
        logs.setup_terminal(settings.log_level, console)
        logging.getLogger("hard.labels").setLevel(logging.WARNING)  # the table shows them
    else:
        logs.setup(settings.log_level)
    stop = Stop()
    with stop.on_signals(), contextlib.ExitStack() as stack:
        daemon = Daemon(settings, Runtime(stop, stack))
        daemon.start(simulate, shown=window or record is not None)
        display = daemon.display(window, record)
        gc.collect()
        gc.freeze()  # torch's objects are most of what lives, and need not be looked at again and again
        log.info("ready in %.1f s: %s", time.monotonic() - began_s, daemon.summary)
        kept = password_file(state_dir(settings))
        console.print(welcome(settings, daemon.link.url, kept), markup=False, highlight=False, soft_wrap=True)
        end_s = None if for_s is None else time.monotonic() + for_s
        if display is not None:
            display.run(lambda: stop.event.is_set() or over(end_s), daemon.check, stop.event.set)
            daemon.say_totals()
        elif console.is_terminal:
            show(console, daemon.frame, stop, end_s, daemon.check)
        else:
            report(daemon.say_totals, stop, end_s, daemon.check)
        log.info("stopping")
    if stop.failure:
        raise HardError(stop.failure)
    return 0


class Daemon:
    """The parts, and what the main thread does with them. Owner: the main thread."""

    def __init__(self, settings: Settings, runtime: Runtime) -> None:
        self.settings = settings
        self.runtime = runtime
        self.link = Link(settings, state_dir(settings), runtime)
        self.motion: Motion | None = None
        self.sight: Sight | None = None

    def start(self, simulate: int, *, shown: bool) -> None:
        """Start the parts in order; what was started the runtime stops in reverse, also after an error."""
        self.link.launch()
        sys.setswitchinterval(0.0005)  # else a forward of 0.8 ms waits 11 ms for a busy thread to let go
        settings, broker = self.settings, self.link.broker
        self._build(shown)
        labels = [label for part in (self.motion, self.sight) if part for label in part.labels]
        outputs = Outputs(settings, state_dir(settings), broker, list(dict.fromkeys(labels)), self.runtime)
        outputs.wire()
        if self.motion:
            self.motion.wire()
        self.link.connect()
        self._forget_synthetic(simulate, outputs)
        outputs.start()
        for part in (self.motion, self.sight):
            if part:
                part.start(outputs.sinks)
        self.link.wait()
        if simulate:
            self._simulate(simulate)

    def _build(self, shown: bool) -> None:
        """What the enabled sources need; imported after the broker's child runs: torch takes a second."""
        enabled = self.settings.sources.enabled
        if any(name != WEBCAM for name in enabled):
            from hard.motion import Motion

            self.motion = Motion(self.settings, self.link.broker, self.runtime)
        if WEBCAM in enabled:
            from hard.sight import Sight

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
        """What the main thread does about every second."""
        self.link.check()
        if self.sight and not self.motion and self.sight.source.ended.is_set():
            self.runtime.stop.event.set()  # a video file was the only source, and has been played

    @property
    def model(self) -> str:
        return ", ".join(part.model.card.name for part in (self.motion, self.sight) if part)

    @property
    def summary(self) -> str:
        missing = "" if self.link.broker.connected else " (not connected yet)"
        return f"{self.model}, {self.link.kind} {self.link.url}{missing}"

    def frame(self) -> RenderableType:
        """The live table now."""
        title = f"hard {__version__}   {self.model}   {self.link.kind} {self.link.url}   Ctrl-C ends"
        board, drops = self.runtime.board, self.runtime.counters.drops()
        return render(title, board.labels(), drops, time.time(), board.totals())

    def say_totals(self) -> None:
        """One line in the log."""
        totals = self.runtime.counters.snapshot()
        what = ", ".join(f"{k} {n}" for k, n in totals.items()) or "idle"
        log.info("%d devices; %s", len(self.runtime.board.labels()), what)

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
        self.runtime.thread("simulator", Simulator(broker, self.settings.output.prefix, phones).run)
