"""Days of recordings through a real daemon, as fast as it keeps up: every label accounted for, memory flat.

python tools/soak.py --hours 24 [--json]
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click
import msgspec
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # `python tools/x.py` and `python -m tools.x`

from hard.codecs.native import encode
from hard.datasets import data_dir
from hard.recordings import read_recording
from hard.stats import Drop
from hard.synthetic import SyntheticPhone
from hard.types import F32, HardError
from tools.lab import FaultError, Lab, wait_for

DEVICES: Final = 24
RATE_HZ: Final = 50
BATCH: Final = 100  # samples a message
WINDOW, HOP = 128, 64
AHEAD: Final = 600  # windows sent whose labels have not come: more would wait in queues
SLOPE_FROM: Final = 0.3  # of the time: allocators have their arenas by then


class Soak(msgspec.Struct):
    """`slope`: a straight line through resident memory, after the first third."""

    hours: float  # of recordings
    took_s: float
    speed: float  # times real time of one device
    windows: int
    labels: int
    missing: int
    drops: dict[str, int]
    rss_mb: tuple[float, float, float]  # least, most, last
    slope_mb_per_hour: float  # of the clock on the wall
    slope_mb_per_day: float  # of recordings
    source: str


def recordings() -> tuple[str, list[F32]]:
    """The samples of all HAPT recordings; synthetic ones where they are absent."""
    try:
        files = sorted((data_dir() / "hapt/RawData").glob("acc_exp*"))
    except HardError:
        files = []
    if files:
        return "HAPT", [read_recording(p).samples for p in files]
    return "synthetic", [SyntheticPhone(n).read(0, 15_000)[1] for n in range(16)]


def batches(samples: list[F32], device: int) -> Iterator[F32]:
    """One recording after the other, for ever, from a place of its own; batches of BATCH samples."""
    at = device
    rest = np.zeros((0, 6), np.float32)
    while True:
        rest = np.concatenate([rest, samples[at % len(samples)]])
        at += 1
        whole = len(rest) // BATCH * BATCH
        for i in range(0, whole, BATCH):
            yield rest[i : i + BATCH]
        rest = rest[whole:]


def windows(samples: int) -> int:
    """How many a device of exactly 50 Hz completes."""
    return max(0, (samples - WINDOW) // HOP + 1)


def soak(hours: float) -> Soak:
    """Play; FaultError where labels stay away."""
    source, samples = recordings()
    rounds = int(hours * 3600 * RATE_HZ / BATCH / DEVICES)
    with tempfile.TemporaryDirectory() as folder, Lab(Path(folder)) as lab:
        lab.start_broker()
        lab.start_daemon()
        lab.wait_health("the daemon", lambda h: h.ready)
        got = [0]
        lab.count_labels(got)
        phone = lab.client()
        phone.wait_ready(5.0)
        players = [batches(samples, n) for n in range(DEVICES)]
        memory: list[tuple[float, float]] = []
        began_s = time.monotonic()
        for k in range(rounds):
            t = (k * BATCH + np.arange(BATCH)) / RATE_HZ
            for n, player in enumerate(players):
                phone.publish(f"hard/soak-{n:02d}/imu", encode(t, next(player)), qos=1)
            due = windows((k + 1) * BATCH) * DEVICES
            wait_for(lambda d=due: d - got[0] < AHEAD, f"labels ({got[0]} of {due} came)")  # type: ignore[misc]
            now_s = time.monotonic() - began_s
            if not memory or now_s - memory[-1][0] > 0.5:
                memory.append((now_s, lab.rss_mb()))
        total = windows(rounds * BATCH) * DEVICES
        wait_for(lambda: got[0] >= total, f"the last labels ({got[0]} of {total} came)")
        took_s = time.monotonic() - began_s
        health = lab.wait_health("the last report", lambda h: h.counters.get("labels", 0) >= total)
        memory.append((took_s, lab.rss_mb()))
    late = np.array([m for m in memory if m[0] >= SLOPE_FROM * took_s])
    slope = float(np.polyfit(late[:, 0], late[:, 1], 1)[0]) * 3600 if len(late) > 2 else 0.0
    played_h = rounds * BATCH * DEVICES / RATE_HZ / 3600
    used = [mb for _, mb in memory]
    return Soak(
        hours=round(played_h, 2),
        took_s=round(took_s, 1),
        speed=round(played_h * 3600 / took_s),
        windows=total,
        labels=got[0],
        missing=total - got[0],
        drops={str(d): n for d in Drop if (n := health.counters.get(str(d), 0))},
        rss_mb=(round(min(used), 1), round(max(used), 1), round(used[-1], 1)),
        slope_mb_per_hour=round(slope, 2),
        slope_mb_per_day=round(slope / 3600 * took_s / played_h * 24, 3),
        source=source,
    )


@click.command()
@click.option(
    "--hours", default=24.0, show_default=True, type=click.FloatRange(min=0.05), help="Of recordings."
)
@click.option("--json", "as_json", is_flag=True)
def main(hours: float, as_json: bool) -> None:
    """Exit status 1 where a label is missing or something was dropped."""
    try:
        result = soak(hours)
    except FaultError as e:
        raise click.ClickException(str(e)) from None
    if as_json:
        print(json.dumps(msgspec.to_builtins(result)))
    else:
        for name, value in msgspec.to_builtins(result).items():
            print(f"{name:20} {value}")
    sys.exit(bool(result.missing or result.drops))


if __name__ == "__main__":
    main()
