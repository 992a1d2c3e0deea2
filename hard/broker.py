"""The MQTT connection (paho): reconnects for ever, renews subscriptions and presence, bounds what waits."""

from __future__ import annotations

import logging
import secrets
import socket
import threading
import time
from collections.abc import Callable
from typing import Final
from urllib.parse import unquote, urlsplit

import msgspec
import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from hard.stats import Counters, Drop
from hard.types import HardError

log = logging.getLogger(__name__)

OnMessage = Callable[[str, bytes], None]
SCHEMES: Final = {"mqtt": 1883, "mqtts": 8883}
MAX_BACKOFF_S: Final = 30
STOP_S: Final = 1.0


class BrokerUrl(msgspec.Struct, frozen=True):
    """Where a broker is. `str()` leaves the password out."""

    host: str
    port: int
    tls: bool = False
    username: str | None = None
    password: str | None = None

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'mqtts' if self.tls else 'mqtt'}://{host}:{self.port}"


def parse_url(url: str) -> BrokerUrl:
    """mqtt://[user:password@]host[:port] or mqtts://...; HardError says what is wrong, not the password."""
    try:
        parts = urlsplit(url if "://" in url else f"mqtt://{url}")
        host, port = parts.hostname, parts.port
    except ValueError as e:
        raise HardError(f"broker URL: {e}; expected mqtt://host:1883") from None
    if parts.scheme not in SCHEMES:
        raise HardError(f"broker URL: scheme {parts.scheme!r}; expected one of {', '.join(SCHEMES)}")
    if not host or parts.path.strip("/") or parts.query or parts.fragment:
        raise HardError("broker URL: expected mqtt://host:1883, nothing after the port")
    return BrokerUrl(
        host,
        SCHEMES[parts.scheme] if port is None else port,
        parts.scheme == "mqtts",
        unquote(parts.username) if parts.username else None,
        unquote(parts.password) if parts.password else None,
    )


class Broker:
    """One MQTT 3.1.1 connection. Constructed, wired and stopped by the main thread; paho's thread runs the
    callbacks; one other thread (the engine) may publish.
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
        self._presence = presence
        self._filters: dict[str, int] = {}
        self._pending: set[int] = set()  # SUBSCRIBEs not yet acknowledged
        self._on_message: OnMessage | None = None
        self._ready = threading.Event()
        self._waiting = 0  # publishes handed to paho that have not left yet
        self._waiting_lock = threading.Lock()
        self._failing = False
        self._started = False
        client_id = f"hard-{secrets.token_hex(4)}"
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id, reconnect_on_failure=True)

    @property
    def connected(self) -> bool:
        return self._client.is_connected()

    def listen(self, filters: dict[str, int], on_message: OnMessage) -> None:
        """Subscribe to topic filters (filter -> QoS) on every connect. `on_message` runs in paho's thread."""
        self._filters = filters
        self._on_message = on_message

    def start(self) -> None:
        """Connect in the background; a broker that is absent is tried again for ever."""
        client = self._client
        if self.url.username is not None:
            client.username_pw_set(self.url.username, self.url.password)
        if self.url.tls:
            client.tls_set()
        if self._presence:
            client.will_set(self._presence, "offline", qos=1, retain=True)
        client.reconnect_delay_set(1, MAX_BACKOFF_S)
        client.max_queued_messages_set(self._max_queued)
        client.on_connect = self._connected
        client.on_connect_fail = self._connect_failed
        client.on_disconnect = self._disconnected
        client.on_subscribe = self._subscribed
        client.on_publish = self._published
        client.on_socket_open = _no_delay
        if self._on_message is not None:
            client.on_message = self._message
        client.connect_async(self.url.host, self.url.port, self._keepalive_s)
        client.loop_start()
        self._started = True

    def wait_ready(self, timeout_s: float) -> bool:
        """Whether the connection is up and every subscription acknowledged within this time."""
        return self._ready.wait(timeout_s)

    def publish(self, topic: str, payload: bytes, qos: int = 0, retain: bool = False) -> bool:
        """Hand over one message; False, and counted, where the broker is away or does not keep up."""
        if not self._client.is_connected():
            self._counters.add(Drop.NOT_CONNECTED)
            return False
        if self._waiting >= self._max_queued:
            self._counters.add(Drop.OUTBOX_FULL)
            return False
        with self._waiting_lock:
            self._waiting += 1
        info = self._client.publish(topic, payload, qos, retain)
        if info.rc != mqtt.MQTT_ERR_SUCCESS:
            with self._waiting_lock:
                self._waiting -= 1
            self._counters.add(Drop.NOT_CONNECTED)
            return False
        return True

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
                self._say("stopped", 0.5)
        self._client.disconnect()
        ending = threading.Thread(target=self._client.loop_stop, daemon=True)
        ending.start()  # it joins paho's thread, which may hang on a frozen connection
        ending.join(STOP_S)

    def _say(self, state: str, wait_s: float = 0.0) -> None:
        if not self._presence:
            return
        with self._waiting_lock:
            self._waiting += 1
        info = self._client.publish(self._presence, state, qos=1, retain=True)
        if wait_s and info.rc == mqtt.MQTT_ERR_SUCCESS:
            info.wait_for_publish(wait_s)

    # paho's thread

    def _connected(
        self, client: mqtt.Client, _data: object, _flags: object, reason: ReasonCode, _p: Properties | None
    ) -> None:
        if reason.is_failure:
            self._complain(f"refused the connection: {reason}")
            return
        self._failing = False
        log.info("connected to %s", self.url)
        if self._filters:
            _, mid = client.subscribe(list(self._filters.items()))
            self._pending = {mid} if mid is not None else set()
        else:
            self._ready.set()
        self._say("online")

    def _subscribed(
        self, _c: mqtt.Client, _data: object, mid: int, reasons: list[ReasonCode], _p: Properties | None
    ) -> None:
        for name, reason in zip(self._filters, reasons, strict=False):
            if reason.is_failure:
                log.error("%s refused the subscription to %s: %s", self.url, name, reason)
        self._pending.discard(mid)
        if not self._pending:
            self._ready.set()

    def _connect_failed(self, _c: mqtt.Client, _data: object) -> None:
        self._complain("cannot connect")

    def _disconnected(
        self, _c: mqtt.Client, _data: object, _flags: object, reason: ReasonCode, _p: Properties | None
    ) -> None:
        self._ready.clear()
        with self._waiting_lock:
            lost, self._waiting = self._waiting, 0
        if reason.is_failure:
            if lost:
                self._counters.add(Drop.NOT_CONNECTED, lost)
            self._complain(f"connection lost: {reason}")

    def _complain(self, what: str) -> None:
        """One line for each outage: paho tries again every 1 to 30 s."""
        if not self._failing:
            log.warning("%s: %s; trying again every 1 to %d s", self.url, what, MAX_BACKOFF_S)
        self._failing = True

    def _published(
        self, _c: mqtt.Client, _data: object, _mid: int, _reason: ReasonCode, _p: Properties | None
    ) -> None:
        with self._waiting_lock:
            self._waiting -= 1

    def _message(self, _c: mqtt.Client, _data: object, message: mqtt.MQTTMessage) -> None:
        assert self._on_message is not None
        try:
            topic = message.topic
        except UnicodeDecodeError:
            self._counters.add(Drop.BAD_DEVICE)
            return
        self._on_message(topic, bytes(message.payload))


def _no_delay(_c: mqtt.Client, _data: object, sock: mqtt.SocketLike) -> None:
    assert isinstance(sock, socket.socket)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
