"""Phones over MQTT: every message on the configured topic filters goes into the inbox as it is."""

from __future__ import annotations

import time

from hard.broker import Broker
from hard.handoff import Inbox
from hard.settings import MqttSourceSettings, SourcesSettings
from hard.stats import Counters, Drop
from hard.types import Message


class MqttSource:
    """Runs in the broker connection's thread, which has better things to do: no message is looked into."""

    def __init__(
        self, settings: MqttSourceSettings, broker: Broker, inbox: Inbox, counters: Counters
    ) -> None:
        self._settings = settings
        self._broker = broker
        self._inbox = inbox
        self._counters = counters
        self._stopped = False

    def start(self) -> None:
        """Subscribe, on every connect and at once where there is a connection."""
        self._broker.listen_many(_filters(self._settings), self._take)

    def change(self, settings: SourcesSettings) -> None:
        """Listen to other topics from now on."""
        self._broker.relisten(_filters(self._settings), _filters(settings.mqtt))
        self._settings = settings.mqtt

    def stop(self) -> None:
        self._stopped = True  # for what is on its way
        self._broker.relisten(_filters(self._settings), {})

    def _take(self, messages: list[tuple[str, bytes]]) -> None:
        if self._stopped:
            return
        now_s, limit = time.monotonic(), self._settings.max_payload_bytes
        taken = [Message(topic, payload, now_s) for topic, payload in messages if len(payload) <= limit]
        if len(taken) < len(messages):
            self._counters.add(Drop.PAYLOAD_TOO_LARGE, len(messages) - len(taken))
        self._inbox.put_many(taken)
        # with a higher QoS the broker sends no more before some 20 messages have been acknowledged
        self._broker.rest(self._inbox.gather_s if self._settings.qos == 0 else 0.0)


def _filters(settings: MqttSourceSettings) -> dict[str, int]:
    return {topic.filter: settings.qos for topic in settings.topics}
