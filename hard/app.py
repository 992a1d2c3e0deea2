"""Composition root: builds, starts, watches and stops everything; the one file that knows everyone."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

from rich.console import Console, RenderableType
from rich.live import Live

from hard import __version__
from hard import log as logs
from hard.address import BrokerUrl, address
from hard.broker import Broker
from hard.config import Settings
from hard.embedded import EmbeddedBroker, password_file
from hard.handoff import Board, Inbox
from hard.phones import Simulator
from hard.registry import SINKS, resolve
from hard.sinks.payload import encode_totals
from hard.sources import build
from hard.stats import Counters
from hard.synthetic import NAME
from hard.table import render
from hard.totals import FILE, Store, Totals
from hard.types import DayTotals, HardError
from hard.welcome import welcome

log = logging.getLogger(__name__)

REFRESH_S = 0.25
REPORT_S = 60.0
ENGINE_STOP_S = 2.0


class Stop:
    """Why and when to end: a signal, the time asked for, or a failure in some thread."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self.failure: str | None = None

    def fail(self, what: str) -> None:
        if self.failure is None:
            self.failure = what
        self.event.set()

    @contextlib.contextmanager
    def on_signals(self) -> Iterator[None]:
        """SIGINT and SIGTERM set the event; an exception that ends a thread is a failure."""

        def handle(_number: int, _frame: FrameType | None) -> None:
            self.event.set()

        def died(args: threading.ExceptHookArgs) -> None:
            name = args.thread.name if args.thread else "a thread"
            log.critical("%s ended by %s", name, args.exc_type.__name__, exc_info=args.exc_value)
            self.fail(f"{name} ended by {args.exc_type.__name__}: {args.exc_value}")

        old = {s: signal.signal(s, handle) for s in (signal.SIGINT, signal.SIGTERM)}
        old_hook, threading.excepthook = threading.excepthook, died
        try:
            yield
        finally:
            threading.excepthook = old_hook
            for s, previous in old.items():
                signal.signal(s, previous)


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
        daemon = _start(settings, simulate, stop, stack)
        gc.collect()
        gc.freeze()  # torch's objects are most of what lives, and need not be looked at again and again
        log.info("ready in %.1f s: %s", time.monotonic() - began_s, daemon.summary)
        kept = password_file(state_dir(settings))
        console.print(welcome(settings, daemon.url, kept), markup=False, highlight=False, soft_wrap=True)
        end_s = None if for_s is None else time.monotonic() + for_s
        if console.is_terminal:
            show(
                console,
                daemon.frame,
                stop,
                end_s,
                daemon.check,
            )
        else:
            _report(daemon, stop, end_s)
        log.info("stopping")
    if stop.failure:
        raise HardError(stop.failure)
    return 0


class Daemon:
    """What the main thread needs to know of a running daemon."""

    def __init__(
        self,
        url: BrokerUrl,
        model: str,
        board: Board,
        counters: Counters,
        broker: Broker,
        embedded: EmbeddedBroker | None,
    ) -> None:
        self.url = url
        self.board = board
        self.counters = counters
        self._broker = broker
        self._embedded = embedded
        kind = "embedded broker" if embedded else "broker"
        self.summary = f"{model}, {kind} {url}" + ("" if broker.connected else " (not connected yet)")
        self.title = f"hard {__version__}   {model}   {kind} {url}   Ctrl-C ends"

    def frame(self) -> RenderableType:
        """The live table now."""
        return render(
            self.title, self.board.labels(), self.counters.drops(), time.time(), self.board.totals()
        )

    def check(self, stop: Stop) -> None:
        """Make the end of a child process a failure."""
        if self._embedded and not self._embedded.alive:
            stop.fail(f"the embedded broker ended: {self._embedded.last_words()}")


def _start(settings: Settings, simulate: int, stop: Stop, stack: contextlib.ExitStack) -> Daemon:
    """Start everything in order; what was started is stopped in reverse by the stack, also after an error."""
    counters = Counters()
    embedded: EmbeddedBroker | None = None
    if settings.broker.url is None:
        embedded = EmbeddedBroker(settings.embedded, state_dir(settings))
        embedded.start()
        stack.callback(embedded.stop)
        url = embedded.url
    else:
        url = address(settings.broker.url, settings.broker, os.environ)
    from hard.engine import Engine  # after the broker's child runs: torch takes a second to import
    from hard.history import History
    from hard.imu import Limits
    from hard.model import load_model
    from hard.recognizer import Recognizer
    from hard.router import Router
    from hard.smoothing import Smoother

    sys.setswitchinterval(0.0005)  # else a forward of 0.8 ms waits 11 ms for a busy thread to let go
    i, e = settings.imu, settings.engine
    model, acc_model = load_model(i.model), load_model(i.acc_model)
    for m in (model, acc_model):
        m.warm_up()
    limits = Limits(i.max_gap_s, i.max_devices, i.evict_after_s)
    recognizer = Recognizer(
        model, acc_model=acc_model, limits=limits, min_rate_hz=i.min_rate_hz, counters=counters
    )
    inbox = Inbox(e.inbox_messages, e.inbox_mb << 20, counters)
    board = Board()
    prefix = settings.output.prefix
    broker = Broker(
        url, counters, keepalive_s=settings.broker.keepalive_s, max_queued=settings.broker.max_queued,
        presence=f"{prefix}/status",
    )  # fmt: skip
    sources, codecs = build(settings.sources, broker, inbox, counters)
    sinks = [
        resolve("sinks", SINKS, "mqtt")(settings.output, broker),
        resolve("sinks", SINKS, "board")(board),
    ]
    totals = _totals_keeper(settings, broker, board, counters)
    sinks.append(totals)
    smoother = Smoother(settings.smoothing)
    history = History(smoother, stale_s=settings.output.stale_s, offline_s=settings.output.offline_s)
    engine = Engine(
        inbox, Router(codecs), recognizer, history, sinks, counters,
        tick_s=e.tick_ms / 1000, max_age_s=e.max_age_s,
    )  # fmt: skip
    if settings.homeassistant.enabled:
        announcer = resolve("sinks", SINKS, "homeassistant")(
            settings.homeassistant,
            settings.output,
            broker,
            list(dict.fromkeys(model.card.labels + acc_model.card.labels)),
        )
        announcer.start()
        sinks.append(announcer)
    for source in sources:
        source.start()
    broker.start()
    stack.callback(broker.stop)
    if simulate and settings.homeassistant.enabled:
        stack.callback(announcer.remove, [NAME.format(n + 1) for n in range(simulate)])
    for n in range(simulate):  # nobody wants retained labels of people who do not exist
        for kind in ("activity", "totals"):
            topic = f"{prefix}/{NAME.format(n + 1)}/{kind}"
            stack.callback(broker.publish, topic, b"", retain=True)
    _thread("totals", totals.run, stack)
    _thread("engine", engine.run, stack, inbox.wake)
    for source in sources:
        stack.callback(source.stop)
    while not (broker.wait_ready(0.05) or stop.event.is_set() or (not embedded and _give_up(broker))):
        pass
    if simulate:
        phones = Broker(url, Counters())
        phones.start()
        stack.callback(phones.stop)
        phones.wait_ready(5.0)
        _thread("simulator", Simulator(phones, prefix, simulate).run, stack)
    return Daemon(url, model.card.name, board, counters, broker, embedded)


def _totals_keeper(settings: Settings, broker: Broker, board: Board, counters: Counters) -> Totals:
    o = settings.output

    def publish(totals: DayTotals) -> bool:
        topic = f"{o.prefix}/{totals.device}/totals"
        return broker.publish(topic, encode_totals(totals), o.qos, retain=True)

    return Totals(
        Store(state_dir(settings) / FILE), publish, board.put_totals, counters,
        keep_days=settings.totals.keep_days, longest_s=settings.smoothing.restart_s,
    )  # fmt: skip


def _give_up(broker: Broker, patience_s: float = 2.0) -> bool:
    """Whether to go on without a broker that is absent: it is tried in the background for ever."""
    return not broker.wait_ready(patience_s)


def _thread(
    name: str,
    target: Callable[[threading.Event], None],
    stack: contextlib.ExitStack,
    wake: Callable[[], None] = lambda: None,
) -> None:
    ended = threading.Event()
    thread = threading.Thread(target=target, args=(ended,), name=name, daemon=True)

    def end() -> None:
        ended.set()
        wake()
        thread.join(ENGINE_STOP_S)

    thread.start()
    stack.callback(end)


def show(
    console: Console,
    frame: Callable[[], RenderableType],
    stop: Stop,
    end_s: float | None,
    check: Callable[[Stop], None] = lambda _: None,
) -> None:
    """Redraw the live table until the end; `end_s` in monotonic seconds."""
    with Live(frame(), console=console, auto_refresh=False) as live:
        while not stop.event.wait(_nap(end_s, REFRESH_S)) and not _over(end_s):
            check(stop)
            live.update(frame(), refresh=True)
        live.update(frame(), refresh=True)


def _report(daemon: Daemon, stop: Stop, end_s: float | None) -> None:
    """Without a terminal: changes of activity are logged as they come, totals every minute."""
    report_s = time.monotonic() + REPORT_S
    while not stop.event.wait(_nap(end_s, 1.0)) and not _over(end_s):
        daemon.check(stop)
        if time.monotonic() >= report_s:
            report_s += REPORT_S
            _report_totals(daemon)
    _report_totals(daemon)


def _report_totals(daemon: Daemon) -> None:
    totals = daemon.counters.snapshot()
    log.info(
        "%d devices; %s",
        len(daemon.board.labels()),
        ", ".join(f"{k} {n}" for k, n in totals.items()) or "idle",
    )


def _nap(end_s: float | None, most_s: float) -> float:
    return most_s if end_s is None else max(0.0, min(most_s, end_s - time.monotonic()))


def _over(end_s: float | None) -> bool:
    return end_s is not None and time.monotonic() >= end_s


def state_dir(settings: Settings) -> Path:
    """Where state is kept: the setting, systemd's StateDirectory, or the user's."""
    if settings.state_dir:
        return Path(settings.state_dir).expanduser()
    if "STATE_DIRECTORY" in os.environ:
        return Path(os.environ["STATE_DIRECTORY"].split(":")[0])
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "hard"
