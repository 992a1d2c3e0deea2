"""The topic filters that a connection listens to, and which of them the broker has answered for."""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from paho.mqtt.reasoncodes import ReasonCode

from hard.mqtt.client import Client
from hard.mqtt.topics import is_filter

log = logging.getLogger(__name__)

LEAVING: Final[Collection[str]] = ()  # what an UNSUBSCRIBE asks for


class Subscriptions:
    """Renewed on every connection. Any thread may change them; paho's thread brings the answers."""

    def __init__(self, client: Client, name: str) -> None:
        """`name` of the broker, for the log."""
        self._client = client
        self._name = name
        self._filters: dict[str, int] = {}
        self._answered = threading.Condition()  # guards the next two
        self._asked: dict[int, Collection[str]] = {}  # what is not yet answered, by its id
        self.denied: list[str] = []  # filters that the broker refused on this connection

    def add(self, topic_filter: str, qos: int) -> None:
        """One that the next connection begins with."""
        self._filters[topic_filter] = qos

    def change(self, old: Collection[str], filters: Mapping[str, int]) -> None:
        """Filters (with their QoS) instead of `old`, now and on every connect; what stays is not touched.

        ValueError, and nothing has changed, for one that is none: on a connect it would end paho's thread.
        """
        wrong = [f for f in filters if not is_filter(f)]
        if wrong:
            raise ValueError(f"{wrong[0]!r} is no topic filter")
        kept = {f: qos for f, qos in self._filters.items() if f not in old or filters.get(f) == qos}
        gone = [f for f in old if f not in filters]
        new = {f: qos for f, qos in filters.items() if f not in kept}
        self._filters = kept | new
        if self._client.is_connected():
            self._ask(new)
            if gone:
                with self._answered:
                    _, mid = self._client.unsubscribe(gone)
                    if mid is not None:
                        self._asked[mid] = LEAVING

    def renew(self) -> bool:
        """On a new connection ask for all; whether there is nothing to wait for."""
        with self._answered:
            self._asked.clear()
            self.denied = []
        self._ask(self._filters)
        return not self._filters

    def answered(self, mid: int, reasons: Sequence[ReasonCode]) -> bool:
        """Take note of a SUBACK or UNSUBACK; whether it was the last one that was missing."""
        with self._answered:
            for name, reason in zip(self._asked.pop(mid, ()), reasons, strict=False):
                if reason.is_failure:
                    self.denied.append(name)
                    log.error("%s refused the subscription to %s: %s", self._name, name, reason)
            if not self._asked:
                self._answered.notify_all()
            return not self._asked

    def lost(self) -> None:
        """The connection ended, and with it what was asked."""
        with self._answered:
            self._asked.clear()
            self._answered.notify_all()

    def wait(self, timeout_s: float) -> bool:
        """Whether the broker has answered everything by this time, or there is no connection."""
        with self._answered:
            return self._answered.wait_for(lambda: not self._asked, timeout_s)

    def _ask(self, filters: Mapping[str, int]) -> None:
        if filters:
            with self._answered:  # the answer waits until it is known what it answers
                _, mid = self._client.subscribe(list(filters.items()))
                if mid is not None:
                    self._asked[mid] = list(filters)
