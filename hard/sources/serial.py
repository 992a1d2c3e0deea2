"""Microcontrollers on serial ports: one thread a port reads lines into the inbox and reconnects for ever."""

from __future__ import annotations

import errno
import logging
import math
import os
import termios
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Protocol

import msgspec
import serial
from serial.tools import list_ports

from hard.handoff import Inbox
from hard.runtime import Stage
from hard.settings import PortSettings, SerialSourceSettings, SourcesSettings
from hard.sources.ports import by_device, stable_names
from hard.stats import Counters, Drop
from hard.types import HardError, Message

log = logging.getLogger(__name__)

READ_S: Final = 0.02  # a read gathers for as long as the engine's tick
READ_BYTES: Final = 4096
MAX_LINE: Final = 4096  # bytes
BACKOFF_S: Final = (1.0, 5.0)
BEAT_S: Final = 0.25
STOP_S: Final = 1.0
OPEN_S: Final = 30.0  # a port of another machine may take as long: its name, connecting, RFC 2217's options
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
        self._inbox = inbox
        self._counters = counters
        self._readers = {device: self._reader(device, port) for device, port in self.ports.items()}

    def start(self) -> None:
        """Read in the background; a port that is absent is tried again for ever."""
        self._warn_of_unstable_names()
        for reader in self._readers.values():
            reader.start()

    def stop(self) -> None:
        """End within a second; a thread that hangs in a connect puts nothing into the inbox any more."""
        _end(list(self._readers.values()))

    def change(self, settings: SourcesSettings) -> None:
        """Read other ports from now on; those that stay as they are stay open."""
        before, self.ports = self.ports, by_device(settings.serial)
        stays = {device for device, port in self.ports.items() if before.get(device) == port}
        _end([reader for device, reader in self._readers.items() if device not in stays])
        self._readers = {
            device: self._readers[device] if device in stays else self._reader(device, port)
            for device, port in self.ports.items()
        }
        for device in self.ports.keys() - stays:
            self._readers[device].start()

    def stages(self) -> list[Stage]:
        """A thread a port, each of which goes round every 20 ms, or every 250 ms without its port."""
        return [reader.stage() for reader in self._readers.values()]

    def problem(self) -> str | None:
        """Which ports are not to be had."""
        failing = [device for device, reader in self._readers.items() if reader.failing]
        return f"no data from serial {', '.join(failing)}" if failing else None

    def _reader(self, device: str, port: PortSettings) -> PortReader:
        return PortReader(device, port, self._inbox, self._counters)

    def _warn_of_unstable_names(self) -> None:
        links = stable_names()
        for port in self.ports.values():
            link = links.get(os.path.realpath(port.port or ""))
            if link and Path(port.port or "").parent != link.parent:
                log.warning(
                    "%s may name another board after a restart; its stable name is %s", port.port, link
                )


def _end(readers: Sequence[PortReader]) -> None:
    """All of them, within a second."""
    for reader in readers:
        reader.stopped.set()
    deadline_s = time.monotonic() + STOP_S
    for reader in readers:
        reader.join(max(0.0, deadline_s - time.monotonic()))


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
        silent_s: float = SILENT_S,
    ) -> None:
        self.device = device
        self.stopped = threading.Event()
        self.turns = 0  # progress, for whoever watches
        self.failing = False  # from a failure until the next line
        self._thread = threading.Thread(target=self.run, name=f"serial {device}", daemon=True)
        self._settings = settings
        self._topic = f"serial/{device}"
        self._inbox = inbox
        self._counters = counters
        self._url = settings.port or ""
        self._backoff_s = BACKOFF_S[0]
        self._silent_s = silent_s if "://" in self._url else math.inf
        try:
            self._closed_port()
        except (ValueError, serial.SerialException) as e:
            raise HardError(f"serial port {self._url!r}: {e}") from None

    def stage(self) -> Stage:
        return Stage(f"serial {self.device}", lambda: self.turns, OPEN_S if "://" in self._url else 0.0)

    def start(self) -> None:
        self._thread.start()

    def join(self, timeout_s: float) -> None:
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def run(self) -> None:
        """Open, read, and after a failure wait 1 to 5 s and begin again."""
        while not self.stopped.is_set():
            self.turns += 1
            try:
                port = self._closed_port()  # a new one: one whose close has failed cannot be opened again
                port.open()
                try:
                    self._read(port)
                finally:
                    port.close()
            except ERRORS as e:
                self._complain(e)
                self._rest(self._backoff_s)
                self._backoff_s = min(2 * self._backoff_s, BACKOFF_S[1])

    def _rest(self, seconds: float) -> None:
        """Wait, or until we are to end; a board that is away is no standstill."""
        end_s = time.monotonic() + seconds
        while (left_s := end_s - time.monotonic()) > 0 and not self.stopped.wait(min(left_s, BEAT_S)):
            self.turns += 1

    def _closed_port(self) -> Port:
        port: Port = serial.serial_for_url(
            self._url, baudrate=self._settings.baud, timeout=READ_S, exclusive=True, do_not_open=True
        )
        return port

    def _read(self, port: Port) -> None:
        lines = Lines(self._counters)
        arrival_s = time.monotonic()
        self._counters.add("serial_opened")
        if not self.failing:
            log.info("%s: %s open", self.device, self._url)
        while not self.stopped.is_set():
            self.turns += 1
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
            if payload and not self.stopped.is_set():
                self._inbox.put(Message(self._topic, payload, arrival_s))
                self._recovered()

    def _recovered(self) -> None:
        if self.failing:
            log.info("%s: %s is back", self.device, self._url)
        self.failing = False
        self._backoff_s = BACKOFF_S[0]

    def _complain(self, error: Exception) -> None:
        """One line an outage: it ends with the first line read, not with the first open that succeeds."""
        if not self.failing:
            self.failing = True
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


def probe(settings: PortSettings) -> str | None:
    """Why a port cannot be opened, and what mends it; None where it can. A board may restart at it."""
    url = settings.port or ""
    try:
        port: Port = serial.serial_for_url(url, baudrate=settings.baud, exclusive=True, do_not_open=True)
        port.open()
        port.close()
    except ERRORS as e:
        return explain(url, e)
    return None
