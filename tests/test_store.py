"""The embedded broker's end, and its store: one daemon's, whoever starts beside it or is killed."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import paho.mqtt.client as mqtt
import psutil
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from conftest import ROOT, Hard, free_port, wait_for
from hard.broker import Broker
from hard.embedded import EmbeddedBroker
from hard.settings import EmbeddedSettings
from hard.stats import Counters
from hard.types import HardError
from test_daemon import Subscriber, run_embedded

sys.path.insert(0, str(ROOT))

from tools.lab import may_mount, small_disk


@pytest.fixture
def broker(tmp_path: Path, port: int) -> Iterator[EmbeddedBroker]:
    made = EmbeddedBroker(EmbeddedSettings(port), tmp_path)
    made.start()
    yield made
    made.stop()


def said(topic: str, port: int, payload: bytes | None = None) -> bytes | None:
    """What is retained there; `payload` is retained from now on."""
    status = Subscriber(port, "hard/status")
    wait_for(lambda: status.last("hard/status") == b"online", what="the daemon")
    status.broker.stop()
    client = Subscriber(port, topic)  # only now: at its very start nats-server has no retained messages yet
    try:
        if payload is not None:
            client.broker.publish(topic, payload, 1, retain=True)
        wait_for(lambda: client.last(topic), what=topic)
        return client.last(topic)
    finally:
        client.broker.stop()


@pytest.mark.parametrize("same_port", [True, False])
def test_a_second_daemon_on_one_state_folder_is_refused_and_nothing_is_lost(
    hard: Hard, port: int, tmp_path: Path, same_port: bool
) -> None:
    first = run_embedded(hard, port)
    said("hard/alice/activity", port, b"walking")
    second = hard.run("run", "--for", "2", HARD__EMBEDDED__PORT=str(port if same_port else free_port()))
    assert second.returncode == 1
    assert (
        f"hard: {tmp_path / 'state'}: a daemon, process {first.pid}, keeps its state there" in second.stderr
    )
    assert "HARD__STATE_DIR=/another/folder HARD__EMBEDDED__PORT=" in second.stderr
    first.terminate()
    first.communicate(timeout=20)
    run_embedded(hard, port)
    assert said("hard/alice/activity", port) == b"walking"


def test_a_daemon_that_was_killed_leaves_the_store_to_the_next_at_once(hard: Hard, port: int) -> None:
    first = run_embedded(hard, port)
    said("hard/alice/activity", port, b"walking")
    first.kill()
    run_embedded(hard, port)  # not waiting for the end of the first's nats-server
    assert said("hard/alice/activity", port) == b"walking"


def test_the_store_stays_locked_while_a_server_without_its_daemon_writes_to_it(
    broker: EmbeddedBroker, tmp_path: Path
) -> None:
    (server,) = psutil.Process().children()
    server.send_signal(signal.SIGSTOP)  # slow to end
    lock, broker._lock = broker._lock, None
    assert lock is not None
    os.close(lock)  # as by the end of the daemon
    other = EmbeddedBroker(EmbeddedSettings(free_port()), tmp_path)
    try:
        with pytest.raises(HardError, match=f"a daemon, process {os.getpid()}, keeps its state there"):
            other.start()
        server.kill()
        other.start()
    finally:
        server.kill()
        other.stop()


def kill_server() -> None:
    (server,) = psutil.Process().children()
    server.kill()
    os.waitid(os.P_PID, server.pid, os.WEXITED | os.WNOWAIT)


def test_a_broker_that_dies_is_started_again_and_gets_what_was_retained(
    hard: Hard, port: int, tmp_path: Path
) -> None:
    daemon = run_embedded(hard, port, "--simulate", "1")
    assert daemon.stderr
    lines = iter(daemon.stderr.readline, "")
    assert any("synthetic-1" in line for line in lines)
    for _ in range(2):
        (server,) = psutil.Process(daemon.pid).children()
        server.kill()
        shutil.rmtree(tmp_path / "state/broker/store")
        assert any("the embedded broker ended by SIGKILL; starting it again in" in line for line in lines)
        assert any("connected to mqtt://" in line for line in lines)
        assert said("hard/status", port) == b"online"
        wait_for(lambda: said("hard/synthetic-1/activity", port), what="labels")
    daemon.terminate()
    _, err = daemon.communicate(timeout=20)
    assert daemon.returncode == 0, err


def test_a_broker_that_dies_again_and_again_is_a_failure(
    broker: EmbeddedBroker, caplog: pytest.LogCaptureFixture
) -> None:
    now_s = 0.0
    for wait_s in (1, 2, 4, 8):
        kill_server()
        broker.check(now_s)
        assert caplog.messages[-1].endswith(f"ended by SIGKILL; starting it again in {wait_s} s")
        broker.check(now_s + wait_s - 0.1)
        assert not psutil.Process().children()
        now_s += wait_s
        broker.check(now_s)
    kill_server()
    with pytest.raises(
        HardError, match=r"ended by SIGKILL, for the 5th time within a minute; its log is .*\.log"
    ):
        broker.check(now_s)


def test_a_broker_that_dies_now_and_then_is_never_one(broker: EmbeddedBroker) -> None:
    for n in range(7):
        kill_server()
        broker.check(20.0 * n)
        broker.check(20.0 * n + 4)
    assert psutil.Process().children()


def test_a_broker_that_was_stopped_is_not_started_again(broker: EmbeddedBroker) -> None:
    broker.stop()
    broker.check(0.0)
    broker.check(100.0)
    assert not psutil.Process().children()


def test_a_store_that_clients_who_never_come_back_have_filled_is_emptied(tmp_path: Path, port: int) -> None:
    """Else it takes no connection any more, however often everything is started again."""
    made = EmbeddedBroker(EmbeddedSettings(port), tmp_path, store_bytes=1 << 22)
    made.start()
    broker = Broker(made.url, Counters(), presence="hard/status")
    try:
        gone = mqtt.Client(CallbackAPIVersion.VERSION2, "gone", clean_session=False)
        gone.on_subscribe = lambda client, *_: client.disconnect()
        gone.connect("127.0.0.1", port)
        gone.subscribe("hard/+/event", 1)
        gone.loop_forever()
        broker.start()
        assert broker.wait_ready(10)
        lost = broker.losses
        while broker.losses == lost:
            broker.publish("hard/alice/event", bytes(100_000), qos=1)
            broker.flush(1.0)

        def serves() -> bool:
            made.check(time.monotonic(), broker.losses)
            return broker.wait_ready(0.1) and broker.publish("a", b"x", qos=1) and broker.flush(0.5)

        wait_for(serves, 40, "an acknowledgement")
    finally:
        broker.stop()
        made.stop()


@pytest.mark.skipif(not may_mount(), reason="mounting needs root")
def test_a_disk_that_was_full_and_has_room_again_is_written_again(tmp_path: Path, port: int) -> None:
    """nats-server does not get over a write that failed."""
    state = tmp_path / "state"
    state.mkdir()
    with small_disk(state, size="6m"):
        made = EmbeddedBroker(EmbeddedSettings(port), state)
        made.start()
        broker = Broker(made.url, Counters(), presence="hard/status")
        try:
            broker.start()
            assert broker.wait_ready(10)
            fill = state / "fill"
            with contextlib.suppress(OSError), fill.open("wb", buffering=0) as file:
                while file.write(bytes(4096)):
                    pass
            for _ in range(20):
                broker.publish("hard/alice/activity", bytes(1000), retain=True)
            made.check(time.monotonic(), broker.losses)
            wait_for(lambda: "no space left" in (state / "broker/nats.log").read_text(), what="a failure")
            fill.unlink()

            def serves() -> bool:
                made.check(time.monotonic(), broker.losses)
                return broker.wait_ready(0.1) and broker.publish("a", b"x", qos=1) and broker.flush(0.5)

            wait_for(serves, 40, "an acknowledgement")
            assert broker.publish("hard/alice/activity", b"kept", retain=True)
            late = Subscriber(port, "hard/alice/activity")
            wait_for(lambda: late.last("hard/alice/activity") == b"kept", what="the label")
            late.broker.stop()
        finally:
            broker.stop()
            made.stop()
