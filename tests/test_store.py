"""The embedded broker's store: one daemon's, kept when others start beside it or it ends in any way."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from conftest import Hard, free_port, wait_for
from hard.embedded import EmbeddedBroker
from hard.settings import EmbeddedSettings
from hard.types import HardError
from test_daemon import Subscriber, run_embedded


@pytest.fixture
def broker(tmp_path: Path, port: int) -> Iterator[EmbeddedBroker]:
    made = EmbeddedBroker(EmbeddedSettings(port), tmp_path)
    made.start()
    yield made
    made.stop()


def said(topic: str, port: int, payload: bytes | None = None) -> bytes | None:
    """What is retained there; `payload` is retained from now on."""
    client = Subscriber(port, topic)
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
