"""Labels as retained JSON on <prefix>/<device>/activity."""

from __future__ import annotations

from hard.broker import Broker
from hard.config import OutputSettings
from hard.sinks.payload import encode
from hard.types import Label


class MqttSink:
    def __init__(self, settings: OutputSettings, broker: Broker) -> None:
        self._settings = settings
        self._broker = broker

    def emit(self, labels: list[Label]) -> None:
        s = self._settings
        for label in labels:
            topic = f"{s.prefix}/{label.prediction.device}/activity"
            self._broker.publish(topic, encode(label), s.qos, s.retain)

    def forget(self, devices: list[str]) -> None:
        """Retained labels stay: they say when they were true."""
