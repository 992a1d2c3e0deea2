"""Microcontrollers on serial ports: one thread a port reads lines into the inbox and reconnects for ever."""

from __future__ import annotations

import errno
import logging
import math
import os
import termios
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Protocol

import msgspec
import serial
from serial.tools import list_ports

from hard.handoff import Inbox
from hard.settings import PortSettings, SerialSourceSettings
from hard.sources.ports import by_device, stable_names
from hard.stats import Counters, Drop
from hard.types import HardError, Message

log = logging.getLogger(__name__)

READ_S: Final = 0.02  # a read gathers for as long as the engine's tick
READ_BYTES: Final = 4096
MAX_LINE: Final = 4096  # bytes
BACKOFF_S: Final = (1.0, 30.0)
STOP_S: Final = 1.0
SILENT_S: Final = 30.0  # a TCP connection whose other end lost its power looks like this
ERRORS: Final = (OSError, ValueError, termios.error)  # of pyserial: SerialException is an OSError


class Port(Protocol):
    """What is used of pyserial, which has no types."""

    def open(self) -> None: ...

    def read(self, size: int, /) -> bytes: ...

    def close(self) -> None: ...


class Lines:
    """Bytes in, complete lines out, however the bytes were split.

    The first line is dropped: it was under way when the port was opened, and a tail such as `1.5` of `-11.5`
    cannot be told from a number. Lines beyond MAX_LINE are dropped and counted.
    """

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._tail = b""
        self._first = True
        self._cut = False  # the beginning of the current line has been dropped, and counted
        self.long = 0

    def feed(self, data: bytes) -> bytes:
        """The lines that are complete now, each with its `\n`; no blank ones."""
        *complete, self._tail = (self._tail + data.replace(b"\r", b"\n")).split(b"\n")
        good: list[bytes] = []
        for line in complete:
            if len(line) > MAX_LINE and not self._cut:
                self._count_long()
            elif line and not self._first and not self._cut:
                good.append(line + b"\n")
            self._first = self._cut = False
        if len(self._tail) > MAX_LINE:
            if not self._cut:
                self._count_long()
            self._cut, self._tail = True, b""
        return b"".join(good)

    def _count_long(self) -> None:
        self.long += 1
        self._counters.add(Drop.LONG_LINE)


class SerialSource:
    """All serial ports of the settings. Owner: the main thread; each port has a thread of its own."""

    def __init__(
        self, settings: SerialSourceSettings, _broker: object, inbox: Inbox, counters: Counters
    ) -> None:
        self.ports = by_device(settings)
        self._stop = threading.Event()
        self._readers = [
            PortReader(device, port, inbox, counters, self._stop) for device, port in self.ports.items()
        ]
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Read in the background; a port that is absent is tried again for ever."""
        links = stable_names()
        for port in self.ports.values():
            link = links.get(os.path.realpath(port.port or ""))
            if link and Path(port.port or "").parent != link.parent:
                log.warning(
                    "%s may name another board after a restart; its stable name is %s", port.port, link
                )
        for reader in self._readers:
            thread = threading.Thread(target=reader.run, name=f"serial {reader.device}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """End within a second; a thread that hangs in a connect puts nothing into the inbox any more."""
        self._stop.set()
        deadline_s = time.monotonic() + STOP_S
        for thread in self._threads:
            thread.join(max(0.0, deadline_s - time.monotonic()))


class PortReader:
    """One port, opened, read and reopened by its own thread.

    Opening asserts DTR and RTS, as every terminal does: boards like the Uno restart at that (their boot
    banner is dropped as bad_line), those with USB of their own send nothing without it, and an ESP32 with
    only one of the two asserted stays in reset.
    """

    def __init__(
        self,
        device: str,
        settings: PortSettings,
        inbox: Inbox,
        counters: Counters,
        stop: threading.Event,
        silent_s: float = SILENT_S,
    ) -> None:
        self.device = device
        self._settings = settings
        self._topic = f"serial/{device}"
        self._inbox = inbox
        self._counters = counters
        self._stop = stop
        self._url = settings.port or ""
        self._failing = False  # from a failure until the next line
        self._backoff_s = BACKOFF_S[0]
        self._silent_s = silent_s if "://" in self._url else math.inf
        try:
            self._closed_port()
        except (ValueError, serial.SerialException) as e:
            raise HardError(f"serial port {self._url!r}: {e}") from None

    def run(self) -> None:
        """Open, read, and after a failure wait 1 to 30 s and begin again."""
        while not self._stop.is_set():
            try:
                port = self._closed_port()  # a new one: one whose close has failed cannot be opened again
                port.open()
                try:
                    self._read(port)
                finally:
                    port.close()
            except ERRORS as e:
                self._complain(e)
                self._stop.wait(self._backoff_s)
                self._backoff_s = min(2 * self._backoff_s, BACKOFF_S[1])

    def _closed_port(self) -> Port:
        port: Port = serial.serial_for_url(
            self._url, baudrate=self._settings.baud, timeout=READ_S, exclusive=True, do_not_open=True
        )
        return port

    def _read(self, port: Port) -> None:
        lines = Lines(self._counters)
        arrival_s = time.monotonic()
        self._counters.add("serial_opened")
        if not self._failing:
            log.info("%s: %s open", self.device, self._url)
        while not self._stop.is_set():
            data = port.read(READ_BYTES)
            if not data:
                if time.monotonic() - arrival_s > self._silent_s:
                    raise TimeoutError(f"silent for {self._silent_s:g} s")
                continue
            arrival_s = time.monotonic()
            self._counters.add("serial_bytes", len(data))
            payload = lines.feed(data)
            if lines.long == 1:
                lines.long += 1  # said once
                log.warning("%s: %s sends no line end in %d bytes; is the baud rate %d right?", self.device,
                            self._url, MAX_LINE, self._settings.baud)  # fmt: skip
            if payload and not self._stop.is_set():
                self._inbox.put(Message(self._topic, payload, arrival_s))
                self._recovered()

    def _recovered(self) -> None:
        if self._failing:
            log.info("%s: %s is back", self.device, self._url)
        self._failing = False
        self._backoff_s = BACKOFF_S[0]

    def _complain(self, error: Exception) -> None:
        """One line an outage: it ends with the first line read, not with the first open that succeeds."""
        if not self._failing:
            self._failing = True
            self._counters.add("serial_outages")
            log.warning(
                "%s: %s; trying again every %g to %g s", self.device, explain(self._url, error), *BACKOFF_S
            )


def explain(url: str, error: Exception) -> str:
    """What went wrong with a port, and what mends it."""
    number = getattr(error, "errno", None)
    if number == errno.ENOENT:
        return f"{url} is not there; plug it in, or see `hard devices`"
    if number == errno.EACCES:
        return f"{url}: permission denied; put this user into the group dialout"
    if number == errno.EWOULDBLOCK:
        return f"{url} is in use by another program"
    return f"{url}: {error}"


class FoundPort(msgspec.Struct, frozen=True):
    """A serial port: what `hard devices` says of it."""

    device: str  # /dev/ttyUSB0: may name another board after a restart
    stable: str | None  # its link in /dev/serial/by-id
    description: str


def found_ports(stable: Mapping[str, Path]) -> list[FoundPort]:
    """The ports that are there now; `stable` as from `stable_names`."""
    return [
        FoundPort(str(i.device), str(stable.get(os.path.realpath(i.device), "")) or None, str(i.description))
        for i in sorted(list_ports.comports())
    ]
