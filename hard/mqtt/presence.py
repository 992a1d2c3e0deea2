"""Whether we are there, on a retained topic: `online`, `stopped` (ended cleanly) or `offline` (last will)."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

from hard.mqtt.client import Client

log = logging.getLogger(__name__)

ONLINE: Final = b"online"
STOPPED: Final = b"stopped"
OFFLINE: Final = b"offline"
RUMOUR_S: Final = 2.0  # a broker that ends publishes our last will, to us too, and then is gone


class Presence:
    """What others say of us is put right. Owner: the connection's thread.

    QoS 0: it passes what waits for acknowledgements, and is lost with a connection only, after which it is
    said anew.
    """

    def __init__(self, topic: str, client: Client, say: Callable[[str, bytes], object], broker: str) -> None:
        """`say` publishes, retained; `broker` names it, for the log."""
        self.topic = topic
        self._client = client
        self._say = say
        self._broker = broker
        self._there = False
        self._rumour: tuple[float, str] | None = None  # when (monotonic) and how we were denied
        client.will_set(topic, OFFLINE, qos=1, retain=True)

    def begin(self) -> None:
        """On a connection on which we listen by now: whoever waited for us is heard."""
        self._there = True
        self._say(self.topic, ONLINE)
        self._client.subscribe(self.topic, 1)

    def lost(self) -> None:
        """The connection ended."""
        self._there = False
        self._rumour = None

    def end(self) -> None:
        """We leave. Any thread."""
        self._there = False
        self._say(self.topic, STOPPED)

    def heard(self, topic: str, payload: bytes) -> None:
        """Another daemon of the same prefix went, or the broker tells late of our own last connection."""
        if payload != ONLINE and self._there:
            said = payload.decode("utf-8", "replace")[:20]
            self._rumour = self._rumour or (time.monotonic(), said)
            self._say(topic, ONLINE)

    def turn(self) -> None:
        """To be called about every second: a rumour that no lost connection explains is another daemon."""
        if self._rumour is None or time.monotonic() - self._rumour[0] < RUMOUR_S:
            return
        log.warning(
            "%s: %s was %r, which is wrong while this daemon runs, and is `online` again; "
            "daemons that run side by side each want their own output.prefix",
            *(self._broker, self.topic, self._rumour[1]),
        )
        self._rumour = None
