"""The daemon under a load of phones: processes over a real broker, seen from outside."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal

import click
import msgspec
import numpy as np
import psutil

from hard.broker import Broker, parse_url
from hard.card import find_model
from hard.stats import Counters
from tools.swarm import DEVICE, HOP, RATE_HZ, UTC_S, first_batch, sent_at

ROOT: Final = Path(__file__).resolve().parents[1]
START_S: Final = 30.0
DRAIN_S: Final = 3.0
WINDOW: Final = 128
HOP_S: Final = HOP / RATE_HZ
FORWARD_BATCH: Final = 64


class Load(msgspec.Struct, frozen=True):
    """What to measure, and on what."""

    phones: int
    dialect: str = "native"
    batch_s: float = 0.5
    seconds: float = 20.0
    warm_up_s: float = 64.0  # in 60 s everybody has walked: until then, who lies costs more (see Placement)
    connections: int = 1
    model: str = "lstm-waist"
    broker: Literal["mosquitto", "embedded"] = "mosquitto"
    daemon: Literal["hard", "naive"] = "hard"


class Report(msgspec.Struct):
    """What came out; CPU of the daemon's own process, latency seen by another process."""

    phones: int
    dialect: str
    batch_s: float
    seconds: float
    cpu_us_per_phone_s: float
    cpu_share_of_a_core: float
    latency_ms: dict[str, float]  # from the moment the window's last batch was due, to the subscriber
    daemon_latency_ms: dict[str, float]  # the daemon's own figure: arrival to publishing
    labels: int
    dropped: int  # windows sent whose label did not arrive
    rss_mb: float
    kb_per_phone: float  # beyond what it has without phones
    bare_forward_us_per_phone_s: float
    ratio_to_bare_forward: float
    load_late_ms: float  # the worst lateness of the load generator itself
    where: dict[str, float] | None = None  # share of the daemon's CPU by stage, of a profile


def measure(load: Load, profile_s: float = 0.0) -> Report:
    """Start broker, daemon and load, wait for warm-up, measure, and count every label."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        url, daemon, listener = _start(load, Path(folder), stack)
        process = psutil.Process(daemon.pid)
        idle_rss = process.memory_info().rss
        total_s = load.warm_up_s + load.seconds
        swarm = stack.enter_context(
            child("tools/swarm.py", "--broker", url, "--phones", str(load.phones), "--dialect", load.dialect,
                  "--batch-s", str(load.batch_s), "--seconds", str(total_s),
                  "--connections", str(load.connections), stdout=subprocess.PIPE)
        )  # fmt: skip
        assert swarm.stdout is not None
        start_s = float(json.loads(swarm.stdout.readline())["start_s"])
        sleep_until(start_s + load.warm_up_s)
        listener.measuring = True
        cpu_s, began_s = cpu(process), time.monotonic()
        where = profile(daemon.pid, profile_s) if profile_s else None
        sleep_until(start_s + total_s)
        cpu_s, measured_s = cpu(process) - cpu_s, time.monotonic() - began_s
        listener.measuring = False
        rss = process.memory_info().rss
        sent = json.loads(swarm.stdout.readline())
        swarm.wait()
        listener.wait_until_quiet(DRAIN_S)
        windows = windows_sent(sent["batches"], load)
        latency_ms, own_ms = listener.latencies(start_s, load)
    bare = forward_us(load.model, FORWARD_BATCH) / HOP_S
    per_phone = cpu_s / measured_s / load.phones * 1e6
    return Report(
        phones=load.phones,
        dialect=load.dialect,
        batch_s=load.batch_s,
        seconds=round(measured_s, 1),
        cpu_us_per_phone_s=round(per_phone, 1),
        cpu_share_of_a_core=round(cpu_s / measured_s, 3),
        latency_ms=latency_ms,
        daemon_latency_ms=own_ms,
        labels=listener.labels,
        dropped=windows - listener.labels,
        rss_mb=round(rss / 2**20, 1),
        kb_per_phone=round((rss - idle_rss) / 1024 / load.phones, 2),
        bare_forward_us_per_phone_s=round(bare, 1),
        ratio_to_bare_forward=round(per_phone / bare, 2),
        load_late_ms=round(sent["late_s"] * 1000, 1),
        where=where,
    )


def windows_sent(batches: int, load: Load) -> int:
    """How many windows are complete when so many batches have been sent."""
    count = max(1, round(load.batch_s * RATE_HZ))
    samples = ((batches - first_batch(phone, load.batch_s)) * count for phone in range(load.phones))
    return sum(max(0, (n - WINDOW) // HOP + 1) for n in samples)


def _start(
    load: Load, folder: Path, stack: contextlib.ExitStack
) -> tuple[str, subprocess.Popen[bytes], Listener]:
    """Broker, daemon and listener, all ready."""
    if load.broker == "embedded":
        port = free_port()
        url = f"mqtt://127.0.0.1:{port}"
        config = folder / "hard.yaml"
        settings = {"embedded": {"port": port}, "state_dir": f"{folder}/state", "imu": {"model": load.model}}
        config.write_text(json.dumps(settings))
        daemon = stack.enter_context(child("-m", "hard", "run", "--config", str(config)))
        wait_for_port(port)
    else:
        url = stack.enter_context(mosquitto(folder))
        port = int(url.rsplit(":", 1)[1])
        command = ["-m", "hard", "run", "--broker", url, "--model", load.model]
        if load.daemon == "naive":
            command = ["tools/naive_daemon.py", "127.0.0.1", str(port), str(find_model(load.model))]
        daemon = stack.enter_context(child(*command))
    listener = Listener(url, stack)
    listener.wait_for_daemon(daemon)
    return url, daemon, listener


class _End(msgspec.Struct):
    device_s: float


class _Seen(msgspec.Struct):
    """The part of a label that the benchmark reads."""

    device: str
    window_end: _End
    latency_ms: float


class Listener:
    """A subscriber: when did which label arrive."""

    def __init__(self, url: str, stack: contextlib.ExitStack, prefix: str = "hard") -> None:
        self._status = f"{prefix}/status"
        self.measuring = False
        self.labels = 0
        self._seen: list[tuple[float, bytes]] = []
        self._newest_s = 0.0
        self._online = False
        broker = Broker(parse_url(url), Counters())
        broker.listen({f"{prefix}/+/activity": 0, self._status: 0}, self._take)
        broker.start()
        stack.callback(broker.stop)
        if not broker.wait_ready(START_S):
            raise click.ClickException(f"no broker answers at {url}")

    def _take(self, topic: str, payload: bytes) -> None:
        now_s = time.monotonic()
        if topic == self._status:
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

    def latencies(self, start_s: float, load: Load) -> tuple[dict[str, float], dict[str, float]]:
        """p50, p95, p99 in ms: due time of the window's last batch to arrival here; and the daemon's own."""
        if load.daemon == "naive":  # whose labels do not say of which window they are
            return {}, {}
        decode = msgspec.json.Decoder(_Seen).decode
        number = {DEVICE.format(i): i for i in range(load.phones)}
        clock_s = UTC_S if load.dialect == "sensor-logger" else 0.0
        end_to_end, own = [], []
        for arrival_s, payload in self._seen:
            label = decode(payload)
            batch = int((label.window_end.device_s - clock_s + 1e-5) / load.batch_s)
            due_s = sent_at(start_s, number[label.device], load.phones, batch, load.batch_s)
            end_to_end.append((arrival_s - due_s) * 1000)
            own.append(label.latency_ms)
        return percentiles(end_to_end), percentiles(own)


def percentiles(values: list[float]) -> dict[str, float]:
    return {
        f"p{p}": round(float(np.percentile(values, p)), 1) if values else float("nan") for p in (50, 95, 99)
    }


STAGES: Final = {
    "hard/torchscript.py": "forward", "hard/onnx.py": "forward",
    "hard/codecs": "decode", "hard/router.py": "decode", "hard/align.py": "decode",
    "hard/imu.py": "windows", "hard/stream.py": "windows", "hard/waiting.py": "windows",
    "hard/dsp.py": "windows",
    "hard/recognizer.py": "predictions", "hard/novelty.py": "predictions",
    "hard/history.py": "labels", "hard/smoothing.py": "labels", "hard/sinks": "publish",
    "hard/broker.py": "broker", "hard/mqtt/client.py": "broker", "paho": "broker", "hard/totals.py": "totals",
}  # fmt: skip


WAITS: Final = ("wait (threading.py", "select (selectors.py", "_loop (paho/mqtt/client.py")
"""Innermost frames of threads that wait, which py-spy does not tell from work everywhere."""


def profile(pid: int, seconds: float) -> dict[str, float]:
    """Share of a running Python process's work by stage: the innermost file that is ours (py-spy)."""
    py_spy = Path(sys.executable).with_name("py-spy")
    if not py_spy.exists():
        raise click.ClickException("--profile needs py-spy: pip install py-spy")
    with tempfile.NamedTemporaryFile("r") as out:
        command = [str(py_spy), "record", "-p", str(pid), "-d", str(round(seconds)), "-r", "250", "-f", "raw"]
        done = subprocess.run([*command, "-o", out.name], capture_output=True, text=True, check=False)
        if done.returncode:
            raise click.ClickException(f"py-spy: {done.stderr.strip().splitlines()[-1]}")
        found: Counter[str] = Counter()
        for line in out:
            frames, _, n = line.rpartition(" ")
            stack = frames.split(";")
            if not any(place in stack[-1] for place in WAITS):
                found[_stage(stack)] += int(n)
    total = sum(found.values())
    return {stage: round(n / total, 3) for stage, n in found.most_common()}


def _stage(frames: list[str]) -> str:
    for frame in reversed(frames):
        for place, stage in STAGES.items():
            if place in frame:
                return stage
    return "other"


def forward_us(
    model: str, batch: int, runtime: str = "torch", precision: str = "auto", may_write_code: bool = True
) -> float:
    """CPU µs a window of the model alone, one thread, in a process of its own; see `bench.py window`.

    NaN where the process is not to write code and the kernel cannot forbid it.
    """
    command = [sys.executable, "tools/bare_forward.py", model, str(batch), runtime, precision]
    command += [] if may_write_code else ["--no-code"]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    if done.returncode:
        raise click.ClickException(done.stderr.strip().splitlines()[-1])
    return float(done.stdout)


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


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(port: int) -> None:
    deadline_s = time.monotonic() + START_S
    while time.monotonic() < deadline_s:
        with socket.socket() as probe:
            if not probe.connect_ex(("127.0.0.1", port)):
                return
        time.sleep(0.02)


@contextlib.contextmanager
def mosquitto(folder: Path) -> Iterator[str]:
    """A mosquitto on a free loopback port; yields its URL."""
    if not shutil.which("mosquitto"):
        raise click.ClickException("mosquitto is not on PATH: apt-get install mosquitto")
    port = free_port()
    config = folder / "mosquitto.conf"
    config.write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\nset_tcp_nodelay true\n"
    )
    process = subprocess.Popen(
        ["mosquitto", "-c", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_for_port(port)
        yield f"mqtt://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)
