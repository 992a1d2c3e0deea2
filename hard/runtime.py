"""What the parts of a process share: when to end, counters, the board, threads, and the stages to watch."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
from collections.abc import Callable, Collection, Iterator
from types import FrameType
from typing import Final

import msgspec

from hard.handoff import Board
from hard.stats import Counters

log = logging.getLogger(__name__)

THREAD_STOP_S: Final = 2.0


class Stop:
    """Why and when to end: a signal, the time asked for, or a failure in some thread."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self.hung_up = threading.Event()  # SIGHUP: read the configuration again
        self.failure: str | None = None

    def fail(self, what: str) -> None:
        if self.failure is None:
            self.failure = what
        self.event.set()

    @contextlib.contextmanager
    def on_hangup(self) -> Iterator[None]:
        """SIGHUP sets `hung_up`; where it says that our terminal is gone, `event`."""
        had_terminal = os.isatty(0)

        def handle(_number: int, _frame: FrameType | None) -> None:
            (self.event if had_terminal and not os.isatty(0) else self.hung_up).set()

        old = signal.signal(signal.SIGHUP, handle)
        try:
            yield
        finally:
            signal.signal(signal.SIGHUP, old)

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


class Stage(msgspec.Struct, frozen=True):
    """A thread that is to make progress, also where there is nothing to do: a silent phone is no fault."""

    name: str
    progress: Callable[[], int]  # a count that goes on as long as the thread is not stuck
    may_wait_s: float = 0.0  # for others' machines, in one turn; a fault is to stand still stuck_s longer


class Runtime:
    """Passed to every part of the daemon. What was started last ends first. Owner: the main thread."""

    def __init__(self, stop: Stop, stack: contextlib.ExitStack) -> None:
        self.stop = stop
        self.counters = Counters()
        self.board = Board()
        self.stages: dict[str, list[Stage]] = {}  # by group; see `watch_group`
        self.problems: dict[str, Callable[[], str | None]] = {}  # by part; None: all is well there
        self.named_sources: dict[str, Callable[[], Collection[str]]] = {}  # by part: ports, cameras
        self.models_of: dict[str, Callable[[], list[str]]] = {}  # by part
        self.at_end = stack.callback

    def source_of(self, device: str) -> str:
        """The source that a device belongs to, one of few: itself, or `mqtt` for every phone."""
        return device if any(device in named() for named in self.named_sources.values()) else "mqtt"

    def modality_of(self, device: str) -> str:
        """What a device's labels come from: `video` of a camera, `imu` of anything else."""
        cameras = self.named_sources.get("sight")
        return "video" if cameras is not None and device in cameras() else "imu"

    def models(self) -> list[str]:
        """The names of all models in use."""
        return [name for models in self.models_of.values() for name in models()]

    def watch(self, name: str, progress: Callable[[], int], may_wait_s: float = 0.0) -> None:
        """Have a stage's progress watched; see Stage."""
        self.watch_group(name, [Stage(name, progress, may_wait_s)])

    def watch_group(self, group: str, stages: list[Stage]) -> None:
        """Have these stages watched, instead of those that the group had."""
        self.stages = {**self.stages, group: stages}  # a new one: others may be going through the old

    def thread(
        self,
        name: str,
        target: Callable[[threading.Event], None],
        wake: Callable[[], None] = lambda: None,
    ) -> None:
        """Start a thread; at the end its event is set and `wake` called, and it has 2 s to return."""
        ended = threading.Event()
        thread = threading.Thread(target=target, args=(ended,), name=name, daemon=True)

        def end() -> None:
            ended.set()
            wake()
            thread.join(THREAD_STOP_S)

        thread.start()
        self.at_end(end)
