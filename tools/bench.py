"""Benchmarks of the whole daemon, as processes over a real broker.

python tools/bench.py phones --phones 2000 --codec native --batch-s 0.5 --json
python tools/bench.py sweep
python tools/bench.py naive
python tools/bench.py instances
python tools/bench.py window
python tools/bench.py webcam --json
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import click
import msgspec
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # `python tools/x.py` and `python -m tools.x`

from hard.types import HardError
from tools import bench_instances, bench_webcam
from tools.bench_phones import Load, Report, forward_us, measure
from tools.swarm import DIALECTS

COLUMNS: Final = {
    "phones": "phones", "cpu_us_per_phone_s": "µs / phone-s", "ratio_to_bare_forward": "times bare forward",
    "cpu_share_of_a_core": "of a core", "dropped": "dropped", "kb_per_phone": "kB / phone", "rss_mb": "MB",
}  # fmt: skip

ENGINES: Final = (
    ("torch, float32", "torch", "float32", True),
    ("torch, bfloat16", "torch", "bfloat16", True),
    ("torch, which may not write code", "torch", "float32", False),
    ("ONNX Runtime", "onnx", "float32", True),
    ("ONNX Runtime, which may not write code", "onnx", "float32", False),
)
"""Name, runtime, precision, and whether the process may write code (systemd's MemoryDenyWriteExecute=)."""

Option = Callable[[Callable[..., None]], Callable[..., None]]


def options(*chosen: Option) -> Option:
    def add(command: Callable[..., None]) -> Callable[..., None]:
        for option in reversed(chosen):
            command = option(command)
        return command

    return add


dialect = click.option(
    "--codec",
    "dialect",
    default="native",
    show_default=True,
    type=click.Choice(DIALECTS),
    help="Wire format.",
)
batch = click.option(
    "--batch-s",
    default=0.5,
    show_default=True,
    type=click.FloatRange(min=0.02, max=10),
    help="Seconds of samples a message; 0.02: one sample.",
)
seconds = click.option(
    "--seconds", default=20.0, show_default=True, type=click.FloatRange(min=5), help="Measured time of a run."
)
warm_up = click.option(
    "--warm-up-s", default=64.0, show_default=True, type=click.FloatRange(min=4), help="Not measured."
)
model = click.option("--model", default="lstm-waist", show_default=True)
as_json = click.option("--json", "as_json", is_flag=True, help="JSON on stdout, one object a run.")


def numbers(text: str) -> list[int]:
    try:
        found = [int(n) for n in text.split(",")]
    except ValueError:
        found = []
    if not found or min(found) < 1:
        raise click.BadParameter(f"{text!r}; expected numbers of phones such as 10,100,1000")
    return found


@click.group()
def cli() -> None:
    """Benchmarks of the daemon. Compare ratios within a run: machines differ, and so do their hours."""


@cli.command()
@click.option("--phones", default=2000, show_default=True, type=click.IntRange(min=1))
@options(dialect, batch, seconds, warm_up, model, as_json)
@click.option("--connections", default=1, show_default=True, type=click.IntRange(1, 64), help="Of the load.")
@click.option(
    "--broker", default="mosquitto", show_default=True, type=click.Choice(["mosquitto", "embedded"])
)
@click.option("--profile", is_flag=True, help="Say where the daemon's time goes (py-spy; costs a little).")
def phones(phones: int, profile: bool, as_json: bool, **of_load: object) -> None:
    """CPU, latency, drops and memory with N phones, the load in a process of its own."""
    load = msgspec.convert({"phones": phones, **of_load}, Load)
    report = measure(load, profile_s=load.seconds * 0.8 if profile else 0.0)
    if as_json:
        _print(report)
        return
    for name, value in msgspec.to_builtins(report).items():
        print(f"{name:30} {value}")


@cli.command()
@click.option(
    "--phones",
    "counts",
    default="10,100,1000,5000,10000",
    show_default=True,
    metavar="N,N,...",
    callback=lambda _context, _option, text: numbers(text),
)
@options(dialect, batch, seconds, warm_up, model, as_json)
def sweep(counts: list[int], as_json: bool, **of_load: object) -> None:
    """Cost per phone as the load grows."""
    reports = []
    for n in counts:
        reports.append(measure(msgspec.convert({"phones": n, **of_load}, Load)))
        if as_json:
            _print(reports[-1])
    if not as_json:
        _show(reports)


@cli.command()
@click.option("--phones", default=100, show_default=True, type=click.IntRange(min=1))
@options(batch, seconds, warm_up, model, as_json)
def naive(phones: int, as_json: bool, **of_load: object) -> None:
    """The plain script that most people write (tools/naive_daemon.py) beside `hard`, on the same load."""
    load = msgspec.convert({"phones": phones, "dialect": "json", **of_load}, Load)
    ours = measure(load)
    plain = measure(msgspec.structs.replace(load, daemon="naive"))
    times = round(plain.cpu_us_per_phone_s / ours.cpu_us_per_phone_s, 2)
    if as_json:
        print(
            json.dumps(
                {"hard": msgspec.to_builtins(ours), "naive": msgspec.to_builtins(plain), "times": times}
            )
        )
    else:
        _show([ours, plain])
        print(f"first hard, then the plain script: {times} times the CPU")


@cli.command()
@click.option(
    "--phones", default=1000, show_default=True, type=click.IntRange(min=1), help="Of each instance."
)
@options(batch, seconds, warm_up, model, as_json)
def instances(as_json: bool, **of_load: object) -> None:
    """Two daemons with topics of their own against one: what a second core is worth."""
    result = msgspec.to_builtins(bench_instances.measure(msgspec.convert(of_load, Load)))
    if as_json:
        print(json.dumps(result))
        return
    for name, value in result.items():
        print(f"{name:30} {value}")


@cli.command()
@model
@as_json
def window(model: str, as_json: bool) -> None:
    """CPU of one window, alone and in batches, by each engine; without W^X and with."""
    from hard.torchscript import computes_bfloat16

    rows = {}
    for name, runtime, precision, free in ENGINES:
        if precision == "float32" or computes_bfloat16():
            rows[name] = {n: round(forward_us(model, n, runtime, precision, free), 1) for n in (1, 4, 64)}
    if as_json:
        print(msgspec.json.encode({"us_per_window": rows}).decode())
        return
    table = Table("one window, µs of CPU", "alone", "in batches of 4", "of 64")
    for name, us in rows.items():
        table.add_row(name, *(f"{v:.0f}" for v in us.values()))
    Console().print(table)


@cli.command()
@click.option(
    "--rate", "rate_hz", default=30.0, show_default=True, type=click.FloatRange(5, 120), help="Frames/s."
)
@click.option("--size", default=(640, 480), show_default=True, nargs=2, type=click.IntRange(64, 4096))
@seconds
@click.option("--model", default="lrcn-webcam", show_default=True)
@as_json
def webcam(rate_hz: float, size: tuple[int, int], seconds: float, model: str, as_json: bool) -> None:
    """CPU of a camera's frame and latency of its labels, without a window; and what the cached path saves."""
    report = bench_webcam.measure(rate_hz, *size, seconds, model)
    if as_json:
        print(json.dumps(msgspec.to_builtins(report)))
        return
    for name, value in msgspec.to_builtins(report).items():
        print(f"{name:30} {value}")


def _print(report: Report) -> None:
    print(json.dumps(msgspec.to_builtins(report)), flush=True)


def _show(reports: list[Report]) -> None:
    table = Table(*(*COLUMNS.values(), "p50 / p95 / p99 ms"))
    for report in reports:
        row = msgspec.to_builtins(report)
        table.add_row(
            *(f"{row[name]:,}" for name in COLUMNS), " / ".join(map(str, report.latency_ms.values()))
        )
    Console().print(table)


if __name__ == "__main__":
    try:
        cli()
    except HardError as e:
        sys.exit(f"error: {e}")
