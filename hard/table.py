"""The live table of devices: labels in, a rich renderable out; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from hard.card import SensorCard, VideoCard
from hard.log import duration
from hard.types import DayTotals, Label

SILENT_S = 10.0
MAX_ROWS = 40
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
    """One row a device: activity, confidence, since, rate, latency, today's totals; below, what was lost."""
    day = datetime.fromtimestamp(utc_s).date().isoformat()
    table = Table(title=title, title_style="bold", title_justify="left", expand=False)
    for column in ("device", "activity", "confidence", "since", "rate", "latency"):
        table.add_column(
            column,
            justify="right" if column in ("since", "rate", "latency") else "left",
            no_wrap=True,
            max_width=44 if column == "activity" else None,  # a reason is longer; payload and log have it all
        )
    table.add_column("today", ratio=1)  # the one that gives way where the terminal is narrow
    for label in labels[:MAX_ROWS]:
        p = label.prediction
        silent_s = utc_s - label.window_end_s
        quiet = silent_s > SILENT_S
        table.add_row(
            p.device,
            Text(
                label.reason or label.activity.replace("_", " "), _COLOURS.get(label.activity, "bright_black")
            ),
            _bar(label.confidence),
            f"silent {duration(silent_s)}" if quiet else duration(utc_s - label.since_s),
            f"{p.rate_hz:.1f} Hz",
            f"{label.latency_ms:.0f} ms",
            _today(totals.get(p.device) if totals else None, day),
            style="dim" if quiet else None,
        )
    lines: list[RenderableType] = [table]
    if not labels:
        lines.append(Text("waiting for the first labels ...", "dim"))
    elif len(labels) > MAX_ROWS:
        lines.append(Text(f"and {len(labels) - MAX_ROWS} more devices", "dim"))
    if drops:
        lines.append(Text("lost: " + ", ".join(f"{name} {n}" for name, n in drops.items()), "red"))
    return Group(*lines)


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
