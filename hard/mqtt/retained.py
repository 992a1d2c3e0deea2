"""The newest retained payload of each topic, for a broker that returns without its memory."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable


class Retained:
    """Newest payload, QoS by topic; beyond `max_topics` the topic that has been silent longest is let go.

    Any thread may `put` and `owe`; `renew` and `pump` are for one thread, the connection's.
    """

    def __init__(self, max_topics: int = 65_536) -> None:
        self._max_topics = max_topics
        self._newest: OrderedDict[str, tuple[bytes, int]] = OrderedDict()
        self._lock = threading.Lock()
        self._due: OrderedDict[str, None] = OrderedDict()

    def put(self, messages: Iterable[tuple[str, bytes]], qos: int) -> None:
        """Topics with their payloads; to be called before these are published: see `pump`."""
        with self._lock:
            for topic, payload in messages:
                self._newest[topic] = (payload, qos)
                self._newest.move_to_end(topic)
            while len(self._newest) > self._max_topics:
                self._newest.popitem(last=False)

    def cleared(self, topic: str) -> None:
        """The empty payload that clears a topic went out: nothing is left to renew."""
        with self._lock:
            if self._newest.get(topic, (b"?", 0))[0] == b"":
                del self._newest[topic]

    def owe(self, topics: Iterable[str]) -> None:
        """The newest payloads of these topics could not be published when they came; they are due."""
        with self._lock:
            self._due.update(dict.fromkeys(topics))

    def renew(self) -> None:
        """Every topic is due again."""
        with self._lock:
            self._due = OrderedDict.fromkeys(self._newest)

    def pump(self, publish: Callable[[str, bytes, int], bool], room: int) -> None:
        """Publish up to `room` topics that are due.

        Another thread may publish a newer payload between our reading and our publishing, and ours would be
        the last; so we look again afterwards. No lock is held while publishing: paho has its own.
        """
        while self._due and room > 0:
            with self._lock:
                topic, _ = self._due.popitem(last=False)
            newest = self._newest.get(topic)
            while newest is not None:
                room -= 1
                if not publish(topic, *newest):
                    return
                if not newest[0]:
                    self.cleared(topic)
                newest, before = self._newest.get(topic), newest
                if newest is before:
                    break
