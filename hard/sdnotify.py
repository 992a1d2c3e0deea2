"""What systemd is told: READY, STATUS, WATCHDOG, RELOADING, STOPPING; nothing where it does not ask."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from typing import Final

MAX_STATUS: Final = 500  # characters; systemd takes one line


class Notifier:
    """Datagrams to $NOTIFY_SOCKET. A systemd that does not listen is never an error. Owner: one thread."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        path = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + path[1:] if path.startswith("@") else path  # abstract, or a path
        self.watchdog_s = _interval_s(environ) if path else None
        """systemd's patience without a WATCHDOG, in seconds; None: it does not watch us."""

    def ready(self) -> None:
        self._send("READY=1")

    def status(self, text: str) -> None:
        """What `systemctl status` shows."""
        self._send(f"STATUS={' '.join(text.split())[:MAX_STATUS]}")

    def watchdog(self) -> None:
        self._send("WATCHDOG=1")

    def extend_timeout(self, seconds: float) -> None:
        """Starting or stopping takes at least this much longer."""
        self._send(f"EXTEND_TIMEOUT_USEC={int(seconds * 1e6)}")

    def reloading(self) -> None:
        """To be followed by `ready`; the time is what Type=notify-reload (systemd 253) asks for."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        self._send("STOPPING=1")

    def _send(self, text: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as s:
                s.setblocking(False)
                s.sendto(text.encode(), self._address)
        except OSError:
            pass  # not even a log line: it may be the journal that is in trouble


def _interval_s(environ: Mapping[str, str]) -> float | None:
    """From $WATCHDOG_USEC, where it is meant for this process."""
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    try:
        return int(environ.get("WATCHDOG_USEC", "0")) / 1e6 or None
    except ValueError:
        return None
