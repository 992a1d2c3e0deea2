"""What a person sees: the table in any terminal, the welcome, help, and an output that cannot be written."""

from __future__ import annotations

import io
import json
import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from conftest import Hard
from hard.broker import Broker, BrokerUrl
from hard.handoff import Board
from hard.mqtt.address import parse_url
from hard.router import Router
from hard.settings import OutputSettings, Settings, SourcesSettings, TopicSettings, native_topic
from hard.sinks.payload import encode
from hard.stats import Counters, Drop
from hard.table import ACTIVITY, FRAME_ROWS, render
from hard.types import DayTotals, Label, Prediction
from hard.watch import Watcher
from hard.welcome import welcome
from test_daemon import run_embedded

NOW_S = 1_700_000_000.0


def label(device: str, activity: str, reason: str | None = None, silent_s: float = 0.0) -> Label:
    p = Prediction(device, 1.0, activity, 0.9, {}, 50.0, 0, 0.0, 0.0, "m", "0")
    return Label(p, activity, 0.93, reason, NOW_S - 70, NOW_S - silent_s, 1, 8.0)


labels = st.lists(
    st.builds(
        label,
        st.text("abc-", min_size=1, max_size=64),
        st.sampled_from(["walking_downstairs", "sitting"]),
        st.none() | st.text("x ", max_size=80),
        st.sampled_from([0.0, 90.0]),
    ),
    max_size=60,
)


def drawn(made: list[Label], drops: dict[str, int], width: int, height: int) -> list[str]:
    console = Console(width=width, file=io.StringIO())
    totals = {
        m.prediction.device: DayTotals(m.prediction.device, "2023-11-14", {"walking": 90.0}) for m in made
    }
    table = render("hard   " + "model " * 9, made, drops, NOW_S, totals)
    lines = console.render_lines(table, console.options.update(height=height), pad=False)
    text = ["".join(segment.text for segment in line).rstrip() for line in lines]
    while text and not text[-1]:
        text.pop()
    return text


@given(labels, st.integers(40, 200), st.integers(FRAME_ROWS + 1, 60))
def test_the_table_fits_any_terminal_and_hides_no_loss(made: list[Label], width: int, height: int) -> None:
    text = drawn(made, {"bad_payload": 3}, width, height)
    assert max(map(len, text)) <= width
    assert len(text) <= height
    assert text[-1] == "lost: bad_payload 3"
    shown = [line for line in text if line.startswith("│")]
    assert len(shown) == min(len(made), 40, height - FRAME_ROWS)
    for line, m in zip(shown, made, strict=False):
        said = m.reason or m.activity.replace("_", " ")
        assert said[: ACTIVITY[0] - 1] in line  # activity is never squeezed
    if len(shown) < len(made):
        assert f"and {len(made) - len(shown)} more devices" in text


@given(st.builds(
    dict,
    device=st.text(max_size=100),
    activity=st.text(max_size=100),
    confidence=st.floats(allow_nan=False, allow_infinity=False) | st.floats(0, 1),
    since=st.datetimes(timezones=st.none() | st.timezones()).map(lambda d: d.isoformat()),
    seq=st.integers(),
    latency_ms=st.floats(allow_nan=False, allow_infinity=False),
    rate_hz=st.floats(allow_nan=False, allow_infinity=False),
    reason=st.none() | st.text(max_size=100),
))  # fmt: skip
def test_a_foreign_message_is_refused_or_shown(said: dict[str, object]) -> None:
    """`hard watch` at a broker where anybody publishes; a confidence of 1e12 took all memory for its bar."""
    end = {"device_s": 1.0, "utc": said["since"]}
    more = {"v": 1, "raw": {"activity": "x", "confidence": 0.5}, "probabilities": {}, "window_end": end,
            "model": {"name": "m", "sha256": "0"}, "gaps": 0}  # fmt: skip
    board, counters = Board(), Counters()
    Watcher(board, counters, "hard").take("hard/a/activity", json.dumps(said | more).encode())
    made = board.labels()
    assert len(made) + counters[Drop.BAD_PAYLOAD] == 1
    drawn(made, {}, 80, 24)
    assert all(0 <= m.confidence <= 1 for m in made)


def test_a_device_whose_label_is_taken_back_leaves_the_table() -> None:
    board = Board()
    watcher = Watcher(board, Counters(), "home/hard")
    for device in ("alice", "synthetic-1"):
        watcher.take(f"home/hard/{device}/activity", encode(label(device, "walking")))
    watcher.take("home/hard/synthetic-1/activity", b"")
    watcher.take("home/hard/synthetic-1/totals", b"")
    assert [m.prediction.device for m in board.labels()] == ["alice"]


def test_a_wide_terminal_shows_everything() -> None:
    text = "\n".join(drawn([label("alice", "walking_downstairs")], {}, 120, 30))
    for part in ("alice", "walking downstairs", "93%", "1 min 10 s", "50.0 Hz", "8 ms", "walking 1m"):
        assert part in text


@pytest.mark.parametrize(
    ("filters", "topic"),
    [
        (["hard/+/imu"], "hard/alice/imu"),
        (["a/b/+/imu"], "a/b/alice/imu"),
        (["+/+/+"], "hard/alice/imu"),
        (["a/#"], "a/alice/imu"),
        (["hard/bob/imu", "x/alice/y"], "x/alice/y"),
        (["hard/bob/imu"], None),
        ([], None),
    ],
)
def test_the_topic_that_is_named_is_one_that_is_heard(filters: list[str], topic: str | None) -> None:
    topics = [TopicSettings(filter=f, codec="native") for f in filters]
    assert native_topic(topics, "alice") == topic
    if topic is not None:
        assert Router([(f, f) for f in filters]).codec(topic) is not None  # type: ignore[misc]
        assert topic.rsplit("/", 2)[-2] == "alice"  # where the codec takes the name from


def test_the_welcome_names_what_is_heard(tmp_path: Path) -> None:
    def said(*topics: TopicSettings) -> str:
        mqtt = SourcesSettings().mqtt.__class__(topics=topics)
        settings = Settings(output=OutputSettings(prefix="lab"), sources=SourcesSettings(mqtt=mqtt))
        return welcome(settings, parse_url("mqtt://nas"), tmp_path / "password", {}, None)

    assert "topic a/<name>/imu, native format" in said(TopicSettings(filter="a/+/imu", codec="native"))
    only_app = said(TopicSettings(filter="sensor-logger", codec="sensor-logger"))
    assert "native format" not in only_app
    assert "an app on its own topic: sensor-logger" in only_app
    assert "no phone is heard" in said()
    assert "labels: topic lab/<name>/activity" in said()


@pytest.mark.parametrize("arguments", [(), ("service",)])
def test_without_a_command_the_help_is_shown_as_it_is(hard: Hard, arguments: tuple[str, ...]) -> None:
    done = hard.run(*arguments)
    assert done.returncode == 2
    assert "\nCommands:\n" in done.stdout + done.stderr


@pytest.mark.parametrize("arguments", [("models",), ("devices", "--json"), ("--help",)])
def test_an_output_that_cannot_be_written_is_one_line(hard: Hard, arguments: tuple[str, ...]) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*hard.command, *arguments],
            env=hard.env,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr == "hard: the output cannot be written: No space left on device\n"


def test_the_daemon_does_without_its_output_and_without_unicode(hard: Hard, port: int) -> None:
    env = hard.env | {"HARD__EMBEDDED__PORT": str(port), "PYTHONIOENCODING": "ascii"}
    command = [*hard.command, "run", "--for", "1"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "in s, m/s?, rad/s" in done.stdout
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            command, env=env, stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=60
        )
    assert "Traceback" not in done.stderr
    assert "stopping" in done.stderr


def test_watching_a_broker_that_never_answers_is_an_error(hard: Hard, port: int) -> None:
    done = hard.run("watch", "--broker", f"mqtt://127.0.0.1:{port}", "--for", "1")
    assert done.returncode == 1
    assert (
        done.stderr.splitlines()[-1] == f"hard: mqtt://127.0.0.1:{port}: cannot connect: Connection refused"
    )


@pytest.mark.parametrize("number", ["nan", "inf", "1e300"])
@pytest.mark.parametrize(
    "command",
    [
        ["watch", "--for"],
        ["check", "--listen", "--seconds"],
        ["record", "--device", "x", "--label", "walking", "--seconds"],
        ["calibrate", "x", "--after"],
        ["replay", "x.csv", "--speed"],
    ],
)
def test_a_number_for_which_nobody_can_wait_is_refused(hard: Hard, command: list[str], number: str) -> None:
    done = hard.run(*command, number)
    assert done.returncode == 2
    assert f"expected a number up to 1e+09, got {float(number):g}" in done.stderr


@pytest.mark.parametrize("url", ["mqtt://127.0.0.1:0", "mqtt://", ""])
def test_a_broker_without_port_or_host_is_one_line(hard: Hard, url: str) -> None:
    done = hard.run("watch", "--broker", url, "--for", "1")
    assert done.returncode == 1
    assert done.stderr.startswith("hard: broker URL: ")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(("closed", "fds"), [(">&-", [1]), ("2>&-", [2]), ("<&- >&- 2>&-", [0, 1, 2])])
def test_a_stream_that_is_closed_leads_nowhere(hard: Hard, port: int, closed: str, fds: list[int]) -> None:
    """Nothing fails for it, what is wrong does not turn up in the other one, and no file gets its number."""
    hard.command = ["sh", "-c", f'exec "$@" {closed}', "sh", *hard.command]
    done = hard.run("models")
    assert (done.returncode, done.stderr) == (0, "")
    done = hard.run("run", "--brokr", "x")
    assert (done.returncode, done.stdout) == (2, "")
    process = run_embedded(hard, port)
    assert {os.readlink(f"/proc/{process.pid}/fd/{fd}") for fd in fds} == {os.devnull}
    process.terminate()
    _, err = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "Traceback" not in err


@pytest.mark.mosquitto
def test_watching_into_a_pipe_writes_each_change_to_it_at_once(hard: Hard, mosquitto: int) -> None:
    phone = Broker(BrokerUrl("127.0.0.1", mosquitto), Counters())
    phone.start()
    assert phone.wait_ready(10)

    def publish(name: str, activity: str) -> None:
        phone.publish("hard/x/activity", encode(label(name, activity)), retain=True)

    publish("alice", "walking")
    watcher = hard.start("watch", "--broker", f"mqtt://127.0.0.1:{mosquitto}")
    try:
        assert watcher.stdout
        assert watcher.stderr
        said = [watcher.stdout.readline()]
        for name, activity in (("alice", "walking"), ("bo\nb\x1b[2J", "sitting"), ("alice", "standing")):
            publish(name, activity)
        said += [watcher.stdout.readline(), watcher.stdout.readline()]
        assert [line.split()[1:4] for line in said] == [
            ["alice", "walking", "0.93"], ["bo?b?[2J", "sitting", "0.93"], ["alice", "standing", "0.93"],
        ]  # fmt: skip
        watcher.stdout.close()  # as `| head -3` does
        publish("alice", "laying")
        assert watcher.wait(10) == 0
        err = watcher.stderr.read()
        assert "Traceback" not in err
        assert "alice" not in err
    finally:
        phone.stop()
