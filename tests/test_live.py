"""Real recordings through a real mosquitto: live equals offline, and presence never lies."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from conftest import Hard, free_port, start_mosquitto, wait_for
from hard.broker import Broker, BrokerUrl
from hard.codecs.native import encode
from hard.phones import play
from hard.recordings import Recording, read_recording
from hard.stats import Counters
from hard.synthetic import SyntheticPhone
from test_daemon import Subscriber

pytestmark = pytest.mark.mosquitto


@pytest.fixture
def subscriber(mosquitto: int) -> Iterator[Subscriber]:
    made = Subscriber(mosquitto, "hard/+/activity", "hard/status")
    yield made
    made.broker.stop()


@pytest.fixture
def daemon(hard: Hard, mosquitto: int, subscriber: Subscriber):
    process = hard.start("run", "--broker", f"mqtt://127.0.0.1:{mosquitto}")
    wait_for(lambda: subscriber.last("hard/status") == b"online", what="online")
    return process


def live(seen: Subscriber, device: str) -> list[tuple[float, str, str]]:
    """Window end, raw and steady activity."""
    return [
        (label["window_end"]["device_s"], label["raw"]["activity"], label["activity"])
        for label in seen.labels(device)
    ]


def offline(hard: Hard, path: Path) -> list[tuple[float, str, str]]:
    done = hard.run("classify", str(path), "--json")
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return [(round(line["t_end"], 6), line["raw"]["activity"], line["activity"]) for line in lines]


@pytest.mark.data
@pytest.mark.parametrize(
    "name",
    [
        "hapt/RawData/acc_exp03_user02.txt.gz",  # a test user
        "motionsense/A_DeviceMotion_data/wlk_15/sub_3.csv.gz",
    ],
)
def test_live_equals_offline_at_speed_20(
    hard: Hard, daemon, subscriber: Subscriber, mosquitto: int, data: Path, name: str
) -> None:
    path = data / name
    expected = offline(hard, path)
    url = f"mqtt://127.0.0.1:{mosquitto}"
    done = hard.run("replay", str(path), "--as", "alice", "--speed", "20", "--broker", url)
    assert done.returncode == 0, done.stderr
    wait_for(lambda: len(live(subscriber, "alice")) >= len(expected), what="the last label")
    assert live(subscriber, "alice") == expected
    assert len(expected) > 5


@pytest.mark.data
@pytest.mark.parametrize("size", [1, 7, 200])
def test_live_labels_do_not_depend_on_message_size(
    hard: Hard, daemon, subscriber: Subscriber, mosquitto: int, data: Path, size: int
) -> None:
    path = data / "hapt/RawData/acc_exp07_user04.txt.gz"
    recording = read_recording(path)
    expected = offline(hard, path)
    phone = Broker(BrokerUrl("127.0.0.1", mosquitto), Counters(), max_queued=1_000_000)
    phone.start()
    assert phone.wait_ready(10)
    for at in range(0, len(recording.t), size):
        part = slice(at, at + size)
        assert phone.publish("hard/bob/imu", encode(recording.t[part], recording.samples[part]))
    assert phone.flush(30)
    phone.stop()
    wait_for(lambda: len(live(subscriber, "bob")) >= len(expected), what="the last label")
    assert live(subscriber, "bob") == expected


def test_presence_is_online_then_stopped(daemon, subscriber: Subscriber, mosquitto: int) -> None:
    daemon.send_signal(signal.SIGTERM)
    daemon.communicate(timeout=10)
    assert daemon.returncode == 0
    wait_for(lambda: subscriber.last("hard/status") == b"stopped", what="stopped")
    late = Subscriber(mosquitto, "hard/status")
    assert wait_for(lambda: late.last("hard/status")) == b"stopped"  # retained
    late.broker.stop()


def test_presence_of_a_killed_daemon_is_offline(daemon, subscriber: Subscriber) -> None:
    daemon.kill()
    wait_for(lambda: subscriber.last("hard/status") == b"offline", what="the last will")


def test_labels_are_retained(daemon, mosquitto: int, hard: Hard) -> None:
    url = f"mqtt://127.0.0.1:{mosquitto}"
    send_synthetic(mosquitto, "carol")
    late = wait_for(lambda: retained(mosquitto, "hard/carol/activity"), what="a retained label")
    assert json.loads(late)["device"] == "carol"
    assert hard.run("watch", "--broker", url, "--for", "1").returncode == 0


def test_the_daemon_goes_on_when_the_broker_returns(
    hard: Hard, daemon, subscriber: Subscriber, mosquitto: int, tmp_path: Path
) -> None:
    (broker,) = [p for p in psutil.Process().children() if p.name() == "mosquitto"]
    broker.kill()
    broker.wait()
    wait_for(lambda: not subscriber.broker.connected, what="the loss of the broker")
    again = start_mosquitto(tmp_path, mosquitto)
    try:
        subscriber.messages.clear()
        wait_for(lambda: subscriber.last("hard/status") == b"online", timeout_s=40, what="online again")
        send_synthetic(mosquitto, "dave")
        wait_for(lambda: subscriber.labels("dave"), what="labels again")
    finally:
        again.kill()
        again.wait()


def test_a_second_daemon_that_ends_does_not_make_the_first_one_look_stopped(
    hard: Hard, mosquitto: int, subscriber: Subscriber, daemon, tmp_path: Path
) -> None:
    other = hard.start(
        "run", "--broker", f"mqtt://127.0.0.1:{mosquitto}",
        HARD__STATE_DIR=str(tmp_path / "other"), HARD__HEALTH__PORT=str(free_port()),
    )  # fmt: skip
    status = lambda: [payload for topic, payload in subscriber.messages if topic == "hard/status"]  # noqa: E731
    wait_for(lambda: status() == [b"online", b"online"], what="the second one")
    other.send_signal(signal.SIGINT)
    assert other.wait(15) == 0
    wait_for(lambda: status() == [b"online", b"online", b"stopped", b"online"], what="online again")
    daemon.send_signal(signal.SIGINT)
    assert daemon.wait(15) == 0
    assert status()[-1] == b"stopped"


def test_a_broker_that_is_absent_at_start_is_waited_for(hard: Hard, port: int, tmp_path: Path) -> None:
    process = hard.start("run", "--broker", f"mqtt://127.0.0.1:{port}")
    assert process.stderr
    lines = iter(process.stderr.readline, "")
    assert any("cannot connect: Connection refused; trying again" in line for line in lines)
    broker = start_mosquitto(tmp_path, port)
    try:
        assert any("connected to" in line for line in lines)
        process.terminate()
        process.communicate(timeout=10)
        assert process.returncode == 0
    finally:
        broker.kill()
        broker.wait()


def send_synthetic(port: int, device: str) -> None:
    phone = Broker(BrokerUrl("127.0.0.1", port), Counters())
    phone.start()
    assert phone.wait_ready(10)
    recording = Recording(device, *SyntheticPhone(0).read(0, 300))
    stop = threading.Event()
    play(recording, lambda payload: phone.publish(f"hard/{device}/imu", payload, 1), stop, speed=100)
    assert phone.flush(5)
    phone.stop()


def retained(port: int, topic: str) -> bytes | None:
    late = Subscriber(port, topic)
    try:
        return wait_for(lambda: late.last(topic), timeout_s=3, what=topic)
    finally:
        late.broker.stop()
