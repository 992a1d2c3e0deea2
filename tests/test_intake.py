"""What the daemon calls its serial ports, over a real pty."""

from __future__ import annotations

import contextlib
import os
import pty
import tty
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import wait_for
from hard.daemon.intake import Intake
from hard.handoff import Inbox
from hard.runtime import Runtime, Stop
from hard.settings import SerialSourceSettings, SourcesSettings
from hard.sources.ports import PortNames


@pytest.fixture
def board() -> Iterator[tuple[int, str]]:
    """The board's end of a pty, and the path of the port."""
    main, side = pty.openpty()
    tty.setraw(side)
    yield main, os.ttyname(side)
    os.close(main)
    os.close(side)


def serial(port: str, device: str | None = None, baud: int = 115_200) -> SourcesSettings:
    return SourcesSettings(
        enabled=("serial",), serial=SerialSourceSettings(port=port, device=device, baud=baud)
    )


@pytest.mark.parametrize("linked", [False, True])
def test_a_port_keeps_its_name_when_its_link_comes_or_goes(
    board: tuple[int, str], tmp_path: Path, linked: bool
) -> None:
    """udev makes the link a moment after the board is there, and takes it away with the board."""
    main, port = board
    link, plain, settings = tmp_path / "usb-Arduino_Nano-if00", Path(port).name, serial(port)
    if linked:
        link.symlink_to(port)
    name, other_name = ("Arduino_Nano", plain) if linked else (plain, "Arduino_Nano")
    with contextlib.ExitStack() as stack:
        runtime = Runtime(Stop(), stack)
        inbox = Inbox(100, 1 << 20, runtime.counters)
        intake = Intake(settings, None, inbox, runtime, PortNames(tmp_path))  # type: ignore[arg-type]
        codecs = intake.codecs
        stack.callback(intake.stop)
        intake.start()
        wait_for(lambda: runtime.counters["serial_opened"] == 1, what="the port")
        link.unlink() if linked else link.symlink_to(port)

        intake.change(settings, intake.prepare(settings))  # a reload that changes nothing
        assert intake.codecs == codecs
        assert list(intake.named) == [name]
        os.write(main, b"x\n1\n")
        (message,) = wait_for(lambda: inbox.drain(0.01), what="a line")
        assert message.topic == f"serial/{name}"
        assert runtime.counters["serial_opened"] == 1

        slower = serial(port, baud=9600)
        intake.change(slower, intake.prepare(slower))  # other settings, the same port
        assert list(intake.named) == [name]
        for changed in (serial(port, "mine"), settings):
            intake.change(changed, intake.prepare(changed))
        assert list(intake.named) == [other_name]  # a name that had gone is found out anew
