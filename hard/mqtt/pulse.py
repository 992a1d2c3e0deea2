"""An MQTT client with an ear for brokers that have fallen silent, and a count of its thread's turns."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import paho.mqtt.client as mqtt
from paho.mqtt.enums import MQTTErrorCode

PING_S: Final = 1.5  # the broker is asked for a sign of life after this silence
DEAD_S: Final = 4.5  # and given up after this: a cable was pulled, a machine lost its power, it is frozen
SLOW_S: Final = 30.0  # the same where our own data waits to be taken: that broker may just be slow


class Pulse(mqtt.Client):
    """paho notices a connection without another end after up to two keep-alive intervals, a minute.

    We need not wait as long for the broker as it is to wait for us.
    """

    turns: int = 0  # progress of paho's thread, for whoever watches
    on_turn: Callable[[], None] | None = None  # called in it at least once a second while connected
    silent: bool = False  # the last connection was given up: nothing came from the broker any more
    _heard_s: float = 0.0  # monotonic
    _asked_s: float = 0.0

    def reconnect(self) -> MQTTErrorCode:
        self.silent = False
        self.turns += 1
        try:
            return super().reconnect()
        finally:
            self._heard_s = time.monotonic()

    def is_connected(self) -> bool:
        """Also while paho, told by the broker that it goes, waits to connect anew: then it is not."""
        return super().is_connected() and self._sock is not None

    def loop_misc(self) -> MQTTErrorCode:
        """Called by paho at least once a second while there is a connection."""
        self.turns += 1
        if (on_turn := self.on_turn) is not None:
            on_turn()
        now_s = time.monotonic()
        silent_s = now_s - self._heard_s
        sock = self.socket()
        if sock is not None and silent_s > (SLOW_S if self.want_write() else DEAD_S):
            self.silent = True
            assert isinstance(sock, socket.socket)
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)  # paho finds the connection closed
        elif silent_s > PING_S and now_s - self._asked_s > PING_S and self.is_connected():
            self._asked_s = now_s
            self._send_pingreq()
        return super().loop_misc()

    def _sock_recv(self, bufsize: int) -> bytes:
        data = super()._sock_recv(bufsize)
        self._heard_s = time.monotonic()
        return data
