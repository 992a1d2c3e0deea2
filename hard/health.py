"""How the daemon is: one value for `hard/health`, the HTTP endpoint, STATUS and the support bundle."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

import msgspec

from hard import __version__
from hard.broker import Broker
from hard.daemon.progress import Progress
from hard.runtime import Runtime
from hard.types import Label

LIVE_S: Final = 10.0  # a device is live while its newest sample is younger
RECENT_S: Final = 60.0  # losses are a problem for this long
SHOWN: Final = 3  # labels in the status line

LOAD_DROPS: Final = ("inbox_full", "stale_hop", "outbox_full", "too_many_devices", "frame_replaced")
"""The losses that mean: this machine, or the broker, does not keep up."""


class SourceHealth(msgspec.Struct, frozen=True):
    """What comes from one source: a port, a camera, or all phones of the broker together."""

    devices: int  # live ones
    rate_hz: float | None  # mean input rate of the live devices
    age_s: float | None  # of the newest sample; None: there was none


class Health(msgspec.Struct, frozen=True):
    """`state`: stuck (a stage stands still), degraded (see `problems`), ok, or stopped."""

    v: int
    state: Literal["ok", "degraded", "stuck", "stopped"]
    ready: bool  # subscribed at the broker
    problems: list[str]
    version: str
    utc: float  # epoch seconds, when this was true
    uptime_s: float
    broker: str  # its URL, without user and password
    connected: bool
    sources: dict[str, SourceHealth]
    models: list[str]
    stages_idle_s: dict[str, float]  # by stage: seconds without progress
    lag_ms: float | None  # from arrival of a window's last sample to its label: the newest label's
    counters: dict[str, int]
    rss_mb: float
    config: str | None  # the file
    config_loaded_utc: float
    config_refused: str | None  # why the newest configuration is not in force


class Examiner:
    """Looks at the running parts. Any thread may ask."""

    def __init__(
        self,
        runtime: Runtime,
        progress: Progress,
        broker: Broker,
        config: str | None,
    ) -> None:
        self._runtime = runtime
        self._progress = progress
        self._broker = broker
        self._config = config
        self._began_s = time.monotonic()
        self.loaded_utc = time.time()
        self.refused: str | None = None
        self._lost: dict[str, tuple[int, float]] = {}  # by counter: its value, when it last grew

    def examine(self, *, stopped: bool = False) -> Health:
        now_s = time.monotonic()
        labels = self._runtime.board.labels()
        stuck = self._progress.stuck(now_s)
        problems = [f"{name} stands still" for name in stuck] + self._problems(now_s)
        of_windows = [label for label in labels if label.latency_ms]
        newest = max(of_windows, key=lambda label: label.prediction.arrival_s, default=None)
        return Health(
            v=1,
            state="stopped" if stopped else "stuck" if stuck else "degraded" if problems else "ok",
            ready=self._broker.wait_ready(0) and not stopped,
            problems=problems,
            version=__version__,
            utc=round(time.time(), 3),
            uptime_s=round(now_s - self._began_s, 1),
            broker=str(self._broker.url),
            connected=self._broker.connected,
            sources=self.sources(labels, now_s),
            models=self._runtime.models(),
            stages_idle_s={name: round(s, 1) for name, s in self._progress.idle_s(now_s).items()},
            lag_ms=None if newest is None else round(newest.latency_ms, 1),
            counters=self._runtime.counters.snapshot(),
            rss_mb=round(resident_bytes() / 2**20, 1),
            config=self._config,
            config_loaded_utc=round(self.loaded_utc, 3),
            config_refused=self.refused,
        )

    def stuck(self) -> list[str]:
        """The stages that stand still, and so the reasons for systemd to start us anew."""
        return self._progress.stuck(time.monotonic())

    def sources(self, labels: Sequence[Label], now_s: float) -> dict[str, SourceHealth]:
        """By source; bounded, since phones count as one."""
        named = {name for names in self._runtime.named_sources.values() for name in names()}
        groups: dict[str, list[Label]] = {name: [] for name in sorted(named)}
        for label in labels:
            device = label.prediction.device
            groups.setdefault(device if device in named else "mqtt", []).append(label)
        return {name: _source(group, now_s) for name, group in groups.items()}

    def _problems(self, now_s: float) -> list[str]:
        found = [problem() for problem in list(self._runtime.problems.values())]
        out = [text for text in found if text]
        if self.refused:
            out.append(f"configuration refused: {self.refused}")
        return out + [f"losing data: {name}" for name in self._recent(now_s)]

    def _recent(self, now_s: float) -> list[str]:
        """The counters of load shed that grew within the last minute."""
        out: list[str] = []
        for name in LOAD_DROPS:
            n = self._runtime.counters[name]
            before, grew_s = self._lost.get(name, (0, -RECENT_S))
            if n > before:
                grew_s = now_s
                self._lost[name] = n, now_s
            if now_s - grew_s < RECENT_S:
                out.append(name)
        return out


def status_line(h: Health, labels: Sequence[Label]) -> str:
    """For `systemctl status`: mqtt 2 devices 49.8 Hz; alice walking 0.93, bob sitting 0.88; lag 80 ms."""
    sources = [
        f"{name} {s.devices} device{'s' * (s.devices != 1)}" + (f" {s.rate_hz:.1f} Hz" if s.rate_hz else "")
        for name, s in h.sources.items()
    ]
    newest = sorted(labels, key=lambda label: -label.prediction.arrival_s)
    shown = [f"{x.prediction.device} {x.activity} {x.confidence:.2f}" for x in newest[:SHOWN]]
    more = [f"{len(labels) - SHOWN} more"] if len(labels) > SHOWN else []
    lag = f"lag {h.lag_ms:.0f} ms" if h.lag_ms is not None else ""
    parts = ["; ".join(h.problems), ", ".join(sources) or "no data yet", ", ".join(shown + more), lag]
    return "; ".join(filter(None, parts))


def resident_bytes(statm: Path = Path("/proc/self/statm")) -> int:
    """Resident memory of this process; 0 where the system does not say."""
    try:
        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


def _source(labels: Sequence[Label], now_s: float) -> SourceHealth:
    ages = [now_s - label.prediction.arrival_s for label in labels]
    live = [label.prediction.rate_hz for label, age in zip(labels, ages, strict=True) if age < LIVE_S]
    rates = [hz for hz in live if hz]  # not of those whose samples make no window
    return SourceHealth(
        devices=len(live),
        rate_hz=round(sum(rates) / len(rates), 2) if rates else None,
        age_s=round(min(ages), 2) if ages else None,
    )
