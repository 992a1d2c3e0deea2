"""QoS 1 for many messages: a tick's events in one block, their acknowledgements read as bytes."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Literal

from paho.mqtt.enums import MQTTErrorCode, MQTTProtocolVersion

from hard.mqtt.packets import PUBACK, PUBLISH, QOS_1, REFUSED, RETAIN, publish, varint
from hard.mqtt.pulse import Pulse

AT_ONCE: Final = 20  # messages that may wait for their acknowledgement: what paho allows, too


class Assured(Pulse):
    """paho makes an object with a lock for every message, and reads every acknowledgement in system calls.

    What the broker has not acknowledged is sent again as soon as a broken connection is back, under a new id,
    since every connection is a clean session.
    """

    at_once: int = AT_ONCE  # set on connect, in paho's thread
    on_assured: Callable[[int, int], None] | None = None  # how many were acknowledged, and refused of these

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._assured_lock = threading.Lock()  # guards the next two
        self._next: deque[tuple[bytes, bytes, bool]] = deque()  # topic, payload, whether it is retained
        self._sent: dict[int, tuple[bytes, bytes, bool]] = {}  # in this connection, by id, in their order

    @property
    def assured(self) -> int:
        """Messages that are not acknowledged yet."""
        with self._assured_lock:
            return len(self._next) + len(self._sent)

    def publish_assured(self, messages: Iterable[tuple[bytes, bytes]], retain: bool) -> None:
        """Send messages (topic, payload) in their order, now or as soon as that may be; from any thread."""
        with self._assured_lock:
            self._next.extend((topic, payload, retain) for topic, payload in messages)
            self._send_next()

    def resume(self) -> None:
        """Send what had to be left when the last connection ended; to be called on connect."""
        with self._assured_lock:
            self._send_next()

    def reconnect(self) -> MQTTErrorCode:
        with self._assured_lock:
            self._next.extendleft(reversed(self._sent.values()))
            self._sent.clear()
        return super().reconnect()

    def _send_next(self) -> None:
        """As many as may be on their way; the lock is held."""
        properties = self._properties()
        parts: list[bytes] = []
        while self._next and len(self._sent) < self.at_once and self.is_connected():
            mid = self._mid_generate()
            topic, payload, retain = self._sent[mid] = self._next.popleft()
            head = PUBLISH | QOS_1 | RETAIN * retain
            parts += publish(head, topic, mid.to_bytes(2, "big") + properties, payload)
        if parts:
            self._packet_queue(PUBLISH, b"".join(parts), 0, 1)

    def _take_acknowledgements(self, data: bytes, at: int) -> int:
        """Of our messages, those complete ones that begin here; returns where they end."""
        acknowledged: dict[int, bool] = {}  # and whether it was refused
        end = len(data)
        while at + 2 <= end and data[at] == PUBACK:
            length, body = varint(data, at + 1)
            after = body + length
            mid = int.from_bytes(data[body : body + 2], "big")
            if body == 0 or after > end or length < 2 or mid not in self._sent:
                break  # not complete, or not ours, or malformed: paho's
            acknowledged[mid] = length > 2 and data[body + 2] >= REFUSED
            at = after
        if acknowledged:
            self._acknowledged(acknowledged)
        return at

    def _handle_pubackcomp(self, cmd: Literal["PUBACK", "PUBCOMP"]) -> MQTTErrorCode:
        """Called by paho with a packet that came in pieces, or has to do with QoS 2."""
        packet = bytes(self._in_packet["packet"])
        mid = int.from_bytes(packet[:2], "big")
        if cmd == "PUBACK" and mid in self._sent:
            self._acknowledged({mid: packet[2:3] >= bytes([REFUSED])})
            return MQTTErrorCode.MQTT_ERR_SUCCESS
        return super()._handle_pubackcomp(cmd)

    def _acknowledged(self, refused: Mapping[int, bool]) -> None:
        with self._assured_lock:
            for mid in refused:
                self._sent.pop(mid, None)
            self._send_next()
        if self.on_assured is not None:
            self.on_assured(len(refused), sum(refused.values()))

    def _properties(self) -> bytes:
        """An empty list of them, where the protocol has such."""
        return b"\0" if self._protocol == MQTTProtocolVersion.MQTTv5 else b""
