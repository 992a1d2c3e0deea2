"""paho's MQTT client with a leaner way in and out: many packets a system call, no objects in between."""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

import paho.mqtt.client as mqtt
from paho.mqtt.enums import MQTTErrorCode, MQTTProtocolVersion

from hard.mqtt.assured import Assured
from hard.mqtt.packets import PUBLISH, QOS, RETAIN, publish, varint

READ_BYTES: Final = 1 << 18
MAX_READS: Final = 16  # in a turn
Take = Callable[[list[tuple[bytes, bytes]]], None]


class Client(Assured):
    """Differs from paho's in a few methods: connecting, keep-alive, QoS 2 and the rest stay its.

    paho reads a packet a `select`, its header byte by byte: five system calls a message, each of which hands
    over the GIL; its objects for a message, its locks and its tree of callbacks by topic cost as much again.
    Here the PUBLISH packets of QoS 0 go from the buffer to `take` as slices, all that has come at once, and
    `publish_block` writes the labels of a tick as one block of bytes. (tools/bench.py phones: see the commits
    that changed this file.)
    """

    trouble: OSError | None = None  # why the last connection failed; paho keeps it to itself
    take: Take | None = None  # what is called, in paho's thread, with messages: (topic, payload)
    rest_s: float = 0.0  # from one reading to the next, to read much at once; any thread may set it
    _read_again_s: float = 0.0  # monotonic
    _unread: bytes = b""  # received, and not yet asked for
    _read_to: int = 0

    def reconnect(self) -> MQTTErrorCode:
        self._unread, self._read_to = b"", 0
        try:
            return super().reconnect()
        except OSError as e:
            self.trouble = e
            raise

    def _loop(self, timeout: float = 1.0) -> MQTTErrorCode:
        rc = self._rest()
        return super()._loop(timeout) if rc == MQTTErrorCode.MQTT_ERR_SUCCESS else rc

    def _rest(self) -> MQTTErrorCode:
        """Let what comes in wait until it is time to read again; what goes out does not wait."""
        rc = MQTTErrorCode.MQTT_ERR_SUCCESS
        while self._sock is not None and self._sockpairR is not None and rc == MQTTErrorCode.MQTT_ERR_SUCCESS:
            left_s = self._read_again_s - time.monotonic()
            if left_s <= 0 or self._thread_terminate:
                break
            full = [self._sock] if self.want_write() else []
            woken, free, _ = select.select([self._sockpairR], full, [], left_s)
            if woken:
                with suppress(BlockingIOError):
                    self._sockpairR.recv(10_000)
            if woken or free:
                rc = self.loop_write()
        return rc

    def loop_read(self, max_packets: int = 1) -> MQTTErrorCode:
        """Handle all packets that have come."""
        if self._read_to >= len(self._unread):
            try:
                self._unread, self._read_to = self._read_all(), 0
            except BlockingIOError:
                return MQTTErrorCode.MQTT_ERR_SUCCESS
            except OSError:
                return super().loop_read()  # which meets the same error, and deals with it
        read_s = time.monotonic()
        rc = self._handle_next()
        while rc == MQTTErrorCode.MQTT_ERR_SUCCESS and self._read_to < len(self._unread):
            rc = self._handle_next()
        self._read_again_s = read_s + self.rest_s
        return rc

    def _read_all(self) -> bytes:
        """What the socket holds; empty at its end. OSError where there is nothing to be had."""
        parts = [super()._sock_recv(READ_BYTES)]
        while parts[-1] and len(parts) < MAX_READS:
            try:
                parts.append(super()._sock_recv(READ_BYTES))
            except OSError:
                break  # nothing more; or an error, which the next reading meets, too
        return b"".join(parts)

    def _handle_next(self) -> MQTTErrorCode:
        """What is unread: the plain messages at its head; where there is none, one packet in paho's way."""
        if self._in_packet["command"] == 0:
            began = self._read_to
            self._read_to = self._take_plain(self._unread, began)
            if self._read_to == began:
                self._read_to = self._take_acknowledgements(self._unread, began)
            if self._read_to > began:
                return MQTTErrorCode.MQTT_ERR_SUCCESS
        rc = self._packet_read()  # loop_read would take as many packets as messages are in flight
        if rc == MQTTErrorCode.MQTT_ERR_AGAIN:
            return MQTTErrorCode.MQTT_ERR_SUCCESS
        return self._loop_rc_handle(rc) if rc > 0 else rc

    def _take_plain(self, data: bytes, at: int) -> int:
        """Hand on the complete PUBLISH packets of QoS 0 that begin here; returns where they end."""
        end = len(data)
        has_properties = self._protocol == MQTTProtocolVersion.MQTTv5
        messages: list[tuple[bytes, bytes]] = []
        while at + 2 <= end and data[at] & (0xF0 | QOS) == PUBLISH:
            length, body = varint(data, at + 1)
            after = body + length
            if body == 0 or after > end:
                break  # not complete
            name = body + 2
            text = name + int.from_bytes(data[body:name], "big")
            if has_properties:
                size, past = varint(data, text)
                payload = past + size
            else:
                payload = text
            if payload > after:
                break  # malformed: paho says so
            messages.append((data[name:text], data[payload:after]))
            at = after
        if messages and self.take is not None:
            self.take(messages)
        return at

    def next_id(self) -> int:
        """An id for `publish_block`."""
        return self._mid_generate()

    def publish_block(self, messages: Sequence[tuple[bytes, bytes]], mid: int, retain: bool) -> None:
        """Queue messages (topic, payload) of QoS 0 as one; `on_publish` gets `mid` when all have left."""
        head, middle = PUBLISH | RETAIN * retain, self._properties()
        parts = [part for topic, payload in messages for part in publish(head, topic, middle, payload)]
        self._packet_queue(PUBLISH, b"".join(parts), mid, 0, mqtt.MQTTMessageInfo(mid))

    def _sock_recv(self, bufsize: int) -> bytes:
        if self._read_to >= len(self._unread):
            self._unread, self._read_to = super()._sock_recv(READ_BYTES), 0
        end = self._read_to + bufsize
        part, self._read_to = self._unread[self._read_to : end], min(end, len(self._unread))
        return part

    def _handle_on_message(self, message: mqtt.MQTTMessage) -> None:
        if self.take is not None:
            self.take([(message._topic, bytes(message.payload))])
