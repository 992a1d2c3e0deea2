"""Composition root: builds, starts, watches and stops the parts; the one file that knows everyone."""

from __future__ import annotations

import contextlib
import gc
import logging
import sys
import time

from rich.console import Console, RenderableType

from hard import __version__
from hard import log as logs
from hard.broker import Broker
from hard.config import state_dir
from hard.console import report, show
from hard.embedded import password_file
from hard.link import Link
from hard.outputs import Outputs
from hard.phones import Simulator
from hard.runtime import Runtime, Stop
from hard.settings import Settings
from hard.stats import Counters
from hard.synthetic import NAME
from hard.table import render
from hard.types import HardError
from hard.welcome import welcome

log = logging.getLogger(__name__)


def run(settings: Settings, *, simulate: int = 0, for_s: float | None = None) -> int:
    """The daemon, until a signal or `for_s` seconds; returns the exit status."""
    began_s = time.monotonic()
    console = Console()
    if console.is_terminal:
        logs.setup_terminal(settings.log_level, console)
        logging.getLogger("hard.labels").setLevel(logging.WARNING)  # the table shows them
    else:
        logs.setup(settings.log_level)
    stop = Stop()
    with stop.on_signals(), contextlib.ExitStack() as stack:
        daemon = Daemon(settings, Runtime(stop, stack))
        daemon.start(simulate)
        gc.collect()
        gc.freeze()  # torch's objects are most of what lives, and need not be looked at again and again
        log.info("ready in %.1f s: %s", time.monotonic() - began_s, daemon.summary)
        kept = password_file(state_dir(settings))
        console.print(welcome(settings, daemon.link.url, kept), markup=False, highlight=False, soft_wrap=True)
        end_s = None if for_s is None else time.monotonic() + for_s
        if console.is_terminal:
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
        self.model = settings.imu.model

    def start(self, simulate: int) -> None:
        """Start the parts in order; what was started the runtime stops in reverse, also after an error."""
        self.link.launch()
        from hard.motion import Motion  # after the broker's child runs: torch takes a second to import

        sys.setswitchinterval(0.0005)  # else a forward of 0.8 ms waits 11 ms for a busy thread to let go
        settings, broker = self.settings, self.link.broker
        motion = Motion(settings, broker, self.runtime)
        outputs = Outputs(settings, state_dir(settings), broker, motion.labels, self.runtime)
        outputs.wire()
        motion.wire()
        self.link.connect()
        self._forget_synthetic(simulate, outputs)
        outputs.start()
        motion.start(outputs.sinks)
        self.link.wait()
        if simulate:
            self._simulate(simulate)
        self.model = motion.model.card.name

    def check(self) -> None:
        """What the main thread does about every second."""
        self.link.check()

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
