"""`hard watch`: a subscriber that shows every device's label, from any broker."""

from __future__ import annotations

import logging
import time

from rich.console import Console, RenderableType

from hard import log as logs
from hard.broker import Broker
from hard.console import over, show
from hard.handoff import Board
from hard.mqtt.address import BrokerUrl
from hard.runtime import Stop
from hard.sinks.board import BoardSink
from hard.sinks.payload import decode, decode_totals
from hard.stats import Counters, Drop
from hard.table import render
from hard.types import HardError

log = logging.getLogger(__name__)


class Watcher:
    """Activity messages -> Board. Runs in the broker connection's thread."""

    def __init__(self, board: Board, counters: Counters, prefix: str) -> None:
        self._board = board
        self._sink = BoardSink(board)
        self._counters = counters
        self._status_topic = f"{prefix}/status"
        self.status = "unknown"

    def take(self, topic: str, payload: bytes) -> None:
        if topic == self._status_topic:
            self.status = payload.decode("utf-8", "replace")[:20]
            log.info("hard is %s", self.status)
        elif payload:  # an empty one clears a retained label
            try:
                if topic.endswith("/totals"):
                    self._board.put_totals(decode_totals(payload))
                else:
                    self._sink.emit([decode(payload)])
            except ValueError as e:
                self._counters.add(Drop.BAD_PAYLOAD)
                log.debug("%s: %s", topic, e)


def watch(url: BrokerUrl, prefix: str, for_s: float | None = None) -> int:
    """Show labels until a signal or `for_s` seconds; a broker that is absent is waited for.

    HardError where there is none at the end of `for_s`.
    """
    console = Console()
    if console.is_terminal:
        logs.setup("warning", console=console)
    else:
        logs.setup("info")
    board, counters, stop = Board(), Counters(), Stop()
    watcher = Watcher(board, counters, prefix)
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
            if over(end_s) and broker.trouble:
                raise HardError(f"{url}: {broker.trouble}")
        finally:
            broker.stop()
    return 0
