"""The daemon's broker: a child process of ours where none is configured, and the connection to it."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from hard.broker import Broker
from hard.embedded import EmbeddedBroker
from hard.mqtt.address import BrokerUrl, address
from hard.runtime import Runtime
from hard.settings import Settings
from hard.types import HardError

PATIENCE_S: Final = 2.0
TURN_S: Final = 30.0  # of paho's thread: 5 s of back-off, and name servers and brokers that do not answer


class Link:
    """Where the broker is, and the connection. Owner: the main thread."""

    def __init__(self, settings: Settings, state: Path, runtime: Runtime) -> None:
        """HardError where the settings name no broker that could be connected to."""
        self._runtime = runtime
        self._embedded: EmbeddedBroker | None = None
        b = settings.broker
        if b.url is None:
            self._embedded = EmbeddedBroker(settings.embedded, state)
        self.url: BrokerUrl = self._embedded.url if self._embedded else address(b.url or "", b, os.environ)
        self.broker = Broker(
            self.url, runtime.counters, keepalive_s=b.keepalive_s, max_queued=b.max_queued,
            presence=f"{settings.output.prefix}/status",
        )  # fmt: skip

    @property
    def kind(self) -> str:
        return "embedded broker" if self._embedded else "broker"

    def trouble(self) -> str | None:
        """Why labels do not reach anybody, for the health report."""
        if self.broker.wait_ready(0):
            return None
        return f"no broker at {self.url}: {self.broker.trouble or 'connecting'}"

    def launch(self) -> None:
        """Start the embedded broker, where it is ours to start."""
        if self._embedded:
            self._runtime.at_end(self._embedded.stop)
            self._embedded.start()

    def connect(self) -> None:
        """Connect in the background; everybody who listens has registered by now."""
        self.broker.start()
        self._runtime.at_end(self.broker.stop)
        self._runtime.watch("broker", lambda: self.broker.turns, TURN_S)
        self._runtime.problems["broker"] = self.trouble

    def wait(self, turn: Callable[[], None]) -> None:
        """Until subscribed, or the end, calling `turn`; one that is not ours is not waited for long."""
        end_s = math.inf if self._embedded else time.monotonic() + PATIENCE_S
        while not (self.broker.wait_ready(0.05) or self._runtime.stop.event.is_set()):
            turn()
            self.check()
            if time.monotonic() > end_s:
                return

    def check(self) -> None:
        """Have the embedded broker started again where it ended; a failure where that is of no use."""
        if self._embedded and not self._runtime.stop.event.is_set():
            try:
                self._embedded.check(time.monotonic(), self.broker.losses)
            except HardError as e:
                self._runtime.stop.fail(str(e))
