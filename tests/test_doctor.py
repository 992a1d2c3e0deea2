"""`hard check`: every line with its remedy, where all is well and where something is not."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest

from certificates import Authority
from conftest import ROOT, Hard, Mosquitto, wait_for
from hard.doctor.line import Line, Status, mended, worst
from hard.doctor.machine import clock_line, disk_line, memory_line
from hard.doctor.parts import one_frame
from hard.sources.cameras import parse
from test_daemon import run_embedded


def lines(done: subprocess.CompletedProcess[str]) -> dict[str, dict[str, str]]:
    """By name; of two models the last."""
    return {line["name"]: line for line in json.loads(done.stdout)["lines"]}


def test_the_exit_status_is_the_worst_line() -> None:
    def line(status: Status) -> Line:
        return Line("x", status, "y")

    assert worst([]) == worst([line(Status.PASS)]) == 0
    assert worst([line(Status.WARN), line(Status.PASS)]) == 1
    assert worst([line(Status.WARN), line(Status.FAIL)]) == 2


def test_an_error_of_ours_is_split_into_what_and_remedy() -> None:
    assert mended("x", "a; b; do c") == Line("x", Status.FAIL, "a; b", "do c")


@pytest.mark.mosquitto
def test_a_good_installation_passes_every_stage(hard: Hard, server: Mosquitto) -> None:
    server.start(server.set_password("hard", "right-password"))
    environ = {
        "HARD__BROKER__URL": f"mqtt://127.0.0.1:{server.port}",
        "HARD__BROKER__USERNAME": "hard",
        "HARD__BROKER__PASSWORD": "right-password",
    }
    done = hard.run("check", "--json", **environ)
    found = lines(done)
    stages = ["DNS", "TCP", "CONNECT", "subscribe", "publish"]
    expected = ["config", "model", *(f"broker {stage}" for stage in stages), "disk", "clock"]
    assert {name: found[name]["status"] for name in expected} == dict.fromkeys(expected, "pass")
    assert "systemd" in found
    assert done.returncode in (0, 1)  # 1: not installed as a service
    text = hard.run("check", **environ).stdout
    assert "PASS broker publish" in text


@pytest.mark.mosquitto
@pytest.mark.parametrize(
    ("environ", "stage", "what", "remedy"),
    [
        (
            {"HARD__BROKER__URL": "mqtt://no-such-host.invalid"},
            "DNS",
            "no-such-host.invalid",
            "check the name",
        ),
        ({"HARD__BROKER__URL": "mqtt://127.0.0.1:1"}, "TCP", "Connection refused", "is the broker running"),
        (
            {"HARD__BROKER__URL": "mqtts://127.0.0.1:PORT"},
            "TLS",
            "cannot connect",
            "a port without TLS is mqtt://",
        ),
        ({"HARD__BROKER__PASSWORD": "wrong"}, "CONNECT", "refused user 'hard'", "check broker.username"),
    ],
)
def test_the_broker_stage_that_fails_comes_with_its_remedy(
    hard: Hard, server: Mosquitto, environ: dict[str, str], stage: str, what: str, remedy: str
) -> None:
    server.start(server.set_password("hard", "right"))
    url = environ.get("HARD__BROKER__URL", "mqtt://127.0.0.1:PORT").replace("PORT", str(server.port))
    given = {"HARD__BROKER__USERNAME": "hard", "HARD__BROKER__PASSWORD": "right"} | environ
    done = hard.run("check", "--json", **given | {"HARD__BROKER__URL": url})
    failed = [line for line in json.loads(done.stdout)["lines"] if line["status"] == "fail"]
    assert done.returncode == 2
    assert [line["name"] for line in failed] == [f"broker {stage}"]
    assert what in failed[0]["what"]
    assert remedy in failed[0]["remedy"]


@pytest.mark.mosquitto
def test_topics_that_the_broker_does_not_let_us_read_are_named(hard: Hard, server: Mosquitto) -> None:
    acl = server.folder / "acl"
    acl.write_text("topic readwrite hard/#\n")
    server.start(f"allow_anonymous true\nacl_file {acl}")
    found = lines(hard.run("check", "--json", HARD__BROKER__URL=f"mqtt://127.0.0.1:{server.port}"))
    assert found["broker CONNECT"]["status"] == "pass"
    # mosquitto grants such subscriptions and brings nothing: what can be seen is our own topic
    assert found["broker publish"]["status"] == "pass"
    acl.write_text("topic read hard/#\n")
    server.signal(1)
    wait_for(lambda: "Reloading config" in server.log(), what="the new list")
    found = lines(hard.run("check", "--json", HARD__BROKER__URL=f"mqtt://127.0.0.1:{server.port}"))
    assert found["broker publish"]["status"] == "fail"
    assert "acl_file" in found["broker publish"]["remedy"]


@pytest.mark.mosquitto
def test_a_tls_broker_passes_with_its_certificate_s_days(
    hard: Hard, server: Mosquitto, tmp_path: Path
) -> None:
    authority = Authority(tmp_path / "ca")
    cert, key = authority.sign("broker", "DNS:localhost,IP:127.0.0.1")
    server.start(f"allow_anonymous true\ncafile {authority.ca}\ncertfile {cert}\nkeyfile {key}")
    environ = {
        "HARD__BROKER__URL": f"mqtts://localhost:{server.port}",
        "HARD__BROKER__TLS__CA": str(authority.ca),
    }
    found = lines(hard.run("check", "--json", **environ))
    assert found["broker publish"]["status"] == "pass"
    assert "TLSv1" in found["broker TLS"]["what"]


def test_a_wrong_setting_is_named_with_line_and_fix(hard: Hard, tmp_path: Path) -> None:
    config = tmp_path / "hard.yaml"
    config.write_text("engine:\n  tik_ms: 3\n")
    done = hard.run("check", "--config", str(config), "--json")
    found = lines(done)["config"]
    assert done.returncode == 2
    assert found["what"] == f"{config}:2: engine.tik_ms: unknown key"
    assert found["remedy"] == "did you mean 'tick_ms'?"


def test_a_damaged_model_is_found(hard: Hard, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    for name in ("card.yaml", "model.pt"):
        (folder / name).write_bytes((ROOT / "models/lstm-waist" / name).read_bytes())
    weights = bytearray((folder / "model.pt").read_bytes())
    weights[5000] ^= 1
    (folder / "model.pt").write_bytes(weights)
    done = hard.run("check", "--json", HARD__IMU__MODEL=str(folder), HARD__BROKER__URL="mqtt://127.0.0.1:1")
    (failed,) = [
        x for x in json.loads(done.stdout)["lines"] if x["name"] == "model" and x["status"] == "fail"
    ]
    assert "model.pt: sha256 " in failed["what"]
    assert "the file is damaged" in failed["remedy"]


def test_a_model_that_is_none_for_its_part_is_named(hard: Hard) -> None:
    done = hard.run(
        "check", "--json", HARD__IMU__ACC_MODEL="lstm-waist", HARD__BROKER__URL="mqtt://127.0.0.1:1"
    )
    (failed,) = [
        x for x in json.loads(done.stdout)["lines"] if x["name"] == "model" and x["status"] == "fail"
    ]
    assert (
        failed["what"] == "imu.acc_model: lstm-waist needs a gyroscope, and is to be for devices without one"
    )
    assert failed["remedy"] == "take a model such as lstm-acc"


def test_a_running_daemon_and_its_broker_are_found(hard: Hard, port: int) -> None:
    process = run_embedded(hard, port)
    assert process.stderr
    assert any("ready in" in line for line in iter(process.stderr.readline, ""))
    found = lines(hard.run("check", "--json", HARD__EMBEDDED__PORT=str(port)))
    assert found["broker publish"]["status"] == "pass"
    assert f"process {process.pid}" in found["daemon"]["what"]


def test_the_broker_of_a_running_daemon_is_not_guessed(hard: Hard, server: Mosquitto) -> None:
    process = hard.start("run", "--broker", f"mqtt://127.0.0.1:{server.port}")
    assert process.stderr
    assert any("ready in" in line for line in iter(process.stderr.readline, ""))
    found = lines(hard.run("check", "--json"))
    assert found["broker"]["status"] == "fail"
    assert "--broker URL" in str(found["broker"]["remedy"])
    assert "broker TCP" not in found


def test_serial_ports_are_opened(hard: Hard, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as board:
        url = f"socket://127.0.0.1:{board.getsockname()[1]}"
        ports = json.dumps(
            [{"port": url, "device": "there"}, {"port": str(tmp_path / "no"), "device": "absent"}]
        )
        done = hard.run(
            "check", "--json", HARD__SOURCES__ENABLED="[serial]", HARD__SOURCES__SERIAL__PORTS=ports
        )
    found = [line for line in json.loads(done.stdout)["lines"] if line["name"] == "serial"]
    assert [line["status"] for line in found] == ["pass", "fail"]
    assert "plug it in" in found[1]["remedy"]


def test_a_camera_gives_one_frame_or_says_what_to_do(tmp_path: Path) -> None:
    import cv2

    film = str(tmp_path / "film.avi")
    writer = cv2.VideoWriter(film, cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    writer.write(np.full((48, 64, 3), 128, np.uint8))
    writer.release()
    address = parse(film)
    assert one_frame(address).what.startswith(f"{film}: 64 x 48")
    assert "no picture in" in one_frame(address, timeout_s=0.001).what
    Path(film).write_text("no film")
    assert one_frame(address).what.endswith("no video that OpenCV can read")
    still = tmp_path / "still.png"  # OpenCV plays it as a video of one frame; the daemon does not
    cv2.imwrite(str(still), np.zeros((48, 64, 3), np.uint8))
    assert one_frame(parse(str(still))).what.endswith("no video that OpenCV can read")
    absent = one_frame(parse("/dev/video99"))
    assert (absent.status, absent.what) == (Status.FAIL, "/dev/video99: is not there")


def test_a_camera_that_gives_the_daemon_its_pictures_is_no_fault() -> None:
    """A device that opens for nobody stands for one that the daemon has open."""
    camera = parse("/dev/null")
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as daemon:
        assert one_frame(camera, daemon.pid) == Line(
            "camera", Status.PASS, "/dev/null is in use by the running daemon"
        )
        other = one_frame(parse("/dev/full"), daemon.pid)  # which this daemon does not hold
        assert daemon.stdin
        daemon.stdin.close()
    gone = one_frame(camera, daemon.pid)
    for line in (other, gone, one_frame(camera)):
        assert line.status == Status.FAIL
        assert line.remedy
        assert line.remedy.startswith("does another program use it? (fuser -v /dev/")


def test_a_stream_without_pictures_comes_with_a_stream_s_remedy(port: int) -> None:
    camera = parse(f"rtsp://user:secret@127.0.0.1:{port}/x")
    shown = f"rtsp://127.0.0.1:{port}/x"
    assert one_frame(camera) == Line(
        "camera", Status.FAIL, f"{shown}: port {port}: Connection refused",
        "is the camera on, and its address right?",
    )  # fmt: skip
    with socket.create_server(("127.0.0.1", port)):  # takes connections, and says nothing
        wrong = one_frame(camera, timeout_s=2.0)
        beside = one_frame(camera, daemon=os.getpid(), timeout_s=2.0)
    assert (wrong.status, wrong.remedy) == (Status.FAIL, "check path, user and password")
    assert beside.status == Status.WARN
    assert "running daemon" in beside.what


def test_the_machine_s_lines(tmp_path: Path) -> None:
    assert disk_line(tmp_path / "new").status == Status.PASS
    assert disk_line(Path("/proc/no")).status == Status.FAIL
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 1 kB\nMemAvailable: 200000 kB\n")
    assert memory_line(meminfo).status == Status.WARN
    assert clock_line().status in (Status.PASS, Status.WARN)


def test_a_bundle_holds_what_a_helper_needs(hard: Hard, port: int, tmp_path: Path) -> None:
    config, bundle = tmp_path / "hard.yaml", tmp_path / "out.zip"
    config.write_text("log_level: debug\n")
    hard.run("run", "--config", str(config), "--for", "1", HARD__EMBEDDED__PORT=str(port))
    done = hard.run("check", "--config", str(config), "--bundle", str(bundle), HARD__EMBEDDED__PORT=str(port))
    assert done.returncode in (0, 1), done.stdout
    assert bundle.stat().st_mode & 0o077 == 0
    with zipfile.ZipFile(bundle) as z:
        texts = {name: z.read(name).decode() for name in z.namelist()}
    assert texts["hard.yaml"] == "log_level: debug\n"
    assert "ready in" in texts["last.log"]
    assert json.loads(texts["versions.json"])["torch"]
    assert json.loads(texts["settings.json"])["log_level"] == "debug"
    assert {line["name"] for line in json.loads(texts["check.json"])} >= {"config", "model", "disk"}
    assert {"health.json", "journal.txt", "broker.log", "environment.txt"} <= set(texts)


def test_a_bundle_s_json_is_json_also_where_it_speaks_of_passwords(hard: Hard, tmp_path: Path) -> None:
    config, bundle = tmp_path / "hard.yaml", tmp_path / "out.zip"
    config.write_text("embedded: {password: c4nary-77}\nbroker: {password: short}\nhealth: {port: null}\n")
    hard.run("check", "--config", str(config), "--bundle", str(bundle))
    with zipfile.ZipFile(bundle) as z:
        settings = json.loads(z.read("settings.json"))
    assert settings["embedded"]["password"] == settings["broker"]["password"] == "********"
    assert settings["totals"]["keep_days"] == 400

    config.write_text("embedded: {password: short}\n")
    hard.run("check", "--config", str(config), "--bundle", str(bundle))
    with zipfile.ZipFile(bundle) as z:
        (line, *_) = json.loads(z.read("check.json"))
    assert line["name"] == "config"
    assert "embedded.password" in line["what"]
