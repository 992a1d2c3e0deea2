"""What the main thread does while the others work: the live table on a terminal, or a line a minute."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from rich.console import Console, RenderableType
from rich.live import Live

from hard.runtime import Stop

REFRESH_S: Final = 0.25
REPORT_S: Final = 60.0


def show(
    console: Console,
    frame: Callable[[], RenderableType],
    stop: Stop,
    end_s: float | None,
    check: Callable[[], None] = lambda: None,
) -> None:
    """Redraw the live table until the end (`end_s` in monotonic seconds), calling `check` each time."""
    with Live(frame(), console=console, auto_refresh=False) as live:
        while not stop.event.wait(nap_s(end_s, REFRESH_S)) and not over(end_s):
            check()
            live.update(frame(), refresh=True)
        live.update(frame(), refresh=True)


def report(say: Callable[[], None], stop: Stop, end_s: float | None, check: Callable[[], None]) -> None:
    """Without a terminal: call `check` every second and `say` every minute and at the end."""
    report_s = time.monotonic() + REPORT_S
    while not stop.event.wait(nap_s(end_s, 1.0)) and not over(end_s):
        check()
        if time.monotonic() >= report_s:
            report_s += REPORT_S
            say()
    say()


def nap_s(end_s: float | None, most_s: float) -> float:
    """How long to wait for the next turn: until the end at most."""
    return most_s if end_s is None else max(0.0, min(most_s, end_s - time.monotonic()))


def over(end_s: float | None) -> bool:
    return end_s is not None and time.monotonic() >= end_s
