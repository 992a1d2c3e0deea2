"""The embedded broker on the LAN: user and password are demanded, made, kept and shown once."""

from __future__ import annotations

import logging
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import Hard, wait_for
from hard.broker import Broker, BrokerUrl
from hard.embedded import EmbeddedBroker, embedded_address, lan_host, require_free_port
from hard.settings import EmbeddedSettings
from hard.stats import Counters
from hard.types import HardError


@pytest.fixture
def lan(tmp_path: Path, port: int):
    broker = EmbeddedBroker(EmbeddedSettings(port, "lan"), tmp_path)
    broker.start()
    yield broker
    broker.stop()


def enters(url: BrokerUrl, timeout_s: float = 10.0) -> bool:
    client = Broker(url, Counters())
    client.start()
    try:
        return client.wait_ready(timeout_s)
    finally:
        client.stop()


@pytest.mark.parametrize(("taken", "other"), [(18_890, 19_890), (65_201, 64_201)])
def test_a_port_that_is_taken_comes_with_one_that_can_be(taken: int, other: int) -> None:
    with socket.create_server(("127.0.0.1", taken)), pytest.raises(HardError) as e:
        require_free_port(EmbeddedSettings(port=taken))
    assert str(e.value).endswith(
        f": Address already in use; use the broker that is there with --broker mqtt://127.0.0.1:{taken}, or "
        f"another port with HARD__EMBEDDED__PORT={other}"
    )


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become a user who may not")
def test_a_port_of_root_s_is_no_broker_that_is_there() -> None:
    code = (
        "import os; from hard.embedded import require_free_port; from hard.settings import EmbeddedSettings\n"
        "os.setuid(65534); require_free_port(EmbeddedSettings(port=80))"
    )
    unprivileged = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
    if unprivileged.exists() and int(unprivileged.read_text()) <= 80:
        pytest.skip("any user may open port 80 here")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1].endswith(
        "port 80 on 127.0.0.1: Permission denied; one below 1024 is root's: take another with "
        "HARD__EMBEDDED__PORT=1883"
    )


def test_only_the_password_opens_it(lan: EmbeddedBroker, port: int, tmp_path: Path) -> None:
    assert enters(lan.url)
    assert enters(embedded_address(EmbeddedSettings(port, "lan"), tmp_path))
    assert enters(embedded_address(EmbeddedSettings(port), tmp_path))  # from another shell, without settings
    assert not enters(BrokerUrl("127.0.0.1", port), 1.5)
    assert not enters(BrokerUrl("127.0.0.1", port, username="hard", password="guessed"), 1.5)


def test_it_is_reached_from_the_network(lan: EmbeddedBroker, port: int) -> None:
    with socket.create_connection((lan_host(), port), 2):
        pass


def test_the_password_is_kept_private_and_stays(lan: EmbeddedBroker, port: int, tmp_path: Path) -> None:
    for name in ("password", "nats.conf"):
        assert stat.S_IMODE((tmp_path / "broker" / name).stat().st_mode) == 0o600
    assert lan.url.password == (tmp_path / "broker/password").read_text().strip()
    assert EmbeddedBroker(EmbeddedSettings(port, "lan"), tmp_path).url.password == lan.url.password
    other = EmbeddedBroker(EmbeddedSettings(port, "lan"), tmp_path / "other")
    assert other.url.password != lan.url.password


@pytest.mark.parametrize("password", ['pä"s\\s wörd', "0123456789", "true-or-not", "{}[]#$x'", "12k0000000"])
def test_any_password_reaches_nats_server_as_it_is(tmp_path: Path, port: int, password: str) -> None:
    broker = EmbeddedBroker(EmbeddedSettings(port, "lan", "Bob B.", password), tmp_path)
    broker.start()
    try:
        assert enters(broker.url)
        assert not (tmp_path / "broker/password").exists()
    finally:
        broker.stop()


@pytest.mark.parametrize("password", ["$2a$11$xxx", "tab\tinside"])
def test_a_password_that_nats_server_would_misread_is_refused(
    tmp_path: Path, port: int, password: str
) -> None:
    with pytest.raises(HardError, match=r"embedded\.password: expected printable characters, not \$ as"):
        EmbeddedBroker(EmbeddedSettings(port, "lan", "hard", password), tmp_path)


def test_a_truncated_password_file_does_not_open_the_broker(tmp_path: Path, port: int) -> None:
    (tmp_path / "broker").mkdir()
    (tmp_path / "broker/password").write_text("\n")
    with pytest.raises(HardError, match="holds no password; delete it"):
        EmbeddedBroker(EmbeddedSettings(port, "lan"), tmp_path)


def test_loopback_has_no_password(tmp_path: Path, port: int) -> None:
    broker = EmbeddedBroker(EmbeddedSettings(port), tmp_path)
    broker.start()
    try:
        assert enters(BrokerUrl("127.0.0.1", port))
        assert enters(BrokerUrl("127.0.0.1", port, username="hard", password="from an earlier lan"))
        assert not (tmp_path / "broker/password").exists()
        if not lan_host().startswith("127."):
            with pytest.raises(OSError, match="refused"):
                socket.create_connection((lan_host(), port), 2)
    finally:
        broker.stop()


def test_mqtt_5_is_refused_with_the_remedy(lan: EmbeddedBroker, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "hard.broker")
    at = lan.url
    assert not enters(BrokerUrl(at.host, at.port, False, at.username, at.password, mqtt5=True), 1.5)
    assert f"{at}: refused us: Unsupported protocol version; set broker.protocol to 3.1.1" in caplog.text


def test_the_daemon_prints_what_an_app_asks_for(hard: Hard, port: int, tmp_path: Path) -> None:
    environ = {"HARD__EMBEDDED__LISTEN": "lan", "HARD__EMBEDDED__PORT": str(port)}
    daemon = hard.start("run", "--simulate", "1", **environ)
    password = tmp_path / "state/broker/password"
    wait_for(password.exists, what="the password")
    watcher = hard.start("watch", HARD__EMBEDDED__PORT=str(port))
    assert watcher.stdout
    assert any("synthetic-1" in line for line in iter(watcher.stdout.readline, ""))
    daemon.terminate()
    out, err = daemon.communicate(timeout=20)
    assert daemon.returncode == 0, err
    secret = password.read_text().strip()
    rows = [line.split(None, 1) for line in out.splitlines() if line.startswith("    ")]
    assert rows == [
        ["host", lan_host()], ["port", str(port)], ["user", "hard"], ["password", secret],
        ["topic", "hard/<name>/imu"],
    ]  # fmt: skip
    assert out.count(secret) == 1
    assert secret not in err


def test_the_journal_does_not_get_the_password(hard: Hard, port: int, tmp_path: Path) -> None:
    printed = tmp_path / "journal"
    environ = {"HARD__EMBEDDED__LISTEN": "lan", "HARD__EMBEDDED__PORT": str(port)}
    with printed.open("wb") as out:
        at = printed.stat()
        process = subprocess.run(
            [*hard.command, "run", "--for", "1"], stdout=out, stderr=out, timeout=60, check=True,
            env=hard.env | environ | {"JOURNAL_STREAM": f"{at.st_dev}:{at.st_ino}"},
        )  # fmt: skip
    assert process.returncode == 0
    kept = tmp_path / "state/broker/password"
    assert f"password  in {kept}" in printed.read_text()
    assert kept.read_text().strip() not in printed.read_text()
