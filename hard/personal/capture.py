"""One device's samples, live from a broker, through the daemon's own topics, codecs and alignment."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Final

import msgspec
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

from hard.align import Aligner
from hard.broker import Broker
from hard.codecs import PayloadError, good_name
from hard.handoff import Inbox
from hard.mqtt.address import BrokerUrl
from hard.recordings import Recording
from hard.registry import make_codec
from hard.router import Router
from hard.runtime import Stop
from hard.settings import Settings
from hard.sources.mqtt import MqttSource
from hard.stats import Counters
from hard.types import F32, F64, Chunk, HardError, Readings

CONNECT_S: Final = 5.0
BACK_S: Final = 1.0  # a message may come late by this
JUMP_S: Final = 10.0  # a step of a device's clock beyond this is no pause: somebody set it


class Capture:
    """A subscriber beside the daemon that keeps what one device sends; a context manager.

    Owner: one thread. Boards on a serial port do not come by the broker.
    """

    def __init__(self, settings: Settings, url: BrokerUrl, device: str) -> None:
        if not good_name(device):
            raise HardError(f"device name {device!r}: expected 1-64 printable characters without + # / $")
        self.device = device
        self._others: set[str] = set()  # devices heard beside it
        counters = Counters()
        mqtt, engine = settings.sources.mqtt, settings.engine
        self._broker = Broker(url, counters)
        self._inbox = Inbox(engine.inbox_messages, engine.inbox_mb << 20, counters)
        self._source = MqttSource(mqtt, self._broker, self._inbox, counters)
        self._router = Router([(t.filter, make_codec(t.codec, t, counters)) for t in mqtt.topics])
        self._aligner = Aligner(counters)
        self._chunks: list[Chunk] = []
        self.restarts = 0  # of what is kept, since the device's clock jumped
        self._heard_s = time.monotonic()  # when it last sent anything

    def __enter__(self) -> Capture:
        self._source.start()
        self._broker.start()
        if not self._broker.wait_ready(CONNECT_S):
            self._broker.stop()
            why = (
                self._broker.refusal
                or "no broker answers; start one with `hard run`, or name one with --broker"
            )
            raise HardError(f"{self._broker.url}: {why}")
        self._heard_s = time.monotonic()
        return self

    def __exit__(
        self, _t: type[BaseException] | None, _e: BaseException | None, _b: TracebackType | None
    ) -> None:
        self._source.stop()
        self._broker.stop()

    def take(self, timeout_s: float) -> None:
        """Keep what has come, waiting for it up to this time."""
        for message in self._inbox.drain(timeout_s):
            codec = self._router.codec(message.topic)
            try:
                items = codec.decode(message) if codec else ()
            except PayloadError:
                continue  # `hard check --listen` tells what is wrong with it
            for item in items:
                if item.device != self.device:
                    if len(self._others) < 1000:
                        self._others.add(item.device)
                    continue
                self._heard_s = message.arrival_s
                for chunk in self._aligner.push(item) if isinstance(item, Readings) else (item,):
                    self._keep(chunk)

    def _keep(self, chunk: Chunk) -> None:
        """What is kept is of one clock: where it jumps, that begins anew."""
        finite = np.isfinite(chunk.t)
        t, samples = chunk.t[finite], chunk.samples[finite]
        if not len(t):
            return
        steps = np.diff(t, prepend=self._chunks[-1].t[-1] if self._chunks else t[0])
        jumps = np.flatnonzero((steps < -BACK_S) | (steps > JUMP_S))
        if len(jumps) and self._came(t, samples):
            return  # delivered once more
        if len(jumps):
            self._chunks.clear()
            self.restarts += 1
            t, samples = t[jumps[-1] :], samples[jumps[-1] :]
        self._chunks.append(msgspec.structs.replace(chunk, t=t, samples=samples))

    def _came(self, t: F64, samples: F32) -> bool:
        """Whether all these are kept already."""
        if not self._chunks:
            return False
        kept_t, kept = (np.concatenate([getattr(c, name) for c in self._chunks]) for name in ("t", "samples"))
        _, mine, theirs = np.intersect1d(t, kept_t, return_indices=True)
        return len(mine) == len(t) and np.array_equal(samples[mine], kept[theirs], equal_nan=True)

    def countdown(self, bar: Progress, stop: Stop, after_s: float, patience_s: float) -> None:
        """Wait for the first sample, then for `after_s` seconds; what came until then is forgotten."""
        task = bar.add_task(f"waiting for {self.device}", total=None)
        while not self._chunks and not stop.event.is_set():
            self.take(0.1)
            self.check(patience_s)
        bar.remove_task(task)
        task = bar.add_task("get ready", total=after_s, visible=after_s > 0)
        began_s = time.monotonic()
        while (passed_s := time.monotonic() - began_s) < after_s and not stop.event.is_set():
            self.take(0.1)
            bar.update(task, completed=passed_s)
        bar.remove_task(task)
        if after_s:
            self._chunks.clear()

    def check(self, patience_s: float) -> None:
        """HardError where the device has sent nothing for this long."""
        if time.monotonic() - self._heard_s < patience_s:
            return
        others = ", ".join(sorted(self._others)[:8])
        beside = (
            f"heard: {others}" if others else "nor from any other: does the app send? (hard check --listen)"
        )
        raise HardError(f"nothing comes from {self.device!r} for {patience_s:g} s; {beside}")

    def recording(self) -> Recording:
        """What was kept, by the device's clock, each time once; (n, 3) where no gyroscope was heard.

        Where one was, what came without is left out.
        """
        if not self._chunks:
            return Recording(self.device, np.empty(0), np.empty((0, 6), np.float32))
        gyro = any(c.gyro for c in self._chunks)
        chunks = [c for c in self._chunks if c.gyro == gyro]
        t = np.concatenate([c.t for c in chunks])
        samples = np.concatenate([c.samples for c in chunks])
        good = np.isfinite(samples).all(axis=1)
        t, first = np.unique(t[good], return_index=True)
        return Recording(self.device, t, samples[good][first, : 6 if gyro else 3])


class Seconds(ProgressColumn):
    """Seconds that have come, of those wanted where that is known."""

    def render(self, task: Task) -> Text:
        return Text("" if task.total is None else f"{task.completed:.0f} of {task.total:g} s")


def progress_bar(console: Console) -> Progress:
    """How much of the seconds wanted has come."""
    return Progress(TextColumn("{task.description}"), BarColumn(), Seconds(), console=console)
