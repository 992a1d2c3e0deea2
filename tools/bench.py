"""Benchmarks of the whole daemon, as processes over a real broker.

python tools/bench.py phones --phones 2000 --codec native --batch-s 0.5 --json
"""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import click
import msgspec
import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # `python tools/x.py` and `python -m tools.x`

from hard.broker import Broker, parse_url
from hard.stats import Counters
from tools.swarm import DEVICE, RATE_HZ, sent_at

ROOT = Path(__file__).resolve().parents[1]
START_S = 30.0
WARM_UP_S = 4.0  # until every phone has had its first windows
DRAIN_S = 3.0
HOP, WINDOW = 64, 128
HOP_S = HOP / RATE_HZ
FORWARD_BATCH = 64


class Report(msgspec.Struct):
    """What `phones` prints; times of the daemon's own process, latency seen by another process."""

    phones: int
    seconds: float
    cpu_us_per_phone_s: float
    latency_ms: dict[str, float]  # from the moment the window's last batch was due, to the subscriber
    daemon_latency_ms: dict[str, float]  # the daemon's own figure: arrival to publishing
    labels: int
    dropped: int  # windows sent whose label did not arrive
    rss_mb: float
    kb_per_phone: float
    bare_forward_us_per_phone_s: float
    ratio_to_bare_forward: float
    load_late_ms: float  # the worst lateness of the load generator itself


@click.group()
def cli() -> None:
    """Benchmarks of the daemon."""


@cli.command()
@click.option("--phones", default=2000, show_default=True, type=click.IntRange(min=1))
@click.option("--codec", default="native", show_default=True, type=click.Choice(["native"]))
@click.option("--batch-s", default=0.5, show_default=True, type=click.FloatRange(min=0.02, max=10))
@click.option(
    "--seconds", default=20.0, show_default=True, type=click.FloatRange(min=5), help="Measured time."
)
@click.option("--model", default="lstm-waist", show_default=True)
@click.option("--json", "as_json", is_flag=True)
def phones(phones: int, codec: str, batch_s: float, seconds: float, model: str, as_json: bool) -> None:  # noqa: ARG001
    """CPU, latency, drops and memory with N phones, over mosquitto, the load in a process of its own."""
    if not shutil.which("mosquitto"):
        raise click.ClickException("mosquitto is not on PATH: apt-get install mosquitto")
    report = _phones(phones, batch_s, seconds, model)
    if as_json:
        print(json.dumps(msgspec.to_builtins(report)))
        return
    for name, value in msgspec.to_builtins(report).items():
        print(f"{name:30} {value}")


def _phones(phones: int, batch_s: float, seconds: float, model: str) -> Report:
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        url = stack.enter_context(mosquitto(Path(folder)))
        listener = Listener(url, stack)
        daemon = stack.enter_context(child("-m", "hard", "run", "--broker", url, "--model", model))
        listener.wait_for_daemon(daemon)
        process = psutil.Process(daemon.pid)
        idle_rss = process.memory_info().rss
        total_s = WARM_UP_S + seconds
        load = stack.enter_context(
            child("tools/swarm.py", "--broker", url, "--phones", str(phones), "--batch-s", str(batch_s),
                  "--seconds", str(total_s), stdout=subprocess.PIPE)
        )  # fmt: skip
        assert load.stdout is not None
        start_s = float(json.loads(load.stdout.readline())["start_s"])
        sleep_until(start_s + WARM_UP_S)
        listener.measuring = True
        cpu_s, began_s = cpu(process), time.monotonic()
        sleep_until(start_s + total_s)
        cpu_s, measured_s = cpu(process) - cpu_s, time.monotonic() - began_s
        listener.measuring = False
        rss = process.memory_info().rss
        sent = json.loads(load.stdout.readline())
        load.wait()
        listener.wait_until_quiet(DRAIN_S)
        count = max(1, round(batch_s * RATE_HZ))
        windows = max(0, (sent["batches"] * count - WINDOW) // HOP + 1) * phones
        latency_ms, own_ms = listener.latencies(start_s, phones, batch_s)
    bare = bare_forward_us(model) / HOP_S
    per_phone = cpu_s / measured_s / phones * 1e6
    return Report(
        phones=phones,
        seconds=round(measured_s, 1),
        cpu_us_per_phone_s=round(per_phone, 1),
        latency_ms=latency_ms,
        daemon_latency_ms=own_ms,
        labels=listener.labels,
        dropped=windows - listener.labels,
        rss_mb=round(rss / 2**20, 1),
        kb_per_phone=round((rss - idle_rss) / 1024 / phones, 2),
        bare_forward_us_per_phone_s=round(bare, 1),
        ratio_to_bare_forward=round(per_phone / bare, 2),
        load_late_ms=sent["late_s"] * 1000,
    )


class _End(msgspec.Struct):
    device_s: float


class _Seen(msgspec.Struct):
    """The part of a label that the benchmark reads."""

    device: str
    window_end: _End
    latency_ms: float


class Listener:
    """A subscriber: when did which label arrive."""

    def __init__(self, url: str, stack: contextlib.ExitStack) -> None:
        self.measuring = False
        self.labels = 0
        self._seen: list[tuple[float, bytes]] = []
        self._newest_s = 0.0
        self._online = False
        broker = Broker(parse_url(url), Counters())
        broker.listen({"hard/+/activity": 0, "hard/status": 0}, self._take)
        broker.start()
        stack.callback(broker.stop)
        if not broker.wait_ready(START_S):
            raise click.ClickException(f"no broker answers at {url}")

    def _take(self, topic: str, payload: bytes) -> None:
        now_s = time.monotonic()
        if topic == "hard/status":
            self._online = payload == b"online"
            return
        self.labels += 1
        self._newest_s = now_s
        if self.measuring:
            self._seen.append((now_s, payload))

    def wait_for_daemon(self, daemon: subprocess.Popen[bytes]) -> None:
        deadline_s = time.monotonic() + START_S
        while not self._online:
            if daemon.poll() is not None or time.monotonic() > deadline_s:
                raise click.ClickException("the daemon did not come online; run `hard run` to see why")
            time.sleep(0.02)

    def wait_until_quiet(self, quiet_s: float) -> None:
        while time.monotonic() - self._newest_s < quiet_s:
            time.sleep(0.1)

    def latencies(
        self, start_s: float, phones: int, batch_s: float
    ) -> tuple[dict[str, float], dict[str, float]]:
        """p50, p95, p99 in ms: due time of the window's last batch to arrival here; and the daemon's own."""
        decode = msgspec.json.Decoder(_Seen).decode
        number = {DEVICE.format(i): i for i in range(phones)}
        end_to_end, own = [], []
        for arrival_s, payload in self._seen:
            label = decode(payload)
            batch = int((label.window_end.device_s + 1e-6) / batch_s)
            due_s = sent_at(start_s, number[label.device], phones, batch, batch_s)
            end_to_end.append((arrival_s - due_s) * 1000)
            own.append(label.latency_ms)
        return percentiles(end_to_end), percentiles(own)


def percentiles(values: list[float]) -> dict[str, float]:
    return {
        f"p{p}": round(float(np.percentile(values, p)), 1) if values else float("nan") for p in (50, 95, 99)
    }


def bare_forward_us(model: str) -> float:
    """CPU µs a window of the model alone, batches of 64, one thread, in a process of its own."""
    code = (
        "import sys, time, numpy as np; from hard.model import load_model\n"
        "m = load_model(sys.argv[1]); w = m.card.windowing; n = int(sys.argv[2])\n"
        "x = np.random.default_rng(0).normal(0, 0.1, (n, w.window, len(m.card.channels))).astype('f4')\n"
        "[m.predict(x) for _ in range(20)]; rounds = []\n"
        "for _ in range(5):\n"
        "    t = time.process_time(); [m.predict(x) for _ in range(40)]\n"
        "    rounds.append((time.process_time() - t) / 40 / n * 1e6)\n"
        "print(sorted(rounds)[2])"
    )
    command = [sys.executable, "-c", code, model, str(FORWARD_BATCH)]
    return float(subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout)


def cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def sleep_until(at_s: float) -> None:
    time.sleep(max(0.0, at_s - time.monotonic()))


@contextlib.contextmanager
def child(*arguments: str, stdout: int = subprocess.DEVNULL) -> Iterator[subprocess.Popen[bytes]]:
    """This Python running something of ours; ended with SIGTERM."""
    process = subprocess.Popen(
        [sys.executable, *arguments], cwd=ROOT, stdout=stdout, stderr=subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(10)


@contextlib.contextmanager
def mosquitto(folder: Path) -> Iterator[str]:
    """A mosquitto on a free loopback port; yields its URL."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = folder / "mosquitto.conf"
    config.write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\nset_tcp_nodelay true\n"
    )
    process = subprocess.Popen(
        ["mosquitto", "-c", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline_s = time.monotonic() + START_S
        while socket.socket().connect_ex(("127.0.0.1", port)) and time.monotonic() < deadline_s:
            time.sleep(0.02)
        yield f"mqtt://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


if __name__ == "__main__":
    cli()
