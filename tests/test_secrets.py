"""A password given in any way turns up nowhere: log, `ps`, MQTT, files, bundle, traceback."""

from __future__ import annotations

import os
import subprocess
import zipfile
from pathlib import Path

import psutil
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from conftest import ROOT, Hard, Mosquitto, free_port, wait_for
from hard.bundle import scrub, without_secrets
from hard.mqtt.passwords import forms
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
    told += "a mqtt://me:p@w0rd@host/x b\npassword: # a note\n  behind\npassword: >-\n  folded\n"
    text = scrub(told + "password: null\n", [])
    for word in ("hunter2", "x y", "me:pw", "abc", "w0rd", "behind", "folded"):
        assert word not in text
    assert "password: null" in text


@pytest.mark.parametrize(
    "text",
    [
        "passw: [1\nbroker_typo: 1\n",
        "broker_typo: 1\nembedded:\n  listen: lan\n  password: >-\n    c4nary-77\n    c4nary-78\n",
        "broker_typo: 1\nembedded:\n  password: # a note\n    c4nary-77\n",
        "embedded: {listen: lan, pasword: 'c4nary\n  77'}\n",
        "x: &p c4nary-77\nbroker: {password: *p}\n",
        "broker_typo: 1\nbroker: {url: 'mqtt://hard:p@c4nary-77@nas'}\n",
        "brokr:\n  url: mqtt://hard:c4nary 77@nas\n",
        "broker: {url: hard:p@c4nary-77@nas}\nx: 1\n",
        "broker_typo: [\nembedded: {password: |\n  c4nary-77}\n",
    ],
)
def test_a_bundle_of_settings_that_are_refused_tells_no_password(
    hard: Hard, tmp_path: Path, text: str
) -> None:
    config, bundle = tmp_path / "hard.yaml", tmp_path / "out.zip"
    config.write_text(text)
    environ = {"HARD__EMBEDDED": "{password: >-\n c4nary-environment\n}", "HARD__BROKER__PASWORD": "c4nary-2"}
    done = hard.run("check", "--config", str(config), "--bundle", str(bundle), **environ)
    assert done.returncode == 2, done.stdout
    with zipfile.ZipFile(bundle) as z:
        texts = {name: z.read(name).decode() for name in z.namelist()}
    assert_clean(check=done.stdout, **texts)
    readable = "[" not in text
    assert texts["hard.yaml"].startswith("left out: ") is not readable
    assert not readable or "********" in texts["hard.yaml"]


@given(
    password=st.text(min_size=1, max_size=30).map(lambda s: f"c4nary{s}c4nary"),
    style=st.sampled_from([None, "'", '"', "|", ">"]),
    width=st.integers(4, 80),
    flow=st.booleans(),
)
def test_however_yaml_writes_a_password_it_is_blotted_and_told(
    password: str, style: str | None, width: int, flow: bool
) -> None:
    tree = {"typo": 1, "embedded": {"password": password}, "broker": {"url": f"mqtt://u:{password}@nas"}}
    try:
        text = yaml.safe_dump(
            tree, default_style=style, width=width, default_flow_style=flow, allow_unicode=True
        )
        assert yaml.safe_load(text) == tree
    except (yaml.YAMLError, AssertionError):  # a lone surrogate, and what PyYAML itself cannot read again
        return
    shown, secrets = without_secrets(text)
    assert "c4nary" not in shown
    assert password in secrets
    left = yaml.safe_load(shown.replace("********", "x"))
    assert left == tree | {"embedded": {"password": "x"}, "broker": {"url": "mqtt://x@nas"}}
