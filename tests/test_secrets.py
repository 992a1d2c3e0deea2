"""A password given in any way turns up nowhere: log, `ps`, MQTT, files, bundle, traceback."""

from __future__ import annotations

import os
import subprocess
import zipfile
from pathlib import Path

import psutil
import pytest

from conftest import ROOT, Hard, Mosquitto, free_port, wait_for
from hard.bundle import scrub
from hard.passwords import forms
from test_daemon import Subscriber
from test_health import get

CANARY = "c4nary/p@ss:word%41"
WORDS = ("c4nary", "p%40ss")
RAISING = """
class Codec:
    def __init__(self, options, counters):
        pass

    def decode(self, message):
        raise RuntimeError(message.payload.decode())
"""


@pytest.fixture
def outside(tmp_path: Path) -> str:
    """PYTHONPATH with a codec that fails with the text of its message."""
    folder = tmp_path / "outside"
    (folder / "raising-1.dist-info").mkdir(parents=True)
    (folder / "raising.py").write_text(RAISING)
    (folder / "raising-1.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: raising\nVersion: 1\n"
    )
    (folder / "raising-1.dist-info" / "entry_points.txt").write_text(
        "[hard.codecs]\nraising = raising:Codec\n"
    )
    return os.pathsep.join([str(folder), str(ROOT), os.environ.get("PYTHONPATH", "")])


def ways(folder: Path, port: int) -> dict[str, tuple[list[str], dict[str, str]]]:
    """Each way to give the password: arguments and environment."""
    url = f"mqtt://127.0.0.1:{port}"
    user = {"HARD__BROKER__USERNAME": "hard"}
    (folder / "pw").write_text(CANARY + "\n")
    (folder / "credentials").mkdir()
    (folder / "credentials" / "mqtt-password").write_text(CANARY + "\n")
    (folder / "hard.yaml").write_text(f"broker: {{url: '{url}', username: hard, password: '{CANARY}'}}\n")
    (quoted, *_) = [form for form in forms([CANARY]) if "%40" in form]
    return {
        "environment": (["--broker", url], user | {"HARD__BROKER__PASSWORD": CANARY}),
        "command line": (["--broker", f"mqtt://hard:{quoted}@127.0.0.1:{port}"], {}),
        "password file": (["--broker", url], user | {"HARD__BROKER__PASSWORD_FILE": str(folder / "pw")}),
        "credential": (["--broker", url], user | {"CREDENTIALS_DIRECTORY": str(folder / "credentials")}),
        "settings": (["--config", str(folder / "hard.yaml")], {}),
    }


def processes(pid: int) -> str:
    """What `ps` shows of a process and its children, environment included."""
    pids = [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
    done = subprocess.run(["ps", "eww", *map(str, pids)], capture_output=True, text=True, check=True)
    return done.stdout + "".join(
        Path(f"/proc/{p}/environ").read_bytes().decode("utf-8", "replace") for p in pids
    )


def assert_clean(**found: str) -> None:
    assert {where: word for where, text in found.items() for word in WORDS if word in text} == {}


@pytest.mark.mosquitto
@pytest.mark.parametrize("way", ["environment", "command line", "password file", "credential", "settings"])
def test_a_canary_password_turns_up_nowhere(
    hard: Hard, server: Mosquitto, tmp_path: Path, outside: str, way: str
) -> None:
    server.start(server.set_password("hard", CANARY) + "\n")
    arguments, environ = ways(tmp_path, server.port)[way]
    http, bundle = free_port(), tmp_path / "out.zip"
    environ |= {
        "HARD__LOG_LEVEL": "debug",
        "HARD__HEALTH__PORT": str(http),
        "PYTHONPATH": outside,
        "HARD__SOURCES__MQTT__TOPICS": "[{filter: hard/+/imu}, {filter: raise, codec: raising}]",
    }
    process = hard.start("run", *arguments, **environ)
    wait_for(lambda: get(http, "/readyz")[0] == 200 or process.poll() is not None, 30, "the daemon")
    assert process.poll() is None
    listed = processes(process.pid)
    report = get(http, "/healthz")[1] + get(http, "/metrics")[1]
    checking = hard.start("check", "--bundle", str(bundle), *arguments, **environ)
    assert checking.stdout
    first = checking.stdout.readline()  # by now it has hidden what it was given
    listed += processes(checking.pid)
    checked = first + "".join(checking.communicate(timeout=30))
    assert "PASS broker publish" in checked
    with zipfile.ZipFile(bundle) as z:
        bundled = "\n".join(z.read(name).decode() for name in z.namelist())
    told = poke(server)
    _, err = process.communicate(timeout=15)
    assert process.returncode == 1
    assert "RuntimeError: ********" in err  # the traceback of an error whose text is the password
    state = "\n".join(p.read_text("utf-8", "replace") for p in (tmp_path / "state").rglob("*") if p.is_file())
    assert_clean(log=err, ps=listed, health=report, check=checked, bundle=bundled,
                 mqtt=told, state=state)  # fmt: skip


def poke(server: Mosquitto) -> str:
    """Everything on the broker; then make the engine fail with the password as its error's text."""
    seen = Subscriber(server.port, "#", username="hard", password=CANARY)
    wait_for(lambda: seen.last("hard/health"), what="hard/health")
    told = "\n".join(f"{topic} {payload.decode('utf-8', 'replace')}" for topic, payload in seen.messages)
    seen.broker.publish("raise", CANARY.encode(), qos=1)
    assert seen.broker.flush(5)
    seen.broker.stop()
    return told


def test_the_embedded_broker_s_password_is_in_its_own_files_only(
    hard: Hard, port: int, tmp_path: Path
) -> None:
    http = free_port()
    environ = {
        "HARD__EMBEDDED__LISTEN": "lan",
        "HARD__EMBEDDED__PASSWORD": "c4nary-password",
        "HARD__EMBEDDED__PORT": str(port),
        "HARD__HEALTH__PORT": str(http),
        "HARD__LOG_LEVEL": "debug",
    }
    process = hard.start("run", **environ)
    wait_for(lambda: get(http, "/readyz")[0] == 200, 30, "the daemon")
    listed = processes(process.pid)
    process.terminate()
    _, err = process.communicate(timeout=15)
    files = [p for p in (tmp_path / "state").rglob("*") if p.is_file() and b"c4nary" in p.read_bytes()]
    assert [p.name for p in files] == ["nats.conf"]
    assert files[0].stat().st_mode & 0o077 == 0
    assert_clean(log=err, ps=listed)


def test_a_bundle_s_texts_are_scrubbed_also_of_passwords_that_nobody_knows() -> None:
    told = 'password: hunter2\nembedded: {password: "x y"}\nurl: mqtt://me:pw@host\nHARD_TOKEN=abc\n'
    text = scrub(told + "password: null\n", [])
    for word in ("hunter2", "x y", "me:pw", "abc"):
        assert word not in text
    assert "password: null" in text
