"""The MQTT connection (paho): reconnects for ever, renews subscriptions, presence and retained state."""

from __future__ import annotations

import logging
import secrets
import socket
import threading
import time
from collections.abc import Callable, Collection, Sequence
from typing import Final

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from hard.mqtt.address import (
    BrokerUrl,
    explain_failure,
    explain_refusal,
    explain_silence,
    parse_url,
    tls_context,
)
from hard.mqtt.client import Client
from hard.mqtt.packets import oversize
from hard.mqtt.presence import Presence
from hard.mqtt.retained import Retained
from hard.mqtt.subscriptions import Subscriptions
from hard.stats import Counters, Drop

__all__ = ["Broker", "BrokerUrl", "OnMessage", "OnMessages", "parse_url"]

log = logging.getLogger(__name__)

OnMessage = Callable[[str, bytes], None]
OnMessages = Callable[[list[tuple[str, bytes]]], None]
MAX_BACKOFF_S: Final = 5  # labels are to flow again within 10 s of the end of any trouble
STOP_S: Final = 1.0
MAX_IN_FLIGHT: Final = 200  # messages of QoS 1 not acknowledged yet, since that is read after a rest
QOS_2_IN_FLIGHT: Final = 4  # besides; mosquitto 2.0 drops some of both where they are more than 20
MAX_TOPICS: Final = 65_536  # remembered as text
MAX_TROUBLES: Final = 8  # kinds of trouble logged in one outage


class Broker:
    """One MQTT connection. Constructed, wired and stopped by the main thread; paho's thread runs the
    callbacks; any thread may publish.
    """

    def __init__(
        self,
        url: BrokerUrl,
        counters: Counters,
        *,
        keepalive_s: int = 30,
        max_queued: int = 10_000,
        presence: str | None = None,
    ) -> None:
        self.url = url
        self._counters = counters
        self._keepalive_s = keepalive_s
        self._max_queued = max_queued
        self._on_messages: OnMessages | None = None
        self._on_topic: dict[str, OnMessage] = {}
        self._topics: dict[bytes, str] = {}
        self._retained = Retained()
        self._ready = threading.Event()
        self._waiting = 0  # publishes handed to paho that have not left yet
        self._blocks: dict[int, int] = {}  # messages in each block handed to paho, by its id
        self._waiting_lock = threading.Lock()
        self._answer = ""  # what the broker said on this connection: nothing yet, "refused" or "online"
        self._troubles: set[str] = set()  # logged in this outage
        self.refusal: str | None = None  # why the broker last said no
        self.trouble: str | None = None  # the newest of this outage; None while connected
        self._most_bytes: int | None = None  # of a packet, where the broker has said so (MQTT 5)
        self.losses = 0  # connections that the broker ended, or did not answer, so far
        self._started = False
        protocol = MQTTProtocolVersion.MQTTv5 if url.mqtt5 else MQTTProtocolVersion.MQTTv311
        client_id = f"hard-{secrets.token_hex(4)}"
        self._client = Client(CallbackAPIVersion.VERSION2, client_id, protocol=protocol)
        self._subscriptions = Subscriptions(self._client, str(url))
        self._presence: Presence | None = None
        if presence:
            self._presence = Presence(presence, self._client, self._say, str(url))
            self._on_topic[presence] = self._presence.heard

    @property
    def connected(self) -> bool:
        return self._client.is_connected()

    @property
    def turns(self) -> int:
        """A count that goes on as long as paho's thread is not stuck, also where there is no broker."""
        return self._client.turns

    @property
    def denied(self) -> list[str]:
        """Topic filters that the broker refused on this connection."""
        return self._subscriptions.denied

    def listen(self, filters: dict[str, int], on_message: OnMessage) -> None:
        """Subscribe to topic filters (filter -> QoS) on every connect. `on_message` runs in paho's thread."""
        self.listen_many(filters, lambda messages: _each(messages, on_message))

    def listen_many(self, filters: dict[str, int], on_messages: OnMessages) -> None:
        """The same, with all messages that came together: (topic, payload)."""
        self._on_messages = on_messages
        self.relisten((), filters)

    def relisten(self, old: Collection[str], filters: dict[str, int]) -> None:
        """Listen to other filters instead of `old`, now and on every connect; what stays is not touched.

        ValueError, and nothing has changed, for one that is none: on a connect it would end paho's thread.
        """
        self._subscriptions.change(old, filters)

    def wait_subscribed(self, timeout_s: float) -> bool:
        """Whether the newest `relisten` is in force within this time; without a connection, by the next."""
        return self._subscriptions.wait(timeout_s)

    def rest(self, seconds: float) -> None:
        """From now on leave what comes where it is for so long after each reading; labels go out at once."""
        self._client.rest_s = seconds

    def listen_to(self, topic: str, on_message: OnMessage, qos: int = 1) -> None:
        """Subscribe to one topic, without wildcards, whose messages go to their own callback."""
        self._subscriptions.add(topic, qos)
        self._on_topic[topic] = on_message

    def start(self) -> None:
        """Connect in the background; a broker that is absent is tried again for ever."""
        client = self._client
        if self.url.username is not None:
            client.username_pw_set(self.url.username, self.url.password)
        if self.url.tls:
            client.tls_set_context(tls_context(self.url))
            if self.url.insecure:
                log.warning("%s: broker.tls.insecure: anyone can pose as this broker", self.url)
        client.reconnect_delay_set(1, MAX_BACKOFF_S)
        client.max_queued_messages_set(self._max_queued)
        client.max_inflight_messages_set(QOS_2_IN_FLIGHT)
        self._wire(on=True)
        client.connect_async(self.url.host, self.url.port, self._keepalive_s)
        client.loop_start()
        self._started = True

    def wait_ready(self, timeout_s: float) -> bool:
        """Whether the connection is up and every subscription acknowledged within this time."""
        return self._ready.wait(timeout_s)

    def publish(self, topic: str, payload: bytes, qos: int = 0, retain: bool = False) -> bool:
        """`publish_many` of one message; whether the connection took it."""
        return self.publish_many([(topic, payload)], qos, retain) == 1

    def publish_many(self, messages: Sequence[tuple[str, bytes]], qos: int = 0, retain: bool = False) -> int:
        """Hand over messages (topic, payload) at once; returns how many the connection took.

        The others are counted: the broker is away or does not keep up. The newest retained payload of a topic
        is published again on every connect, and one that was not taken as soon as there is room.
        """
        if retain:
            self._retained.put(messages, qos)
        if not self._client.is_connected():
            if self._started or not retain:  # what is retained before the start is sent with it
                self._counters.add(Drop.NOT_CONNECTED, len(messages))
            return 0
        if self._most_bytes is not None:
            messages = [message for message in messages if self._fits(*message)]
        room = max(0, self._max_queued - self._waiting)
        taken = messages[:room]
        if len(taken) < len(messages):
            self._counters.add(Drop.OUTBOX_FULL, len(messages) - len(taken))
            if retain:
                self._retained.owe(topic for topic, _ in messages[room:])
        sent = self._send_many(taken, qos, retain) if taken else 0
        self._counters.add(Drop.NOT_CONNECTED, len(taken) - sent)
        if retain and sent == len(taken):
            for topic, payload in taken:
                if not payload:
                    self._retained.cleared(topic)
        return sent

    def flush(self, timeout_s: float) -> bool:
        """Wait until everything published has left; False where it did not in time."""
        deadline = time.monotonic() + timeout_s
        while self._waiting > 0 and self.connected and time.monotonic() < deadline:
            time.sleep(0.01)
        return self._waiting <= 0

    def stop(self) -> None:
        """Say `stopped`, disconnect, end paho's thread; within 2 s, whatever the broker does."""
        if not self._started:
            return
        self._started = False
        if self._client.is_connected():
            self.flush(0.5)
            if self._presence:
                self._presence.end()
                self.flush(0.5)
        self._client.disconnect()
        ending = threading.Thread(target=self._client.loop_stop, daemon=True)
        ending.start()  # it joins paho's thread, which may hang on a frozen connection
        ending.join(STOP_S)
        self._wire(on=False)  # without cycles paho's client goes with us, and closes its pair of sockets

    def _say(self, topic: str, payload: bytes) -> bool:
        return self._send(topic, payload, 0)

    def _send(self, topic: str, payload: bytes, qos: int, retain: bool = True) -> bool:
        return not self._fits(topic, payload) or self._send_many([(topic, payload)], qos, retain) == 1

    def _send_many(self, messages: Sequence[tuple[str, bytes]], qos: int, retain: bool) -> int:
        """How many are on their way."""
        if qos == 2:
            return sum(self._send_once(topic, payload, retain) for topic, payload in messages)
        block = [(topic.encode(), payload) for topic, payload in messages]
        with self._waiting_lock:
            self._waiting += len(block)
            if qos == 0:
                mid = self._client.next_id()
                self._blocks[mid] = len(block)
        if qos == 0:
            self._client.publish_block(block, mid, retain)
        else:
            self._client.publish_assured(block, retain)
        return len(block)

    def _fits(self, topic: str, payload: bytes) -> bool:
        """Else the broker would hang up, and again whenever what is retained is renewed."""
        if self._most_bytes is None or not oversize(topic, payload, self._most_bytes):
            return True
        self._counters.add(Drop.REFUSED)
        log.warning("%s: allows %d bytes a message, too few for %s", self.url, self._most_bytes, topic)
        return False

    def _send_once(self, topic: str, payload: bytes, retain: bool) -> bool:
        """QoS 2, paho's way."""
        with self._waiting_lock:
            self._waiting += 1
        if self._client.publish(topic, payload, 2, retain).rc == mqtt.MQTT_ERR_SUCCESS:
            return True
        with self._waiting_lock:
            self._waiting -= 1
        return False

    def _wire(self, on: bool) -> None:
        client = self._client
        client.on_connect = self._connected if on else None
        client.on_connect_fail = self._connect_failed if on else None
        client.on_disconnect = self._disconnected if on else None
        client.on_subscribe = self._subscribed if on else None
        client.on_unsubscribe = self._subscribed if on else None
        client.on_publish = self._published if on else None
        client.on_socket_open = self._opened if on else None
        client.on_assured = self._assured if on else None
        client.on_turn = self._turn if on else None
        client.take = self._take if on else None
        if not on:
            self._on_messages = None
            self._on_topic.clear()

    # paho's thread

    def _opened(self, _c: mqtt.Client, _data: object, sock: mqtt.SocketLike) -> None:
        self._answer = ""
        self._counters.add(Drop.NOT_CONNECTED, self._let_go())  # taken while the last connection ended
        assert isinstance(sock, socket.socket)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _connected(
        self, client: mqtt.Client, _data: object, _flags: object, reason: ReasonCode, p: Properties | None
    ) -> None:
        if reason.is_failure:
            self._answer = "refused"
            self.refusal = explain_refusal(reason.value, str(reason), self.url)
            self._complain(self.refusal)
            return
        self._answer = "online"
        self._troubles.clear()
        self.trouble = None
        log.info("connected to %s", self.url, extra={"kind": "connected"})
        room = getattr(p, "ReceiveMaximum", MAX_IN_FLIGHT + QOS_2_IN_FLIGHT)  # of MQTT 5
        self._most_bytes = getattr(p, "MaximumPacketSize", None)
        self._client.at_once = max(1, min(MAX_IN_FLIGHT, room - QOS_2_IN_FLIGHT))
        self._client.resume()
        if self._subscriptions.renew():
            self._is_ready()

    def _subscribed(
        self, _c: mqtt.Client, _data: object, mid: int, reasons: list[ReasonCode], _p: Properties | None
    ) -> None:
        if self._subscriptions.answered(mid, reasons) and not self._ready.is_set():
            self._is_ready()

    def _is_ready(self) -> None:
        self._retained.renew()  # paho has repeated by now what the loss interrupted: ours is the newest
        self._renew()
        self._ready.set()
        if self._presence:
            self._presence.begin()

    def _renew(self) -> None:
        # beside the labels, in at most half of the queue
        self._retained.pump(self._send, self._max_queued // 2 - self._waiting)

    def _connect_failed(self, _c: mqtt.Client, _data: object) -> None:
        error, self._client.trouble = self._client.trouble, None  # its traceback holds a socket
        self._complain(explain_failure(error, self.url.tls))

    def _disconnected(
        self, _c: mqtt.Client, _data: object, _flags: object, reason: ReasonCode, _p: Properties | None
    ) -> None:
        self._ready.clear()
        self._subscriptions.lost()
        if self._presence:
            self._presence.lost()
        lost = self._let_go()
        if not reason.is_failure:
            return
        self.losses += 1
        self._counters.add(Drop.NOT_CONNECTED, lost)
        if self._client.silent:
            self._complain("the broker does not answer")
        elif self._answer == "online":
            self._complain("connection lost" + ("" if reason == "Unspecified error" else f": {reason}"))
        elif self._answer != "refused":
            self._complain(explain_silence(self.url))

    def _let_go(self) -> int:
        """Wait no longer for what went with a connection; returns how many messages that was."""
        with self._waiting_lock:
            kept = min(self._client.assured, self._waiting)  # these are sent again
            lost, self._waiting = self._waiting - kept, kept
            self._blocks.clear()
        return lost

    def _complain(self, what: str) -> None:
        """One line for each kind of trouble in an outage: paho tries again every 1 to 5 s."""
        self.trouble = what
        if what not in self._troubles and len(self._troubles) < MAX_TROUBLES:
            self._troubles.add(what)
            text = f"{self.url}: {what}; trying again every 1 to {MAX_BACKOFF_S} s"
            log.warning("%s", text, extra={"kind": "broker"})

    def _published(
        self, _c: mqtt.Client, _data: object, mid: int, _reason: ReasonCode, _p: Properties | None
    ) -> None:
        with self._waiting_lock:  # paho repeats, after a loss, what was counted as lost
            self._waiting = max(0, self._waiting - self._blocks.pop(mid, 1))
        self._renew()

    def _turn(self) -> None:
        self._renew()
        if self._presence:
            self._presence.turn()

    def _assured(self, acknowledged: int, refused: int) -> None:
        with self._waiting_lock:
            self._waiting = max(0, self._waiting - acknowledged)
        self._counters.add(Drop.REFUSED, refused)
        self._renew()

    def _take(self, messages: list[tuple[bytes, bytes]]) -> None:
        named: list[tuple[str, bytes]] = []
        for topic, payload in messages:
            name = self._topics.get(topic)
            if name is None:
                name = self._new_topic(topic)
            if name in self._on_topic:
                self._on_topic[name](name, payload)
            elif name:
                named.append((name, payload))
        if named and self._on_messages is not None:
            self._on_messages(named)

    def _new_topic(self, topic: bytes) -> str:
        """A topic not seen before, as text; empty where it is none."""
        if len(self._topics) >= MAX_TOPICS:
            self._topics.clear()
        try:
            name = self._topics[topic] = topic.decode()
        except UnicodeDecodeError:
            self._counters.add(Drop.BAD_DEVICE)
            return ""
        return name


def _each(messages: list[tuple[str, bytes]], on_message: OnMessage) -> None:
    for topic, payload in messages:
        on_message(topic, payload)
