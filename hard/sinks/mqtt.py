"""Labels as retained JSON on <prefix>/<device>/activity, events on <prefix>/<device>/event."""

from __future__ import annotations

from hard.broker import Broker
from hard.settings import OutputSettings
from hard.sinks.payload import encode, encode_event
from hard.types import Event, Label


class MqttSink:
    def __init__(self, settings: OutputSettings, broker: Broker) -> None:
        self._settings = settings
        self._broker = broker

    def emit(self, labels: list[Label]) -> None:
        s = self._settings
        messages = [(f"{s.prefix}/{label.prediction.device}/activity", encode(label)) for label in labels]
        self._broker.publish_many(messages, s.qos, s.retain)

    def announce(self, events: list[Event]) -> None:
        """Never retained: whoever subscribes later has missed the moment."""
        s = self._settings
        messages = [(f"{s.prefix}/{event.device}/event", encode_event(event)) for event in events]
        self._broker.publish_many(messages, s.event_qos)

    def forget(self, devices: list[str]) -> None:
        """Retained labels stay: they say when they were true."""
