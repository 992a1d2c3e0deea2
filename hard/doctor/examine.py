"""All lines of `hard check`, in the order in which a person would look."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.text import Text

from hard.config import reach, salvage, state_dir
from hard.daemon.runfile import find
from hard.doctor.broker import broker_lines
from hard.doctor.line import Line, Status, fail, mended, ok
from hard.doctor.machine import clock_line, disk_line, memory_line, systemd_lines
from hard.doctor.parts import camera_lines, model_lines, serial_lines
from hard.embedded import binary, embedded_address, require_free_port, runs
from hard.mqtt.address import BrokerUrl, address
from hard.settings import Settings
from hard.types import HardError

COLOURS: Final = {Status.PASS: "green", Status.WARN: "yellow", Status.FAIL: "red"}


def examine(load: Callable[[], Settings], config: Path | None) -> Iterator[Line]:
    """Look at everything; where the settings are wrong, at what does not depend on them."""
    try:
        settings = load()
    except HardError as e:
        yield mended("config", str(e))
        yield from systemd_lines(state_dir(salvage(config, os.environ)))
        return
    yield ok("config", str(config) if config else "defaults and environment")
    try:
        state = reach(state_dir(settings))
    except HardError as e:
        yield mended("state", str(e))
        return
    yield from model_lines(settings)
    daemon = find(state)
    running = daemon is not None
    url = None
    for found in _address(settings, state, running):
        if isinstance(found, Line):
            yield found
        else:
            url = found
    if url is not None:
        yield from broker_lines(settings, url)
    yield from serial_lines(settings, running)
    yield from camera_lines(settings, daemon.pid if daemon else None)
    yield disk_line(state)
    yield memory_line()
    yield clock_line()
    yield from systemd_lines(state)


def _address(settings: Settings, state: Path, running: bool) -> Iterator[Line | BrokerUrl]:
    """Where the broker is; of an embedded one that does not run, whether it could."""
    try:
        if settings.broker.url is not None:
            yield address(settings.broker.url, settings.broker, os.environ)
        elif running and not runs(state):
            yield fail(
                "broker",
                "these settings name none, and the running daemon has not started the embedded one",
                "name the daemon's: --broker URL, or its settings: --config FILE",
            )
        elif running:
            yield ok("broker", "embedded, run by the daemon")
            yield embedded_address(settings.embedded, state)
        else:
            found = binary()
            try:
                require_free_port(settings.embedded)
            except HardError as e:
                raise HardError(f"{e}, or, where a daemon has it, name its settings: --config FILE") from None
            yield ok("broker", f"embedded: {found}, port {settings.embedded.port} is free")
    except HardError as e:
        text = str(e)
        yield (
            mended("broker", text)
            if "; " in text
            else fail("broker", text, "see README: Brokers, passwords, TLS")
        )


def show(console: Console, line: Line) -> None:
    """A line for a person: PASS, WARN or FAIL, what, and the remedy below."""
    console.print(
        Text.assemble(
            (f"{line.status.upper():5}", COLOURS[line.status]), (f"{line.name:17}", "bold"), line.what
        ),
        soft_wrap=True,
    )
    if line.remedy:
        console.print(Text(f"{'':22}-> {line.remedy}"), soft_wrap=True)
