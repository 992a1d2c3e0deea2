"""The hot loop: drain -> decode -> push -> prepare -> predict -> emit."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from hard.align import Aligner
from hard.codecs import PayloadError, good_name
from hard.handoff import Inbox
from hard.history import History
from hard.log import Sampled
from hard.recognizer import Recognizer
from hard.router import Router
from hard.sinks import Sink
from hard.stats import Counters, Drop
from hard.types import Chunk, Event, Label, Message, Readings

log = logging.getLogger(__name__)

EVICT_EVERY_S = 5.0
LISTEN_EVERY_S = 1.0  # for silence, and for samples that make no window
ALIGNER_KEEPS_S = 60.0  # readings older than this are of no use any more
IDLE_S = 1.0
FLEET = 16  # devices: from here on sources gather messages, since a batch of windows costs less each
FLEET_TICKS = 2.2  # at most; with 5, 100 phones cost half, and labels leave within 120 ms instead of 60
FLEET_BATCH = 120  # windows; of larger ones each costs about as much: 8,000 phones need no longer gathering
MAX_NAMES = 100_000


def emit(sinks: Sequence[Sink], counters: Counters, labels: list[Label], events: list[Event]) -> None:
    """Hand labels, and what began and ended with them, to every sink; counted."""
    counters.add("labels", len(labels))
    counters.add("events", len(events))
    for sink in sinks:
        if events:
            sink.announce(events)
        if labels:
            sink.emit(labels)


def end(history: History, sinks: Sequence[Sink], counters: Counters) -> None:
    """Tell that every activity ends here, since nobody will see how it goes on."""
    events: list[Event] = []
    history.end(events)
    emit(sinks, counters, [], events)


class Engine:
    """Owns the recognizer, the codecs' state and the labels' history; runs in one thread."""

    def __init__(
        self,
        inbox: Inbox,
        router: Router,
        recognizer: Recognizer,
        history: History,
        sinks: Sequence[Sink],
        counters: Counters,
        *,
        tick_s: float = 0.02,
        max_age_s: float = 5.0,
        refresh: Callable[[], None] = lambda: None,
    ) -> None:
        """`refresh` is called about once a second, between ticks."""
        self._inbox = inbox
        self.router = router  # exchanged in a `call` only
        self._recognizer = recognizer
        self._history = history
        self._sinks = sinks
        self._counters = counters
        self._tick_s = tick_s
        self._max_age_s = max_age_s
        self._refresh = refresh
        self._aligner = Aligner(counters)
        self._complaints = Sampled(log)
        self._names: set[str] = set()  # found good before
        self._jobs: deque[Callable[[], None]] = deque()
        self.ticks = 0  # progress, for whoever watches

    def call(self, job: Callable[[], None], timeout_s: float) -> bool:
        """Have a job done between two ticks, by the engine's thread; False where it was too busy, and never
        will do it.
        """
        begun, done = threading.Lock(), threading.Event()

        def do() -> None:
            if begun.acquire(blocking=False):
                job()
                done.set()

        self._jobs.append(do)
        self._inbox.wake()
        return done.wait(timeout_s) or not begun.acquire(blocking=False)

    def run(self, stop: threading.Event) -> None:
        """Tick until `stop` is set and the inbox is empty; then every activity ends.

        Ticks are at least `tick_s` apart under load. For a fleet, sources gather messages for longer
        (`Inbox.gather_s`), where they come from and not here: what is read at once costs less to read.
        """
        evict_s = listen_s = next_s = 0.0
        while True:
            stopping = stop.is_set()
            if not stopping and self._inbox.wait(IDLE_S):
                stop.wait(max(0.0, next_s - time.monotonic()))  # now: what comes paced wakes us once a tick
            messages = self._inbox.drain()
            started_s = time.monotonic()
            while self._jobs:
                self._jobs.popleft()()
            if messages:
                next_s = started_s + self._tick_s
                self.tick(messages, started_s)
            elif stopping:
                end(self._history, self._sinks, self._counters)
                return
            if started_s - evict_s > EVICT_EVERY_S:
                evict_s = started_s
                self.evict(started_s)
            if started_s - listen_s > LISTEN_EVERY_S:
                listen_s = started_s
                self._refresh()
                self.listen(started_s)
            self.ticks += 1
            self._inbox.gather_s = self._gather_s()

    def _gather_s(self) -> float:
        """How long sources are to gather messages."""
        devices, w = self._recognizer.devices, self._recognizer.model.card.windowing
        if devices < FLEET:
            return 0.0
        batch_s = FLEET_BATCH * w.hop / w.rate_hz / devices
        return min(max(batch_s, self._tick_s), FLEET_TICKS * self._tick_s)

    def tick(self, messages: Iterable[Message], now_s: float) -> None:
        """Take messages, recognise every window that is due, and hand the labels to the sinks."""
        taken = samples = 0
        chunks: list[Chunk] = []
        with np.errstate(over="ignore", invalid="ignore"):  # absurd numbers; they are dropped as such
            for message in messages:
                taken += 1
                samples += self._take(message, chunks)
            self._recognizer.feed(chunks)
        self._counters.add("messages", taken)
        self._counters.add("samples", samples)
        predictions = self._recognizer.step(now_s - self._max_age_s)
        if not predictions:
            return
        utc_s, labelled_s = time.time(), time.monotonic()
        events: list[Event] = []
        labels = [self._history.label(p, utc_s, labelled_s, events) for p in predictions]
        emit(self._sinks, self._counters, labels, events)

    def listen(self, now_s: float) -> None:
        """Tell of the devices that have fallen silent, and of those whose samples make no window."""
        events: list[Event] = []
        utc_s = time.time()
        windowless = self._recognizer.windowless(now_s)
        labels = [self._history.label(p, utc_s, now_s, events) for p in windowless]
        labels += self._history.silent(now_s, events)
        emit(self._sinks, self._counters, labels, events)

    def evict(self, now_s: float) -> None:
        self._aligner.evict(now_s - ALIGNER_KEEPS_S)
        gone = self._recognizer.evict(now_s)
        known = set(gone)
        # and those whose windows began anew and never came: the recognizer no longer knows of them
        silent = self._history.without_windows(now_s - self._recognizer.evict_after_s)
        gone += [device for device in silent if device not in known]
        if gone:
            self._history.forget(gone)
            for sink in self._sinks:
                sink.forget(gone)
            log.info("forgot %d silent device(s): %s", len(gone), ", ".join(gone[:5]))

    def _take(self, message: Message, chunks: list[Chunk]) -> int:
        """Append what is in a message to `chunks`; returns how many samples that was."""
        codec = self.router.codec(message.topic)
        if codec is None:
            self._counters.add(Drop.BAD_DEVICE)
            return 0
        try:
            decoded = codec.decode(message)
        except PayloadError as e:
            self._counters.add(Drop.BAD_PAYLOAD)
            self._complaints.warning(message.topic, f"bad payload on {message.topic!r}: {e}")
            return 0
        samples = 0
        readings: list[Readings] = []
        for item in decoded:
            if item.device not in self._names and not self._new_name(item.device):
                self._counters.add(Drop.BAD_DEVICE)
                self._complaints.warning("name", f"bad device name in topic {message.topic!r}")
                continue
            samples += len(item.t)
            if isinstance(item, Readings):
                readings.append(item)
            else:
                chunks.append(item)
        if readings:
            chunks += self._aligner.push_together(readings)
        return samples

    def _new_name(self, device: str) -> bool:
        """Whether a name not seen before is good; the good ones are remembered."""
        if not good_name(device):
            return False
        if len(self._names) >= MAX_NAMES:
            self._names.clear()
        self._names.add(device)
        return True
