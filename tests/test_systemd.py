"""What systemd hears of a real daemon over its socket: READY, STATUS, WATCHDOG, RELOADING, STOPPING."""

from __future__ import annotations

import itertools
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import ROOT, Hard, Mosquitto, wait_for
from hard.broker import Broker, BrokerUrl
from hard.sdnotify import Notifier
from hard.stats import Counters

WEDGE = '''
import threading
from hard.runtime import Stage


class Codec:
    """Reads one message and never comes back."""

    def __init__(self, options, counters):
        pass

    def decode(self, message):
        threading.Event().wait()


class Camera:
    """A camera that gives ten frames, and then hangs in its driver, as cv2.VideoCapture.read does."""

    def __init__(self, settings, broker, inbox, counters):
        self.frames = 0

    def start(self):
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for _ in range(10):
            self.frames += 1
        threading.Event().wait()

    def stop(self):
        pass

    def stages(self):
        return [Stage("camera", lambda: self.frames)]

    def problem(self):
        return None
'''


class Systemd:
    """The notify socket, as systemd opens it."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self._socket.settimeout(0.05)
        self.environ = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1000000"}
        self.heard: list[tuple[float, str]] = []

    def listen(self) -> list[str]:
        try:
            while True:
                self.heard.append((time.monotonic(), self._socket.recv(8192).decode()))
        except TimeoutError:
            return [text for _, text in self.heard]

    def wait(self, text: str, timeout_s: float = 30.0) -> str:
        """The first message that begins with this, among those not waited for yet."""
        found = wait_for(
            lambda: [m for m in self.listen() if m.startswith(text)], timeout_s=timeout_s, what=text
        )
        return str(found[0])

    def status(self) -> str:
        return next((m for m in reversed(self.listen()) if m.startswith("STATUS=")), "")

    def forget(self) -> None:
        self.listen()
        self.heard.clear()

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def any_systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Systemd]:
    made = Systemd(str(tmp_path / "notify") if request.param == "path" else f"@hard-test-{os.getpid()}")
    yield made
    made.close()


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Systemd]:
    made = Systemd(str(tmp_path / "notify"))
    yield made
    made.close()


@pytest.fixture
def wedge(tmp_path: Path) -> dict[str, str]:
    """An environment in which a package outside the tree adds a codec and a source that hang."""
    folder = tmp_path / "outside"
    (folder / "wedge-1.dist-info").mkdir(parents=True)
    (folder / "wedge.py").write_text(WEDGE)
    (folder / "wedge-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: wedge\nVersion: 1\n")
    (folder / "wedge-1.dist-info" / "entry_points.txt").write_text(
        "[hard.codecs]\nwedge = wedge:Codec\n[hard.sources]\nwedged-camera = wedge:Camera\n"
    )
    paths = os.pathsep.join([str(folder), str(ROOT), os.environ.get("PYTHONPATH", "")])
    return {"PYTHONPATH": paths, "HARD__HEALTH__STUCK_S": "2"}


def test_every_message_has_the_documented_form(any_systemd: Systemd) -> None:
    notifier = Notifier(any_systemd.environ)
    assert notifier.watchdog_s == 1.0
    notifier.ready()
    notifier.status("two\nlines ")
    notifier.watchdog()
    notifier.extend_timeout(2.5)
    notifier.reloading()
    notifier.stopping()
    *plain, reloading, stopping = any_systemd.listen()
    assert plain == ["READY=1", "STATUS=two lines", "WATCHDOG=1", "EXTEND_TIMEOUT_USEC=2500000"]
    assert stopping == "STOPPING=1"
    word, _, usec = reloading.partition("\nMONOTONIC_USEC=")
    assert word == "RELOADING=1"
    assert abs(int(usec) / 1e6 - time.clock_gettime(time.CLOCK_MONOTONIC)) < 5


@pytest.mark.parametrize(
    "environ",
    [{}, {"NOTIFY_SOCKET": "/nowhere/at/all"}, {"NOTIFY_SOCKET": "@nobody-listens", "WATCHDOG_USEC": "x"}],
)
def test_a_systemd_that_is_absent_is_no_error(environ: dict[str, str]) -> None:
    notifier = Notifier(environ)
    notifier.ready()
    assert notifier.watchdog_s is None


def test_a_watchdog_for_another_process_is_not_ours() -> None:
    environ = {"NOTIFY_SOCKET": "@x", "WATCHDOG_USEC": "1000000"}
    assert Notifier(environ | {"WATCHDOG_PID": "1"}).watchdog_s is None
    assert Notifier(environ | {"WATCHDOG_PID": str(os.getpid())}).watchdog_s == 1.0


def start(hard: Hard, systemd: Systemd, port: int, *arguments: str, **env: str) -> subprocess.Popen[str]:
    return hard.start("run", *arguments, **systemd.environ, **env, HARD__EMBEDDED__PORT=str(port))


def test_a_life_from_ready_to_stopping(hard: Hard, port: int, systemd: Systemd) -> None:
    """Phones come and go silent; the watchdog is fed throughout, since a silent phone is no dead daemon."""
    process = start(hard, systemd, port, "--simulate", "2")
    systemd.wait("READY=1")
    assert not any("STOPPING" in m or "RELOADING" in m for m in systemd.listen())
    wait_for(lambda: "mqtt 2 devices 50.0 Hz; synthetic-" in systemd.status(), what="STATUS with labels")
    assert "lag " in systemd.status()
    systemd.forget()
    process.send_signal(signal.SIGHUP)
    systemd.wait("RELOADING=1")
    messages = wait_for(lambda: (m := systemd.listen()) and "READY=1" in m and m, what="READY again")
    assert [m.partition("\n")[0] for m in messages if m.startswith(("RELOADING", "READY"))] == [
        "RELOADING=1",
        "READY=1",
    ]
    systemd.forget()
    wait_for(lambda: systemd.listen().count("WATCHDOG=1") >= 6, what="six WATCHDOGs")
    times = [t for t, m in systemd.heard if m == "WATCHDOG=1"]
    assert max(b - a for a, b in itertools.pairwise(times)) < 1.5  # asked for: 1 s
    process.send_signal(signal.SIGTERM)
    systemd.wait("STOPPING=1")
    process.communicate(timeout=10)
    assert process.returncode == 0
    assert "WATCHDOG=1" in systemd.listen()


@pytest.mark.mosquitto
def test_ready_waits_for_the_broker(hard: Hard, server: Mosquitto, systemd: Systemd) -> None:
    """Until it is subscribed the daemon asks for more time, and says what it waits for."""
    process = hard.start("run", **systemd.environ, HARD__BROKER__URL=f"mqtt://127.0.0.1:{server.port}")
    systemd.wait("EXTEND_TIMEOUT_USEC=")
    wait_for(lambda: "Connection refused" in systemd.status(), what="the reason")
    assert "READY=1" not in systemd.listen()
    server.start()
    systemd.wait("READY=1")
    process.terminate()
    process.communicate(timeout=10)


def poke(port: int, topic: str) -> Broker:
    broker = Broker(BrokerUrl("127.0.0.1", port), Counters())
    broker.start()
    assert broker.wait_ready(10)
    broker.publish(topic, b"x", qos=1)
    assert broker.flush(5)
    return broker


def test_a_wedged_engine_gets_no_watchdog(
    hard: Hard, port: int, systemd: Systemd, wedge: dict[str, str]
) -> None:
    topics = json.dumps([{"filter": "wedge/+", "codec": "wedge"}])
    process = start(hard, systemd, port, **wedge, HARD__SOURCES__MQTT__TOPICS=topics)
    systemd.wait("READY=1")
    systemd.wait("WATCHDOG=1")
    health: list[bytes] = []
    broker = Broker(BrokerUrl("127.0.0.1", port), Counters())
    broker.listen({"hard/health": 1}, lambda _topic, payload: health.append(payload))
    broker.start()
    phone = poke(port, "wedge/x")
    try:
        wait_for(lambda: "engine stands still" in systemd.status(), what="STATUS of a wedged engine")
        wait_for(lambda: health and json.loads(health[-1])["state"] == "stuck", what="hard/health")
        systemd.forget()
        wait_for(lambda: len([m for m in systemd.listen() if m.startswith("STATUS")]) >= 2, what="time")
        assert "WATCHDOG=1" not in systemd.listen()
    finally:
        phone.stop()
        broker.stop()
    process.send_signal(signal.SIGABRT)  # what systemd does then
    _, err = process.communicate(timeout=10)
    assert "CRITICAL engine stands still" in err
    assert "wedge.py" in err  # where it hangs


def test_a_wedged_camera_gets_no_watchdog(
    hard: Hard, port: int, systemd: Systemd, wedge: dict[str, str]
) -> None:
    process = start(hard, systemd, port, **wedge, HARD__SOURCES__ENABLED="[mqtt, wedged-camera]")
    systemd.wait("READY=1")
    wait_for(lambda: "camera stands still" in systemd.status(), what="STATUS of a wedged camera")
    systemd.forget()
    wait_for(lambda: len([m for m in systemd.listen() if m.startswith("STATUS")]) >= 2, what="time")
    assert "WATCHDOG=1" not in systemd.listen()
    process.terminate()
    process.communicate(timeout=10)
    assert process.returncode == 0
