"""`hard calibrate`, `record` and `personalize` as commands, beside a daemon, with real recordings."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from conftest import Hard, listening, wait_for
from hard.broker import Broker, BrokerUrl
from hard.codecs.native import encode
from hard.datasets.hapt import LABELS, Session, read_sessions
from hard.personal.capture import progress_bar
from hard.personal.profiles import calibrations, heads
from hard.personal.record import folder_of, read_calibration, write
from hard.recordings import Recording, read_recording
from hard.stats import Counters
from tools.worn import turned

pytestmark = pytest.mark.data
TURN = np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])


@pytest.fixture(scope="module")
def session(data: Path) -> Session:
    """Somebody's recording, the phone turned: standing, up is its y."""
    (found,) = [s for s in read_sessions(data, frozenset({3})) if s.exp == 5]
    return Session(found.exp, found.user, turned(found.recording, TURN), found.segments)


def part(session: Session, label: str, seconds: float, which: int = 0) -> Recording:
    """The middle of a stretch of one activity, for at most so many seconds."""
    stretches = [(a, b) for number, a, b in session.segments if LABELS[number] == label]
    first, end = stretches[which]
    n = min(end - first, int(seconds * 50))
    start = first + (end - first - n) // 2
    r = session.recording
    return Recording(label, r.t[start : start + n] - r.t[start], r.samples[start : start + n])


def joined(*parts: Recording) -> Recording:
    samples = np.concatenate([p.samples for p in parts])
    return Recording("joined", np.arange(len(samples)) / 50, samples)


class Seen:
    """Alice's labels on a broker."""

    def __init__(self, port: int) -> None:
        self.labels: list[dict[str, object]] = []
        self.broker = Broker(BrokerUrl("127.0.0.1", port), Counters())
        self.broker.listen({"hard/alice/activity": 1}, self._take)
        self.broker.start()
        assert self.broker.wait_ready(15)

    def _take(self, _topic: str, payload: bytes) -> None:
        if payload:
            self.labels.append(json.loads(payload))


class Lines:
    """What a process says on stderr, line by line."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stderr
        self._lines = iter(process.stderr.readline, "")

    def until(self, text: str) -> str:
        return next(line for line in self._lines if text in line)


@pytest.fixture
def daemon(hard: Hard, port: int) -> Iterator[Lines]:
    process = hard.start("run", HARD__EMBEDDED__PORT=str(port))
    wait_for(lambda: listening(port) or process.poll() is not None, what="the embedded broker")
    lines = Lines(process)
    lines.until("ready in")
    yield lines
    process.terminate()
    process.wait(10)


ORDER = ("standing", "laying", "sitting", "walking")
PART_S = 18.0


def a_day(session: Session) -> Recording:
    """Four activities, 18 s each."""
    return joined(*(part(session, label, PART_S, 1) for label in ORDER))


def right(lines: list[dict[str, object]]) -> float:
    """Share of the windows of `a_day` within one activity that have its label; lines of `hard classify`."""
    whole = [(t, line["raw"]["activity"]) for line in lines if (t := line["t_end"]) % PART_S >= 2.56]
    return float(np.mean([activity == ORDER[int(t / PART_S)] for t, activity in whole]))


def classified(hard: Hard, path: Path, *arguments: str) -> list[dict[str, object]]:
    done = hard.run("classify", str(path), "--json", *arguments)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_turned_phone_is_calibrated_live_and_labelled_rightly(
    hard: Hard, port: int, tmp_path: Path, session: Session, daemon: Lines
) -> None:
    broker = ("--broker", f"mqtt://127.0.0.1:{port}")
    walk, day = tmp_path / "walk.csv", tmp_path / "day.csv"
    write(walk, joined(part(session, "standing", 5), part(session, "walking", 16)))
    write(day, a_day(session))
    calibrating = hard.start("calibrate", "alice", "--after", "0", *broker)
    Lines(calibrating).until("listening to")
    assert hard.run("replay", str(walk), "--as", "alice", "--speed", "8", *broker).returncode == 0
    out, err = calibrating.communicate(timeout=30)
    assert calibrating.returncode == 0, err
    assert "alice: calibrated (likeness of the walk 0." in out
    daemon.until("alice: now with calibration")
    offline = classified(hard, day, "--as", "alice")
    assert right(offline) > 0.9
    assert right(classified(hard, day, "--model", "lstm-waist")) < 0.5
    seen = Seen(port)
    assert hard.run("replay", str(day), "--as", "alice", "--speed", "20", *broker).returncode == 0
    end_s = offline[-1]["t_end"]
    wait_for(lambda: any(abs(label["window_end"]["device_s"] - end_s) < 0.01 for label in seen.labels[5:]))
    seen.broker.stop()
    live = [label["raw"]["activity"] for label in seen.labels][-len(offline) :]
    assert live == [line["raw"]["activity"] for line in offline]
    assert "alice: calibrated 20" in hard.run("calibrate", "--list").stdout
    assert "no longer calibrated" in hard.run("calibrate", "alice", "--clear").stdout
    daemon.until("alice: now with neither calibration nor head")
    listed = hard.run("calibrate", "--list")
    assert (listed.returncode, listed.stdout) == (0, "")
    assert "no device is calibrated in " in listed.stderr


def test_calibrated_from_a_recording_or_told_why_not(hard: Hard, tmp_path: Path, session: Session) -> None:
    write(tmp_path / "walk.csv", joined(part(session, "standing", 5), part(session, "walking", 16)))
    write(tmp_path / "sit.csv", part(session, "sitting", 15))
    assert hard.run("calibrate", "alice", "--from", str(tmp_path / "walk.csv")).returncode == 0
    made = calibrations(tmp_path / "state").get("alice")
    assert made is not None
    done = hard.run("calibrate", "bob", "--from", str(tmp_path / "sit.csv"))
    assert done.returncode == 1
    assert "sit.csv: nobody walks for 10 s in these" in done.stderr
    assert hard.run("calibrate").returncode == 2


def test_the_bar_counts_seconds_only_where_it_knows_how_many() -> None:
    bar = progress_bar(Console(width=80))
    bar.add_task("waiting for alice", total=None)
    bar.add_task("alice: sitting", total=60.0, completed=12.3)
    shown = Console(width=80)
    with shown.capture() as capture:
        shown.print(bar.get_renderable())
    waiting, sitting = capture.get().splitlines()
    assert "None" not in waiting
    assert sitting.rstrip().endswith("12 of 60 s")


def test_a_silent_device_is_said_with_those_that_speak(hard: Hard, port: int) -> None:
    process = hard.start("run", "--simulate", "1", HARD__EMBEDDED__PORT=str(port))
    Lines(process).until("synthetic-1")
    broker = ("--broker", f"mqtt://127.0.0.1:{port}")
    done = hard.run("record", "--device", "alice", "--label", "sitting", *broker)
    assert done.returncode == 1
    assert "nothing comes from 'alice' for 8 s; heard: synthetic-1" in done.stderr


def test_a_live_device_is_recorded_as_it_sent(
    hard: Hard, port: int, tmp_path: Path, session: Session, daemon: Lines
) -> None:
    broker = ("--broker", f"mqtt://127.0.0.1:{port}")
    sent = part(session, "sitting", 15)
    write(tmp_path / "sit.csv", sent)
    options = ("--device", "alice", "--label", "sitting", "--seconds", "10", "--after", "0")
    write(tmp_path / "walk.csv", joined(part(session, "standing", 5), part(session, "walking", 16)))
    assert hard.run("calibrate", "alice", "--from", str(tmp_path / "walk.csv")).returncode == 0
    recording = hard.start("record", *options, *broker)
    Lines(recording).until("listening to")
    assert (
        hard.run("replay", str(tmp_path / "sit.csv"), "--as", "alice", "--speed", "8", *broker).returncode
        == 0
    )
    out, err = recording.communicate(timeout=30)
    assert recording.returncode == 0, err
    (path,) = folder_of(tmp_path / "state", "alice").glob("*.csv")
    assert out.strip() == str(path)
    assert path.name.startswith("sitting-20")
    kept = read_recording(path)
    np.testing.assert_allclose(kept.t, sent.t[:501], atol=1e-6)
    np.testing.assert_allclose(kept.samples, sent.samples[:501], rtol=1e-5, atol=1e-6)
    assert read_calibration(path) == calibrations(tmp_path / "state").get("alice") is not None


def test_a_recording_begins_anew_where_the_device_s_clock_does(
    hard: Hard, port: int, tmp_path: Path, session: Session, daemon: Lines
) -> None:
    """An app that is started again, and a board that learns the time."""
    sent = part(session, "sitting", 12)
    options = ("--device", "alice", "--label", "sitting", "--seconds", "5", "--after", "0")
    recording = hard.start("record", *options, "--broker", f"mqtt://127.0.0.1:{port}")
    Lines(recording).until("listening to")
    phone = Broker(BrokerUrl("127.0.0.1", port), Counters())
    phone.start()
    assert phone.wait_ready(15)
    for began_s, first, end in ((500.0, 0, 100), (0.0, 100, 200), (1.6e9, 200, 600)):
        for i in range(first, end, 50):
            t = began_s + sent.t[i : i + 50]
            phone.publish("hard/alice/imu", encode(t, sent.samples[i : i + 50]), qos=1)
    _, err = recording.communicate(timeout=30)
    phone.stop()
    assert recording.returncode == 0, err
    (path,) = folder_of(tmp_path / "state", "alice").glob("*.csv")
    np.testing.assert_allclose(read_recording(path).samples, sent.samples[200:451], rtol=1e-5, atol=1e-6)
    assert "the clock of alice jumped: beginning anew" in err


def test_a_person_gets_a_head_and_loses_it_again(
    hard: Hard, tmp_path: Path, session: Session, port: int, daemon: Lines
) -> None:
    state, day = tmp_path / "state", tmp_path / "day.csv"
    write(day, a_day(session))
    write(tmp_path / "walk.csv", joined(part(session, "standing", 5), part(session, "walking", 16)))
    assert hard.run("calibrate", "alice", "--from", str(tmp_path / "walk.csv")).returncode == 0
    done = hard.run("personalize", "alice")
    assert done.returncode == 1
    assert "no recordings; make them with `hard record --device alice" in done.stderr
    for label in LABELS:
        write(folder_of(state, "alice") / f"{label}-20261120T050000Z.csv", part(session, label, 18))
    before = classified(hard, day, "--as", "alice")
    done = hard.run("personalize", "alice")
    assert done.returncode == 0, done.stderr
    assert "right on parts left out:" in done.stdout
    made = heads(state).get("alice")
    assert made is not None
    assert (made.after > made.before) != ("and surer of it" in done.stdout)
    assert heads(state).path("alice").stat().st_size < 5000
    daemon.until("alice: now with calibration and personal head")
    after = classified(hard, day, "--as", "alice")
    assert right(after) >= right(before)
    assert [line["probabilities"] for line in after] != [line["probabilities"] for line in before]
    assert "the model alone again" in hard.run("personalize", "alice", "--undo").stdout
    daemon.until("alice: now with calibration")
    assert classified(hard, day, "--as", "alice") == before
    assert "had no personal head" in hard.run("personalize", "alice", "--undo").stdout
