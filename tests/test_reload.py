"""Other settings without a restart: what changes, what stays, what is refused; on a real daemon."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import Hard, Mosquitto, wait_for
from hard.broker import Broker, BrokerUrl
from hard.codecs.native import encode
from hard.stats import Counters
from hard.synthetic import SyntheticPhone
from test_daemon import Subscriber, run_embedded


class Phone:
    """A phone that keeps its place in its recording from one sending to the next."""

    def __init__(self, port: int, device: str = "alice") -> None:
        self._source, self._sent, self._device = SyntheticPhone(0, dwell_s=1000.0), 0, device
        self.broker = Broker(BrokerUrl("127.0.0.1", port), Counters())
        self.broker.start()
        assert self.broker.wait_ready(15)

    def send(self, seconds: float, topic: str = "hard/alice/imu") -> None:
        for _ in range(int(seconds * 2)):
            t, samples = self._source.read(self._sent, 25)
            self.broker.publish(topic, encode(t, samples), qos=1)
            self._sent += 25
        assert self.broker.flush(5)

    def pause(self, seconds: float) -> None:
        self._sent += int(seconds * 50)


class Daemon:
    """A daemon with a configuration file that a test changes."""

    def __init__(self, hard: Hard, port: int, config: Path) -> None:
        self.hard, self.config = hard, config
        self.process = run_embedded(hard, port, "--config", str(config))
        topics = ("hard/+/activity", "hard/+/event", "hard/+/totals", "hard/status", "hard/health")
        self.seen = Subscriber(port, *topics)
        wait_for(lambda: self.seen.last("hard/status") == b"online", what="the daemon")
        self.phone = Phone(port)

    def reload(self, text: str) -> subprocess.CompletedProcess[str]:
        self.config.write_text(text)
        return self.hard.run("reload", "--config", str(self.config))

    def labels(self) -> list[dict[str, object]]:
        return self.seen.labels("alice")

    def wait_labels(self, n: int) -> None:
        wait_for(lambda: len(self.labels()) >= n, what=f"{n} labels")

    def health(self) -> dict[str, object]:
        return json.loads(self.seen.last("hard/health") or b"{}")

    def log(self) -> str:
        self.process.terminate()
        _, err = self.process.communicate(timeout=10)
        assert self.process.returncode == 0
        return err


@pytest.fixture
def daemon(hard: Hard, port: int, tmp_path: Path) -> Iterator[Daemon]:
    config = tmp_path / "hard.yaml"
    config.write_text("")
    made = Daemon(hard, port, config)
    yield made
    made.phone.broker.stop()
    made.seen.broker.stop()


def test_topics_and_smoothing_change_and_the_device_keeps_its_window(daemon: Daemon) -> None:
    """Half a window before, half a window after: no gap, and the count of labels goes on."""
    daemon.phone.send(4.5)
    daemon.wait_labels(2)
    done = daemon.reload(
        "smoothing: {hysteresis: 20}\nsources: {mqtt: {topics: [{filter: elsewhere/+/imu, codec: native}]}}\n"
    )
    assert (done.returncode, done.stdout) == (0, "reloaded\n"), done.stderr
    daemon.phone.send(4.0, "elsewhere/alice/imu")
    daemon.wait_labels(5)
    assert [label["seq"] for label in daemon.labels()][:5] == [1, 2, 3, 4, 5]
    assert {label["gaps"] for label in daemon.labels()} == {0}
    events = [json.loads(p)["type"] for t, p in daemon.seen.messages if t == "hard/alice/event"]
    assert events == ["enter"]  # the steady activity went on
    daemon.phone.send(3.0)  # the old topic is no longer listened to
    err = daemon.log()
    assert "configuration reloaded: sources.mqtt.topics, smoothing.hysteresis" in err
    assert len(daemon.labels()) == 6 or len(daemon.labels()) == 5


def test_a_pause_that_is_now_allowed_counts_for_the_day(daemon: Daemon) -> None:
    daemon.phone.send(4.5)
    daemon.wait_labels(2)
    assert daemon.reload("smoothing: {restart_s: 30}\n").returncode == 0
    daemon.phone.pause(15.0)
    daemon.phone.send(4.5)
    daemon.wait_labels(4)
    daemon.log()
    assert sum(json.loads(daemon.seen.last("hard/alice/totals") or b"{}")["seconds"].values()) > 15.0


def test_a_model_is_exchanged_for_another(daemon: Daemon) -> None:
    daemon.phone.send(4.5)
    daemon.wait_labels(2)
    assert daemon.reload("imu: {model: lstm-acc}\nlog_level: warning\n").returncode == 0
    daemon.phone.send(3.0)
    daemon.wait_labels(4)
    models = [label["model"]["name"] for label in daemon.labels()]
    assert models[:2] == ["lstm-waist"] * 2
    assert models[-1] == "lstm-acc"
    assert {label["gaps"] for label in daemon.labels()} == {0}
    wait_for(lambda: daemon.health(), what="health")
    assert "stopping" not in daemon.log()  # an info line


def test_an_invalid_configuration_is_refused_and_the_old_one_stays(daemon: Daemon) -> None:
    daemon.phone.send(4.5)
    daemon.wait_labels(2)
    for text, why in (
        ("smoothing: {hysteresis: 60}\n", "hysteresis 60 is never reached"),
        ("imu: {model: lstm-wast}\n", "did you mean lstm-waist?"),
        ("imu: {acc_model: lstm-waist}\n", "imu.acc_model: lstm-waist needs a gyroscope"),
        ("sources: {mqtt: {topics: [{filter: x, codec: natve}]}}\n", "did you mean 'native'?"),
        ("sources: {mqtt: {topics: [{filter: my+/x, codec: json}]}}\n", "expected a topic filter such as"),
        ("sources: {mqtt: {topics: [{filter: my+/x, codec: json}]}}\n", "expected a topic filter such as"),
        ("sources: {enabled: [mqtt, serial]}\n", "no port"),
        ("sources: [\n", "not YAML"),
    ):
        done = daemon.reload(text)
        assert done.returncode == 1
        assert "refused, the old settings stay:" in done.stderr
        assert why in done.stderr
        wait_for(
            lambda w=why: w in str(daemon.health().get("config_refused")), what="the reason in hard/health"
        )
        assert daemon.health()["state"] == "degraded"
    daemon.phone.send(3.0)
    daemon.wait_labels(4)
    assert {label["gaps"] for label in daemon.labels()} == {0}
    assert daemon.reload("").returncode == 0
    wait_for(lambda: daemon.health()["state"] == "ok", what="state ok")
    assert "configuration refused, the old one stays: " in daemon.log()


def test_settings_in_a_folder_whose_name_is_no_utf_8_are_refused_likewise(
    hard: Hard, port: int, tmp_path: Path
) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    config = folder / "hard.yaml"
    config.write_text("")
    daemon = Daemon(hard, port, config)
    try:
        done = daemon.reload("bad: 1\n")
        assert "refused, the old settings stay:" in done.stderr
        wait_for(
            lambda: "caf?/hard.yaml:1: bad" in str(daemon.health().get("config_refused")), what="the reason"
        )
        assert "configuration refused, the old one stays: " in daemon.log()
        assert "caf?/hard.yaml:1: bad" in (tmp_path / "state" / "last.log").read_text()
    finally:
        daemon.phone.broker.stop()
        daemon.seen.broker.stop()


def test_what_needs_a_restart_is_named(daemon: Daemon) -> None:
    text = "broker: {keepalive_s: 60}\noutput: {prefix: other}\n"
    assert daemon.reload(text).returncode == 0
    assert daemon.reload(text + "totals: {keep_days: 5}\n").returncode == 0
    err = daemon.log()
    assert err.count("not in force before the next restart: broker.keepalive_s, output.prefix") == 2


def test_phones_that_are_no_longer_listened_to_come_back_by_another_topic(daemon: Daemon) -> None:
    board = "sources: {enabled: [%s], serial: {port: /dev/absent, device: board}, mqtt: {topics: [%s]}}"
    daemon.phone.send(4)
    daemon.wait_labels(1)
    usual, other = "{filter: hard/+/imu, codec: native}", "{filter: other/+/imu, codec: native}"
    assert daemon.reload(board % ("serial", usual)).returncode == 0
    n = len(daemon.labels())
    daemon.phone.send(4)
    assert daemon.reload(board % ("serial, mqtt", other)).returncode == 0
    daemon.phone.send(4)  # nobody listens to the old topic
    daemon.phone.send(4, "other/alice/imu")
    daemon.wait_labels(n + 1)
    log = daemon.log()
    taken = re.search(r"messages (\d+)", log)
    assert taken
    assert int(taken[1]) <= 16  # of 32: before, and by the other topic
    assert "bad_device" not in log


def test_reload_does_not_take_the_answer_to_an_earlier_one(
    hard: Hard, server: Mosquitto, tmp_path: Path
) -> None:
    server.start()
    config = tmp_path / "hard.yaml"
    config.write_text("")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(f"\0hard-reload-{os.getpid()}")
        systemd.settimeout(30)

        def told(what: bytes) -> None:
            while not systemd.recv(4096).startswith(what):
                pass

        process = hard.start(
            "run", "--config", str(config), "--broker", f"mqtt://127.0.0.1:{server.port}",
            NOTIFY_SOCKET=f"@hard-reload-{os.getpid()}",
        )  # fmt: skip
        told(b"READY=1")
        server.signal(signal.SIGSTOP)  # it does not answer the subscription, for which a reload waits
        config.write_text("sources: {mqtt: {topics: [{filter: other/+/imu, codec: native}]}}\n")
        process.send_signal(signal.SIGHUP)
        told(b"RELOADING=1")
        config.write_text("bad: 1\n")
        done = hard.run("reload", "--config", str(config))
    server.signal(signal.SIGCONT)
    assert "refused, the old settings stay:" in done.stderr


def test_reload_without_a_daemon_says_so(hard: Hard, tmp_path: Path) -> None:
    done = hard.run("reload")
    assert done.returncode == 1
    assert f"no daemon has the state folder {tmp_path}/state; name its settings: --config FILE" in done.stderr


def test_a_port_is_added_and_taken_away(daemon: Daemon, tmp_path: Path) -> None:
    """The phones beside it keep their windows; an absent port is a problem while it is configured."""
    daemon.phone.send(4.5)
    daemon.wait_labels(2)
    port = tmp_path / "absent"
    text = f"sources: {{enabled: [mqtt, serial], serial: {{port: {port}, device: wrist}}}}\n"
    assert daemon.reload(text).returncode == 0
    wait_for(lambda: "no data from serial wrist" in str(daemon.health()), what="the problem")
    assert "serial wrist" in daemon.health()["stages_idle_s"]
    assert daemon.reload("").returncode == 0
    wait_for(lambda: daemon.health()["state"] == "ok", what="state ok")
    daemon.phone.send(3.0)
    daemon.wait_labels(4)
    assert {label["gaps"] for label in daemon.labels()} == {0}
    daemon.process.send_signal(signal.SIGHUP)
    daemon.log()
