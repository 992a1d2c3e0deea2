"""`hard watch`: a subscriber that shows every device's label, from any broker."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from rich.console import Console, RenderableType

from hard import log as logs
from hard.broker import Broker
from hard.console import over, show
from hard.handoff import Board
from hard.mqtt.address import BrokerUrl
from hard.runtime import Stop
from hard.sinks.board import Changes, line
from hard.sinks.payload import decode, decode_totals
from hard.stats import Counters, Drop
from hard.table import render
from hard.types import HardError, Label

log = logging.getLogger(__name__)


class Watcher:
    """Activity messages -> Board. Runs in the broker connection's thread."""

    def __init__(
        self, board: Board, counters: Counters, prefix: str, say: Callable[[Label], None] | None = None
    ) -> None:
        """`say` gets the labels that say something new of their device."""
        self._board = board
        self._say = say
        self._changes = Changes()
        self._counters = counters
        self._prefix = f"{prefix}/"
        self._status_topic = f"{prefix}/status"
        self.status = "unknown"

    def take(self, topic: str, payload: bytes) -> None:
        if topic == self._status_topic:
            self.status = payload.decode("utf-8", "replace")[:20]
            log.info("hard is %s", self.status)
        elif payload:
            try:
                if topic.endswith("/totals"):
                    self._board.put_totals(decode_totals(payload))
                else:
                    self._take(decode(payload))
            except ValueError as e:
                self._counters.add(Drop.BAD_PAYLOAD)
                log.debug("%s: %s", topic, e)
        elif topic.endswith("/activity"):  # a retained label is taken back: that device is no more
            device = topic.removeprefix(self._prefix).removesuffix("/activity")
            self._board.forget([device])
            self._changes.forget(device)

    def _take(self, label: Label) -> None:
        self._board.put([label])
        if self._say is not None and self._changes.new(label):
            self._say(label)


def watch(url: BrokerUrl, prefix: str, for_s: float | None = None) -> int:
    """Show labels until a signal or `for_s` seconds; a broker that is absent is waited for.

    A table on a terminal, else a line on stdout for every change. HardError where there is no broker at the
    end of `for_s`.
    """
    console = Console()
    if console.is_terminal:
        logs.setup("warning", console=console)
    else:
        logs.setup("info")
    board, counters, stop = Board(), Counters(), Stop()
    say = None if console.is_terminal else lambda label: _print(label, stop)
    watcher = Watcher(board, counters, prefix, say)
    broker = Broker(url, counters)
    broker.listen({f"{prefix}/+/activity": 0, f"{prefix}/+/totals": 0, f"{prefix}/status": 0}, watcher.take)
    end_s = None if for_s is None else time.monotonic() + for_s
    with stop.on_signals():
        broker.start()
        try:
            if console.is_terminal:

                def frame() -> RenderableType:
                    status = watcher.status if broker.connected else "out of reach"
                    title = f"{url}   hard is {status}   Ctrl-C ends"
                    return render(title, board.labels(), counters.drops(), time.time(), board.totals())

                show(console, frame, stop, end_s)
            else:
                stop.event.wait(for_s)
            if stop.failure:
                raise HardError(stop.failure)
            if over(end_s) and broker.trouble:
                raise HardError(f"{url}: {broker.trouble}")
        finally:
            broker.stop()
    return 0


def _print(label: Label, stop: Stop) -> None:
    """One line, whatever others call their devices; where nobody reads it any more, it is the end."""
    text = f"{time.strftime('%H:%M:%S')} {line(label, time.time())}"
    try:
        print("".join(c if c.isprintable() else "?" for c in text), flush=True)
    except BrokenPipeError:
        stop.event.set()
    except OSError as e:
        stop.fail(f"the output cannot be written: {e.strerror}")
