"""The installed command: what it prints, and one clear line for every mistake."""

from __future__ import annotations

import json
import re
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

import hard as package
from conftest import Hard
from hard.history import History
from hard.personal.profiles import Calibration, calibrations
from hard.recognizer import Recognizer
from hard.settings import SmoothingSettings
from hard.sinks.payload import encode
from hard.smoothing import Smoother
from hard.synthetic import SyntheticPhone


@pytest.fixture
def walk(tmp_path: Path) -> Path:
    """A plain CSV of 20 s of a synthetic phone, in its own irregular time."""
    return csv(tmp_path / "walk.csv", *SyntheticPhone(0, dwell_s=7.0).read(0, 1000))


def csv(path: Path, t: np.ndarray, samples: np.ndarray, header: str = "t,ax,ay,az,gx,gy,gz") -> Path:
    np.savetxt(path, np.column_stack([t, samples]), "%.15g", ",", header=header, comments="")
    return path


def test_version(hard: Hard) -> None:
    done = hard.run("--version")
    assert (done.returncode, done.stdout) == (0, f"hard {package.__version__}\n")


def test_help_names_every_command(hard: Hard) -> None:
    done = hard.run("--help")
    assert done.returncode == 0
    assert all(
        command in done.stdout for command in ("run", "replay", "classify", "watch", "models", "devices")
    )


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["rnu"], "no command 'rnu'; did you mean 'run'?"),
        (
            ["xyz"],
            "no command 'xyz'; there is: calibrate, check, classify, ",
        ),
        (["run", "--brokr", "x"], "No such option '--brokr'"),
        (["run", "--brokr", "x"], "'--broker'"),
        (["run", "--source", "mqt"], "'mqt' is not one of 'mqtt', 'serial'"),
        (["run", "--source", "serial"], "no port; name one with --port or sources.serial.port"),
        (["run", "--source", "serial", "--port", "sokcet://x:1"], "protocol 'sokcet' not known"),
        (["run", "--port", "/dev/ttyUSB0"], "--port needs --source serial"),
        (["run", "--source", "serial", "--port", "x", "--simulate", "1"], "--simulate needs --source mqtt"),
        (["run", "--camera", "0"], "--camera needs --source webcam"),
        (["run", "--overlay"], "--overlay needs --source webcam"),
        (
            ["run", "--source", "webcam", "--camera", "no.mp4"],
            "camera no.mp4: no such file; expected an index",
        ),
        (["run", "--source", "webcam", "--camera", "ftp://x/y"], "ftp://... is no stream; expected rtsp"),
        (["run", "--source", "webcam", "--model", "lrcn-webcm"], "did you mean lrcn-webcam?"),
        (["run", "--model", "lrcn-webcam"], "lrcn-webcam is a model of video, and needs --source webcam"),
        (
            ["run", "--source", "webcam", "--model", "lstm-pocket"],
            "lstm-pocket is a model of phone motion, and needs --source mqtt or serial",
        ),
        (["run", "--config", "config/hrd.yaml"], "did you mean config/hard.yaml?"),
        (["run", "--broker", "http://x"], "scheme 'http'; expected one of mqtt, mqtts"),
        (["run", "--model", "lstm-wast"], "did you mean lstm-waist?"),
        (["run", "--for", "0"], "'--for'"),
        (["replay", "nothing.csv"], "nothing.csv: no such file"),
        (["replay", "README.md"], "expected t,ax,ay,az,gx,gy,gz"),
        (["replay"], "Missing argument 'PATH'"),
        (["classify", "LICENSE", "--model", "x"], "LICENSE: header"),
        (["classify", "x.csv", "--acc-unit", "G"], "'G' is not one of 'g', 'm/s2'"),
        (["watch", "--broker", "mqtt://host:port"], "broker URL"),
    ],
)
def test_a_mistake_gets_one_clear_line(hard: Hard, port: int, arguments: list[str], line: str) -> None:
    done = hard.run(*arguments, HARD__EMBEDDED__PORT=str(port))
    assert done.returncode != 0
    assert done.stdout == ""
    errors = [text for text in done.stderr.splitlines() if text.startswith("hard: ")]
    assert len(errors) == 1
    assert line in errors[0]
    assert "Traceback" not in done.stderr


def test_a_password_in_a_url_is_not_shown(hard: Hard) -> None:
    done = hard.run("watch", "--broker", "mqtt://me:canary-9f2@127.0.0.1:1/path")
    assert done.returncode != 0
    assert "canary" not in done.stdout + done.stderr


def test_classify_prints_one_line_per_window(hard: Hard, walk: Path) -> None:
    done = hard.run("classify", str(walk))
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert len(lines) == (1000 - 128) // 64 + 1
    assert lines[0].split()[:2] == ["2.54", "s"]


def test_classify_says_why_an_activity_is_unknown(hard: Hard, tmp_path: Path) -> None:
    _, samples = SyntheticPhone(0).read(0, 200)
    done = hard.run("classify", str(csv(tmp_path / "slow.csv", np.arange(200) / 10, samples)))
    assert done.returncode == 0
    assert done.stdout
    assert all(line.endswith("  rate 10.0 Hz is below 19 Hz") for line in done.stdout.splitlines())


def test_classify_json_is_the_live_payload_and_nothing_else(hard: Hard, walk: Path) -> None:
    done = hard.run("classify", str(walk), "--json")
    assert done.returncode == 0
    table = np.loadtxt(walk, delimiter=",", skiprows=1)
    expected = Recognizer("lstm-waist").push("walk", table[:, 0], table[:, 1:])
    got = [json.loads(line) for line in done.stdout.splitlines()]
    history = History(Smoother(SmoothingSettings()))
    live = [json.loads(encode(history.label(p, p.end_s, p.end_s, []))) for p in expected]
    for line, payload in zip(got, live, strict=True):
        del payload["latency_ms"], payload["since"], payload["window_end"]["utc"]
        assert line == payload | {"t_end": payload["window_end"]["device_s"]}
        most = max(line["probabilities"], key=line["probabilities"].__getitem__)
        known = {"activity": most, "confidence": line["probabilities"][most]}
        between_two = {"activity": "unknown", "confidence": 0.0}
        assert line["raw"] in (known, between_two)
        assert (line["reason"] is None) == (line["activity"] != "unknown")
        assert sum(line["probabilities"].values()) == pytest.approx(1.0, abs=5e-4)


def test_classify_tells_utc_where_the_times_are_unix_times(hard: Hard, walk: Path, tmp_path: Path) -> None:
    table = np.loadtxt(walk, delimiter=",", skiprows=1)
    dated = hard.run("classify", str(csv(tmp_path / "u.csv", table[:, 0] + 1.8e9, table[:, 1:])), "--json")
    assert dated.returncode == 0
    since, begun = None, None
    for line in map(json.loads, dated.stdout.splitlines()):
        if line["activity"] != begun:
            since, begun = line["window_end"]["utc"], line["activity"]
        assert line["since"] == since
        at = datetime.fromisoformat(line["window_end"]["utc"]).timestamp()
        assert at == pytest.approx(line["window_end"]["device_s"], abs=2e-3)


@pytest.mark.parametrize("device", ["nobdy", "a/b"])
def test_a_device_of_which_nothing_is_kept_is_refused(
    hard: Hard, walk: Path, tmp_path: Path, device: str
) -> None:
    done = hard.run("classify", str(walk), "--as", device)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"--as {device}: it has neither a calibration nor a personal head; nor has any" in done.stderr
    turn = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
    calibrations(tmp_path / "state").put(Calibration("nobody", "2026-11-20T05:00:00Z", turn, 0.9))
    assert "head; there is: nobody" in hard.run("classify", str(walk), "--as", device).stderr
    assert hard.run("classify", str(walk), "--as", "nobody").returncode == 0


def test_classify_says_what_it_lost(hard: Hard, tmp_path: Path) -> None:
    t, samples = SyntheticPhone(0).read(0, 600)
    samples[200] = np.nan
    t[400:] += 5.0
    done = hard.run("classify", str(csv(tmp_path / "torn.csv", t, samples)), "--json")
    assert done.returncode == 0
    assert done.stderr.strip() == "lost: gap 1, not_finite 1"


T, SAMPLES = SyntheticPhone(0).read(0, 1000)
FAST = np.tile(SAMPLES, (4, 1))
MIXED = np.random.default_rng(0).permutation(1000)


@pytest.mark.parametrize(
    ("t", "samples", "header", "error"),
    [
        (T[:100], SAMPLES[:100], "t", r"1\.98 s of samples hold no complete window of 2\.56 s"),
        (T[MIXED], SAMPLES[MIXED], "t", r"times go back at \d{3} of 1000 rows; sort them by time"),
        (np.arange(4000) / 800, FAST, "t", "800 samples a second, expected 20 to 400: keep"),
        (np.full(1000, 5.0), SAMPLES, "t (s)", "all 1000 samples have the same time"),
        (T, SAMPLES, "t [ns]", r"5e\+10 samples a second, .*, or mend the unit of time"),
        (np.arange(1000) / 3, SAMPLES, "t", r"no 2\.56 s without a gap .*0\.2 s; 3 samples a second"),
    ],
    ids=["too short", "shuffled", "too fast", "all alike", "another unit", "too slow"],
)
def test_a_recording_without_a_window_is_told_why(
    hard: Hard, tmp_path: Path, t: np.ndarray, samples: np.ndarray, header: str, error: str
) -> None:
    done = hard.run("classify", str(csv(tmp_path / "a.csv", t, samples, f"{header},ax,ay,az,gx,gy,gz")))
    assert (done.returncode, done.stdout) == (1, "")
    assert re.search(r"^hard: .*/a\.csv: " + error, done.stderr, re.M)


def test_classify_takes_gaps_and_rates_as_the_settings_say(hard: Hard, tmp_path: Path) -> None:
    path = csv(tmp_path / "slow.csv", np.arange(200) / 4, SAMPLES[:200])
    settings = {"HARD__IMU__MAX_GAP_S": "0.3"}
    assert "is below 19 Hz" in hard.run("classify", str(path), **settings).stdout
    assert "is below 5 Hz" in hard.run("classify", str(path), HARD__IMU__MIN_RATE_HZ="5", **settings).stdout


def test_models_shows_cards_and_figures(hard: Hard) -> None:
    done = hard.run("models")
    assert done.returncode == 0
    assert "lstm-waist" in done.stdout
    assert "tools/evaluate.py sensor" in done.stdout
    assert "walking_upstairs" in done.stdout


def test_replay_without_a_broker_says_how_to_get_one(hard: Hard, walk: Path, port: int) -> None:
    done = hard.run("replay", str(walk), "--broker", f"mqtt://127.0.0.1:{port}")
    assert done.returncode == 1
    assert f"hard: no broker answers at mqtt://127.0.0.1:{port}; start one with `hard run`" in done.stderr


def test_a_closed_pipe_is_no_error(hard: Hard, walk: Path) -> None:
    process = hard.start("classify", str(walk), "--json")
    assert process.stdout
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(30) == 0
