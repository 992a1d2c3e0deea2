"""A daemon, a broker, a phone and a listener, as real processes and threads, for tools/faults.py."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import msgspec
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # `python tools/x.py` and `python -m tools.x`

from hard.broker import Broker, BrokerUrl
from hard.codecs.native import encode
from hard.health import Health
from hard.stats import Counters
from hard.synthetic import SyntheticPhone

ROOT: Final = Path(__file__).resolve().parents[1]
START_S: Final = 40.0
PATIENCE_S: Final = 60.0
BATCH_S: Final = 0.5


class FaultError(Exception):
    """What should have happened has not; the text says what."""


class Seen(msgspec.Struct, frozen=True):
    """A label as it came."""

    at_s: float  # monotonic
    seq: int
    utc: str  # of the window's end
    latency_ms: float


class Lab:
    """Everything in one temporary folder. Owner: one thread."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port, self.http = free_port(), free_port()
        self.url = f"mqtt://127.0.0.1:{self.port}"
        self.state = folder / "state"
        self.environ = {k: v for k, v in os.environ.items() if not k.startswith("HARD__")} | {
            "HARD__HEALTH__PORT": str(self.http),
            "HARD__TOTALS__WRITE_EVERY_S": "1",
            "HARD__STATE_DIR": str(self.state),
            "PYTHONPATH": str(ROOT),
        }
        self.labels: dict[str, list[Seen]] = {}
        self.log = folder / "daemon.log"
        self.started_s = 0.0  # monotonic, of the daemon's process
        self._stack = contextlib.ExitStack()
        self._mosquitto: subprocess.Popen[bytes] | None = None
        self._daemon: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Lab:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
        self.kill_daemon()
        self.kill_broker()

    # the broker

    def start_broker(self, settings: str = "allow_anonymous true") -> None:
        config = self.folder / "mosquitto.conf"
        config.write_text(f"listener {self.port} 127.0.0.1\nuser root\n{settings}\nmax_queued_messages 0\n")
        if not shutil.which("mosquitto"):
            raise FaultError("mosquitto is not on PATH: apt-get install mosquitto")
        self._mosquitto = subprocess.Popen(["mosquitto", "-c", str(config)], stderr=subprocess.DEVNULL)
        wait_for(lambda: listening(self.port), "mosquitto")

    def signal_broker(self, number: signal.Signals) -> None:
        assert self._mosquitto
        self._mosquitto.send_signal(number)

    def kill_broker(self) -> None:
        if self._mosquitto:
            self._mosquitto.send_signal(signal.SIGCONT)
            self._mosquitto.kill()
            self._mosquitto.wait()
            self._mosquitto = None

    # the daemon

    def start_daemon(self, url: str | None = None, **environ: str) -> None:
        command = [sys.executable, "-m", "hard", "run"]
        self.started_s = time.monotonic()
        with self.log.open("ab") as log:
            self._daemon = subprocess.Popen(
                command, cwd=ROOT, stdout=log, stderr=log,
                env=self.environ | {"HARD__BROKER__URL": url or self.url} | environ,
            )  # fmt: skip

    @property
    def daemon(self) -> subprocess.Popen[bytes]:
        assert self._daemon
        return self._daemon

    def kill_daemon(self) -> None:
        if self._daemon:
            self._daemon.kill()
            self._daemon.wait()
            self._daemon = None

    def health(self) -> Health | None:
        """From the daemon's endpoint; None where it does not answer."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.http}/healthz", timeout=2) as answer:
                return msgspec.json.decode(answer.read(), type=Health)
        except urllib.error.HTTPError as e:
            return msgspec.json.decode(e.read(), type=Health)
        except OSError:
            return None

    def wait_health(self, what: str, condition: Callable[[Health], bool]) -> Health:
        found: list[Health] = []

        def good() -> bool:
            health = self.health()
            found[:] = [health] if health else []
            return health is not None and condition(health)

        wait_for(good, what)
        return found[0]

    def rss_mb(self) -> float:
        return float(psutil.Process(self.daemon.pid).memory_info().rss) / 2**20

    def said(self, text: str) -> bool:
        return text in self.log.read_text("utf-8", "replace")

    # phones, and who listens

    def client(self, *filters: str) -> Broker:
        """A connection that comes back within a second."""
        broker = Broker(BrokerUrl("127.0.0.1", self.port), Counters(), max_queued=100_000)
        if filters:
            broker.listen(dict.fromkeys(filters, 0), self._take)
        broker._client.reconnect_delay_set(1, 1)
        broker.start()
        broker._client.reconnect_delay_set(1, 1)
        self._stack.callback(broker.stop)
        return broker

    def listen(self) -> None:
        self.client("hard/+/activity").wait_ready(5.0)

    def count_labels(self, count: list[int]) -> None:
        """Add up the labels with a window behind them in `count[0]`, and keep none: for millions."""

        def take(_topic: str, payload: bytes) -> None:
            count[0] += b'"probabilities":{}' not in payload.replace(b" ", b"")

        broker = Broker(BrokerUrl("127.0.0.1", self.port), Counters())
        broker.listen({"hard/+/activity": 0}, take)
        broker.start()
        self._stack.callback(broker.stop)
        broker.wait_ready(5.0)

    def phone(self, device: str = "alice") -> None:
        """A phone that sends in real time, from now on, whatever happens; what it cannot send is lost."""
        broker, stop = self.client(), threading.Event()
        source, topic = SyntheticPhone(0), f"hard/{device}/imu"

        def run() -> None:
            start_s, sent = time.monotonic(), 0
            while not stop.wait(max(0.0, start_s + (sent + 1) * BATCH_S - time.monotonic())):
                t, samples = source.read(sent * 25, 25)
                broker.publish(topic, encode(t, samples))
                sent += 1

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        self._stack.callback(thread.join, 2.0)
        self._stack.callback(stop.set)

    def next_label(self, since_s: float, device: str = "alice") -> float:
        """Seconds from then (monotonic) until a label of a new window came."""
        old = max((seen.seq for seen in self.labels.get(device, []) if seen.at_s < since_s), default=0)

        def fresh() -> list[Seen]:
            return [s for s in self.labels.get(device, []) if s.at_s >= since_s and s.seq != old]

        wait_for(lambda: bool(fresh()), f"a label of {device}")
        return fresh()[0].at_s - since_s

    def _take(self, topic: str, payload: bytes) -> None:
        if payload:
            label = json.loads(payload)
            seen = Seen(time.monotonic(), label["seq"], label["window_end"]["utc"], label["latency_ms"])
            self.labels.setdefault(topic.split("/")[1], []).append(seen)


class Proxy:
    """TCP to the broker that can fall silent on the connections it has: nothing ends them, nothing comes."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._dead: set[socket.socket] = set()
        self._open: set[socket.socket] = set()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def swallow(self) -> None:
        """From now on whatever the present connections carry is lost."""
        self._dead |= self._open

    def _accept(self) -> None:
        while True:
            client, _ = self._server.accept()
            broker = socket.create_connection(("127.0.0.1", self._target))
            self._open |= {client, broker}
            for source, sink in ((client, broker), (broker, client)):
                threading.Thread(target=self._carry, args=(source, sink), daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if source not in self._dead:
                    sink.sendall(data)
            if source not in self._dead:
                sink.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def small_disk(folder: Path, mode: str = "rw", size: str = "512k") -> Iterator[Path]:
    """A file system of its own; FaultError where this user may not mount one."""
    folder.mkdir(parents=True, exist_ok=True)
    if not may_mount():
        raise FaultError("mounting needs root")
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},{mode}", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False)


def may_mount() -> bool:
    return (
        os.geteuid() == 0
        and subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode == 0
    )


def has_compiler() -> bool:
    return shutil.which("gcc") is not None


def wait_for(condition: Callable[[], bool], what: str, timeout_s: float = PATIENCE_S) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline_s:
            raise FaultError(f"{what} did not come within {timeout_s:g} s")
        time.sleep(0.02)


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def listening(port: int) -> bool:
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0
