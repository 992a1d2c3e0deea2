"""The live table of devices: labels in, a rich renderable out; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Literal, NamedTuple

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from hard.card import SensorCard, VideoCard
from hard.log import duration
from hard.types import DayTotals, Label

SILENT_S = 10.0
MAX_ROWS = 40
FRAME_ROWS = 7  # of title, header, borders and the lines below


COLUMNS = ("device", "activity", "confidence", "since", "rate", "latency", "today")
RIGHT = ("since", "rate", "latency")
MAX_DEVICE = 5  # the part of the terminal that names may take
ACTIVITY = (18, 44)  # a reason is longer; payload and log have it all
MIN_TODAY = 16
LEAST_COLUMNS = 2
_COLOURS = {
    "walking": "green",
    "walking_upstairs": "bright_green",
    "walking_downstairs": "cyan",
    "running": "bright_yellow",
    "sitting": "yellow",
    "standing": "blue",
    "laying": "magenta",
}


def render(
    title: str,
    labels: Sequence[Label],
    drops: Mapping[str, int],
    utc_s: float,
    totals: Mapping[str, DayTotals] | None = None,
) -> RenderableType:
    """One row a device: activity, confidence, since, rate, latency, today's totals; below, what was lost.

    As many rows and columns as the terminal has room for; where it has little, the last columns go first.
    """
    return _Devices(title, labels, drops, utc_s, totals or {})


class _Devices(NamedTuple):
    title: str
    labels: Sequence[Label]
    drops: Mapping[str, int]
    utc_s: float
    totals: Mapping[str, DayTotals]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        rows = MAX_ROWS if options.height is None else max(1, min(MAX_ROWS, options.height - FRAME_ROWS))
        shown = self.labels[:rows]
        cells = [self._row(label) for label in shown]
        title = Text(self.title, "bold", no_wrap=True, overflow="ellipsis")
        table = Table(title=title, title_style="none", title_justify="left", expand=False)
        widths = _widths(cells, options.max_width)
        for name, width in zip(COLUMNS, widths, strict=False):
            justify: Literal["left", "right"] = "right" if name in RIGHT else "left"
            table.add_column(name, justify=justify, no_wrap=True, overflow="ellipsis", width=width)
        for label, row in zip(shown, cells, strict=True):
            quiet = self.utc_s - label.window_end_s > SILENT_S
            table.add_row(*row[: len(widths)], style="dim" if quiet else None)
        yield table
        if not self.labels:
            yield Text("waiting for the first labels ...", "dim")
        elif len(self.labels) > rows:
            yield Text(f"and {len(self.labels) - rows} more devices", "dim")
        if self.drops:
            lost = ", ".join(f"{name} {n}" for name, n in self.drops.items())
            yield Text(f"lost: {lost}", "red", no_wrap=True, overflow="ellipsis")

    def _row(self, label: Label) -> list[Text]:
        p = label.prediction
        silent_s = self.utc_s - label.window_end_s
        since = (
            f"silent {duration(silent_s)}" if silent_s > SILENT_S else duration(self.utc_s - label.since_s)
        )
        day = datetime.fromtimestamp(self.utc_s).date().isoformat()
        colour = _COLOURS.get(label.activity, "bright_black")
        return [
            Text(p.device),
            Text(label.reason or label.activity.replace("_", " "), colour),
            _bar(label.confidence),
            Text(since),
            Text(f"{p.rate_hz:.1f} Hz"),
            Text(f"{label.latency_ms:.0f} ms"),
            _today(self.totals.get(p.device), day),
        ]


def _widths(cells: Sequence[Sequence[Text]], room: int) -> list[int]:
    """Of the first columns, as many as there is room for; activity and today take what is left."""
    widths = [max(len(name), *(row[i].cell_len for row in cells), 0) for i, name in enumerate(COLUMNS)]
    most = widths[1], widths[-1]
    widths[0] = min(widths[0], max(12, room // MAX_DEVICE))
    widths[1], widths[-1] = ACTIVITY[0], MIN_TODAY
    while len(widths) > LEAST_COLUMNS and sum(widths) + 3 * len(widths) + 1 > room:
        widths.pop()
    left = room - (sum(widths) + 3 * len(widths) + 1)
    wider = max(0, min(left, min(most[0], ACTIVITY[1]) - ACTIVITY[0]))
    widths[1] += wider
    if len(widths) == len(COLUMNS):
        widths[-1] += max(0, min(left - wider, most[1] - MIN_TODAY))
    return widths


def _today(totals: DayTotals | None, day: str) -> Text:
    """What took longest today: walking 12m, sitting 1h05."""
    text = Text(no_wrap=True, overflow="ellipsis")
    if totals is not None and totals.day == day:
        most = sorted(totals.seconds.items(), key=lambda item: -item[1])
        text.append(", ".join(f"{name.replace('_', ' ')} {_short(s)}" for name, s in most[:3]))
    return text


def _short(seconds: float) -> str:
    """45s, 12m, 1h05."""
    minutes = int(seconds) // 60
    if minutes < 1:
        return f"{int(seconds)}s"
    return f"{minutes}m" if minutes < 60 else f"{minutes // 60}h{minutes % 60:02d}"


def _bar(share: float) -> Text:
    full = round(share * 10)
    return Text.assemble(("━" * full, "green"), ("━" * (10 - full), "bright_black"), f" {share:4.0%}")


def describe(folder: Path, card: SensorCard | VideoCard) -> RenderableType:
    """A model's card for a person."""
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column()
    facts.add_row("labels", Text(", ".join(card.labels)))
    facts.add_row("input", Text(f"{card.input}; {_timing(card)}"))
    facts.add_row("size", f"{card.parameters:,} parameters, sha256 {card.sha256[:12]}")
    facts.add_row("for", Text(card.intended_use))
    if isinstance(card, SensorCard) and card.worn:
        up, within = ", ".join(f"{v:g}" for v in card.worn.up), card.worn.within_deg
        facts.add_row("worn", f"({up}) up within {within:g} degrees; otherwise imu.elsewhere_model is taken")
    for limit in card.limitations:
        facts.add_row("not for", Text(limit))
    for f in card.figures:
        n = f" (n {f.n:,})" if f.n else ""
        facts.add_row(f.metric, Text.assemble(f"{f.value:g}  {f.data}{n}\n", (f.command, "dim")))
    facts.add_row("licence", Text(card.licence))
    facts.add_row("folder", Text(str(folder)))
    return Group(Text(f"{card.name}", "bold"), Text(card.summary), facts, Text(""))


def _timing(card: SensorCard | VideoCard) -> str:
    if isinstance(card, SensorCard):
        w = card.windowing
        return f"{w.window} samples at {w.rate_hz:g} Hz, hop {w.hop}"
    return f"{card.clip.frames} frames at {card.clip.rate_hz:g} Hz"
