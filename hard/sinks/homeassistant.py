"""Every device announced to Home Assistant by device-based MQTT discovery, and taken back when it goes."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable, Sequence
from typing import Final

from hard.broker import Broker
from hard.settings import HomeAssistantSettings, OutputSettings
from hard.sinks.discovery import config_payload, config_topic
from hard.types import Event, Label

log = logging.getLogger(__name__)

MAX_DELAY_S: Final = 5.0
"""Home Assistant asks for a random delay after its birth, so that not everybody speaks at once."""

Later = Callable[[float, Callable[[], None]], None]


class HomeAssistantSink:
    """Announces a device when its first label appears, and all of them when Home Assistant is born.

    The announcements are retained, so the broker connection renews them on every connect. `emit` and `forget`
    run in the engine's thread, `_born` in the connection's, `renew` in a timer's, `relabel` in the main one.
    """

    def __init__(
        self,
        settings: HomeAssistantSettings,
        output: OutputSettings,
        broker: Broker,
        labels: Sequence[str],
        *,
        uniform: Callable[[float, float], float] = random.uniform,
        later: Later | None = None,
    ) -> None:
        self._settings = settings
        self._prefix = output.prefix
        self._qos = output.qos
        self._broker = broker
        self._labels = labels
        self._gone: list[str] = []  # labels of models that are
        self._uniform = uniform
        self._later = later or _timer
        self._announced: dict[str, bytes] = {}  # device -> payload
        self._outdated: set[str] = set()  # announced with the activities of models that are gone
        self._lock = threading.Lock()
        self._waiting = False  # for the delay after a birth
        self._full = False

    def start(self) -> None:
        """Register with the broker connection; to be called before that starts."""
        self._broker.listen_to(self._settings.birth_topic, self._born)
        for device in self._settings.exclude:
            self._retract(device)

    def emit(self, labels: list[Label]) -> None:
        for label in labels:
            device = label.prediction.device
            if device not in self._announced or device in self._outdated:
                self._add(device, label.prediction.model)

    def announce(self, events: list[Event]) -> None:
        """Nothing: Home Assistant's device triggers read the MQTT sink's events."""

    def forget(self, devices: list[str]) -> None:
        """Remove devices, where the settings say so; a later label announces them again."""
        if self._settings.remove_forgotten:
            self.remove(devices)

    def remove(self, devices: list[str]) -> None:
        for device in devices:
            with self._lock:
                known = self._announced.pop(device, None)
                self._outdated.discard(device)
            if known:
                self._full = False
                self._retract(device)

    def relabel(self, labels: Sequence[str]) -> None:
        """Models have changed: announce every device anew, with these activities, at its next label."""
        with self._lock:
            known = dict.fromkeys([*self._gone, *self._labels])
            self._gone = [label for label in known if label not in labels]
            self._labels = labels
            self._outdated = set(self._announced)

    def renew(self) -> None:
        """Everything again."""
        with self._lock:
            self._waiting = False
            announced = list(self._announced.items())
        for device, payload in announced:
            self._publish(device, payload)
        if announced:
            log.info("announced %d device(s) to Home Assistant again", len(announced))

    def _add(self, device: str, model: str) -> None:
        if device in self._settings.exclude:
            return
        if device not in self._announced and len(self._announced) >= self._settings.max_devices:
            if not self._full:
                self._full = True
                log.warning(
                    "homeassistant.max_devices: %d are announced; further devices are not",
                    self._settings.max_devices,
                )
            return
        with self._lock:
            payload = config_payload(
                self._prefix, device, model, self._labels, gone=self._gone,
                expire_after_s=self._settings.expire_after_s, qos=self._qos,
            )  # fmt: skip
            self._announced[device] = payload
            self._outdated.discard(device)
        self._publish(device, payload)

    def _retract(self, device: str) -> None:
        self._publish(device, b"")

    def _publish(self, device: str, payload: bytes) -> None:
        topic = config_topic(self._settings.prefix, self._prefix, device)
        self._broker.publish(topic, payload, qos=1, retain=True)

    def _born(self, _topic: str, payload: bytes) -> None:
        if payload != b"online":
            return
        with self._lock:
            if self._waiting:
                return
            self._waiting = True
        self._later(self._uniform(0.0, MAX_DELAY_S), self.renew)


def _timer(delay_s: float, do: Callable[[], None]) -> None:
    timer = threading.Timer(delay_s, do)
    timer.daemon = True  # nobody waits for it at the end
    timer.name = "homeassistant"
    timer.start()
