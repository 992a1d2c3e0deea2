"""`hard check --listen`: each app is named, and what is wrong is said with its mend."""

from __future__ import annotations

import contextlib
import json
import math
import socket
import threading
from pathlib import Path

import numpy as np
import pytest

from apps import APPS, Phone
from conftest import Hard, start_mosquitto, wait_for
from hard.broker import Broker, BrokerUrl
from hard.codecs import CodecOptions
from hard.codecs.auto import AutoCodec
from hard.codecs.native import encode
from hard.listen import Finding, Listener
from hard.recordings import Recording
from hard.registry import make_codec
from hard.settings import APP_TOPICS
from hard.stats import Counters
from hard.synthetic import SyntheticPhone
from hard.types import G, Message


def listener() -> Listener:
    counters = Counters()
    configured = [(t.filter, t.codec, make_codec(t.codec, CodecOptions(), counters)) for t in APP_TOPICS]
    return Listener(configured, AutoCodec(CodecOptions(), counters))


def person(seconds: float = 12.0, rate_hz: float = 50.0) -> Recording:
    return Recording(
        "person", *SyntheticPhone(3, rate_hz=rate_hz).read(0, int(seconds * rate_hz))
    )  # standing


DIALECT = {"Sensor Logger": "sensor-logger", "SensorSpot": "android-sensor", "phyphox": "phyphox",
           "HyperIMU": "hyperimu", "generic JSON": "json"}  # fmt: skip


@pytest.mark.parametrize("app", APPS)
def test_every_app_is_named(app: str) -> None:
    encoder, device = APPS[app]
    heard = listener()
    for topic, payload in encoder(Phone(person(), seed=1)):
        heard.take(Message(topic, payload, 0.0))
    (finding,) = heard.findings()
    assert finding.device == device
    assert finding.dialect == next(name for start, name in DIALECT.items() if app.startswith(start))
    assert finding.gyroscope
    assert min(finding.rate_hz.values()) == pytest.approx(50, abs=15) or min(finding.rate_hz.values()) > 90
    if app != "generic JSON":  # which comes in g
        assert finding.problems == []
        assert finding.up
        assert finding.up.startswith("+x")


def one(topic: str, payloads: list[bytes]) -> Finding:
    heard = listener()
    for payload in payloads:
        heard.take(Message(topic, payload, 0.0))
    (finding,) = heard.findings()
    return finding


def native(scale: float = 1.0, offset: float = 0.0, rate_hz: float = 50.0) -> list[bytes]:
    recording = person(rate_hz=rate_hz)
    samples = recording.samples.copy()
    samples[:, :3] = (samples[:, :3] - np.float32(offset) * samples[:, :3].mean(axis=0)) * np.float32(scale)
    return [encode(recording.t[k : k + 25], samples[k : k + 25]) for k in range(0, len(samples), 25)]


def test_a_good_stream_has_no_problem() -> None:
    finding = one("hard/me/imu", native())
    assert (finding.device, finding.dialect, finding.problems) == ("me", "native", [])
    assert finding.rate_hz["angular velocity"] == pytest.approx(50, abs=0.5)
    assert finding.clock.startswith("its own")


@pytest.mark.parametrize(
    ("payloads", "problem"),
    [
        (native(scale=1 / G), 'it is in g, not in m/s²; say so in its messages: "acc": "g" in JSON, flag 1'),
        (native(offset=1.0), "without gravity, or in another unit"),
        (native(rate_hz=10.0), "at 10 Hz is too slow to be labelled: send at 50 Hz"),
        (native(rate_hz=30.0), "slower than the models were trained on"),
    ],
)
def test_what_is_wrong_is_said_with_its_mend(payloads: list[bytes], problem: str) -> None:
    assert any(problem in p for p in one("hard/me/imu", payloads).problems)


def in_g(dialect: str, **more: object) -> list[bytes]:
    """A phone at rest that measures in g."""
    if dialect == "json":
        return [
            json.dumps({"t": k / 50, "ax": 0.01 * (k % 2), "ay": 0, "az": 1}).encode() for k in range(200)
        ]
    if dialect == "csv-lines":
        return [f"{k * 20},{0.01 * (k % 2)},0,1\n".encode() for k in range(200)]
    twin = {
        "t": [k / 50 for k in range(200)],
        "samples": [[0.01 * (k % 2), 0, 1, 0, 0, 0] for k in range(200)],
    }
    return [json.dumps(twin | more).encode()]


@pytest.mark.parametrize("dialect", ["native", "json", "csv-lines"])
def test_the_mend_for_g_is_one(dialect: str) -> None:
    """What `hard check --listen` says to do ends the problem, in every dialect."""

    def problems(acc_unit: str, payloads: list[bytes]) -> str:
        codec = make_codec(dialect, CodecOptions(acc_unit=acc_unit), Counters())
        heard = Listener([("me/imu", dialect, codec)], AutoCodec(CodecOptions(), Counters()))
        for k, payload in enumerate(payloads):
            heard.take(Message("me/imu", payload, 0.02 * k))
        (finding,) = heard.findings()
        return " ".join(finding.problems)

    said = problems("m/s2", in_g(dialect))
    assert "it is in g, not in m/s²" in said
    assert ("acc_unit: g" in said) == (dialect != "native")
    assert ('"acc": "g" in JSON' in said) == (dialect == "native")
    mended = (
        problems("m/s2", in_g("native", acc="g")) if dialect == "native" else problems("g", in_g(dialect))
    )
    assert " g, not in" not in mended


def timed(payloads: list[bytes]) -> Finding:
    """As they come live: a message every half second."""
    heard = listener()
    for k, payload in enumerate(payloads):
        heard.take(Message("hard/me/imu", payload, 100.0 + k / 2))
    (finding,) = heard.findings()
    return finding


def stated(rate_hz: float, t_unit: float = 1.0, period_s: float = 0.5) -> list[bytes]:
    """Half-second messages of 25 samples that say when the first was taken, and the rate."""
    samples = person().samples
    return [
        encode(np.array([k * period_s * t_unit]), samples[25 * k : 25 * k + 25], rate_hz) for k in range(24)
    ]


@pytest.mark.parametrize(
    ("payloads", "problem"),
    [
        (stated(50.0, t_unit=1e3), "t looks like milliseconds, as it goes on by 1000 a second: send seconds"),
        (stated(50.0, t_unit=1e6), "t looks like microseconds"),
        (stated(50.0, t_unit=0.0), "its clock stands still"),
        (stated(100.0), "the stated rate, 100 Hz, is wrong, as 50 samples a second come"),
        (stated(25.0), "the stated rate, 25 Hz, is wrong, as 50 samples a second come"),
        (
            stated(100.0, period_s=0.25),
            "its clock goes on by 0.5 s a second: state the rate that is sent, 50 Hz",
        ),
        (stated(25.0, period_s=1.0), "its clock goes on by 2 s a second: state the rate that is sent, 50 Hz"),
    ],
)
def test_a_clock_or_stated_rate_that_is_wrong_is_all_that_is_said(
    payloads: list[bytes], problem: str
) -> None:
    """A mean step would be blamed on the app's rate, which is right."""
    (said,) = timed(payloads).problems
    assert problem in said


@pytest.mark.parametrize(
    ("lost", "effect"),
    [
        (slice(3, None, 4), "5 gaps of up to 0.5"),
        (slice(3, None, 4), "never 2.56 s without one (1.5 s at most), so it is not labelled"),
        (slice(7, None, 8), "each costs a window of 2.56 s"),
    ],
)
def test_gaps_are_no_matter_of_the_rate(lost: slice, effect: str) -> None:
    payloads: list[bytes | None] = list(native())
    payloads[lost] = [None] * len(payloads[lost])
    heard = listener()
    for k, payload in enumerate(payloads):
        if payload:
            heard.take(Message("hard/me/imu", payload, 100.0 + k / 2))
    (finding,) = heard.findings()
    assert finding.rate_hz["total acceleration"] == pytest.approx(50, abs=0.5)
    (said,) = finding.problems
    assert effect in said


def test_two_phones_under_one_name_are_told_apart() -> None:
    a, b = stated(50.0), native()
    later = [encode(np.array([5000 + k / 2]), person().samples[:25], 50.0) for k in range(len(a))]
    both = [p for pair in zip(a, later, strict=True) for p in pair]
    (said,) = timed(both).problems
    assert "give every phone a topic or name of its own" in said
    assert timed(b).problems == []


def test_messages_that_come_twice_are_no_second_phone() -> None:
    recording = person()
    long = [encode(recording.t[k : k + 100], recording.samples[k : k + 100]) for k in range(0, 600, 100)]
    assert one("hard/me/imu", [payload for payload in long for _ in range(2)]).problems == []


def test_a_sensor_that_says_no_number_is_told_so() -> None:
    finding = one("hard/me/imu", native(scale=math.nan))
    assert (finding.acc_norm, finding.up) == (None, None)
    assert finding.problems == ["no value of the acceleration is a number: is the sensor connected?"]


def test_an_app_is_told_in_its_own_words() -> None:
    def event(k: int) -> bytes:
        row = {"type": "android.sensor.accelerometer", "timestamp": k * 200_000_000, "values": [0, 0, 9.8]}
        return json.dumps(row).encode()

    problems = one("android/sensor", [event(k) for k in range(50)]).problems
    assert any("set the sampling period to 20000 µs" in p for p in problems)
    assert any("no gyroscope" in p for p in problems)
    linear = {"name": "accelerometer", "values": {"x": 0.1, "y": 0, "z": 0}}
    batch = {"deviceId": "x", "payload": [linear | {"time": k * 20_000_000} for k in range(50)]}
    assert any("turn on Gravity" in p for p in one("sensor-logger", [json.dumps(batch).encode()]).problems)


def test_unreadable_messages_are_counted_with_the_reason() -> None:
    heard = listener()
    for _ in range(3):
        heard.take(Message("attic/temperature", b"21.5 C", 0.0))
    assert heard.findings() == []
    assert heard.unreadable["attic/temperature"][0] == 3


def test_messages_without_a_sample_are_told_by_topic() -> None:
    """phyphox's CSV is not among them, of whose topics only the last of an interval brings samples."""
    heard = listener()
    light = {"type": "android.sensor.light", "timestamp": 1, "values": [3.0]}
    for _ in range(3):
        heard.take(Message("android/sensor/light", json.dumps(light).encode(), 0.0))
    for topic, payload in APPS["phyphox, mqtt/csv"][0](Phone(person(), seed=1)):
        heard.take(Message(topic, payload, 0.0))
    assert heard.empty() == {"android/sensor/light": (3, "no acceleration in them")}


@pytest.mark.parametrize(
    ("topic", "payload", "why"),
    [
        (
            "phyphox/me",
            b'{"accX": 1.0, "accY": 2.0, "accZ": 9.4, "accT": 0.1}',
            'phyphox: accT is one value; send its buffer with datatype="array"',
        ),
        (
            "sensor-logger",
            b'{"deviceId": "bob", "payload": [{"name": "orientation", "time": 1, "values": {"qx": 0}}]}',
            "bob sends orientation only: turn on Accelerometer, Gravity and Gyroscope",
        ),
    ],
)
def test_a_message_that_could_never_be_a_sample_is_unreadable(topic: str, payload: bytes, why: str) -> None:
    """Before, neither counter nor log nor this command had a word for it."""
    heard = listener()
    heard.take(Message(topic, payload, 0.0))
    assert why in heard.unreadable[topic][1]


def test_sensor_loggers_other_sensors_may_come_apart() -> None:
    heard = listener()
    for name in ("accelerometer", "orientation", "accelerometer"):
        reading = {"name": name, "time": 1, "values": {"x": 1, "y": 2, "z": 3}}
        heard.take(
            Message("sensor-logger", json.dumps({"deviceId": "b", "payload": [reading]}).encode(), 0.0)
        )
    assert (heard.unreadable, heard.empty()) == ({}, {})


@pytest.mark.mosquitto
def test_the_command_describes_what_is_on_a_broker(hard: Hard, port: int, tmp_path: Path) -> None:
    broker = start_mosquitto(tmp_path, port)
    url = f"mqtt://127.0.0.1:{port}"
    try:
        nothing = hard.run("check", "--listen", "--seconds", "1", "--broker", url)
        assert (nothing.returncode, "no stream was heard" in nothing.stdout) == (2, True)
        phone = Broker(BrokerUrl("127.0.0.1", port), Counters())
        phone.start()
        assert phone.wait_ready(10)
        process = hard.start("check", "--listen", "--seconds", "8", "--json", "--broker", url)
        payloads = native()
        sent = iter(range(10_000))
        wait_for(  # it listens for a while: the recording is played until it has ended
            lambda: (
                phone.publish("hard/me/imu", payloads[next(sent) % len(payloads)])
                and process.poll() is not None
            ),
            timeout_s=40,
            what="the report",
        )
        out, err = process.communicate()
        report = json.loads(out)
        assert [(s["device"], s["dialect"]) for s in report["streams"]] == [("me", "native")], err
        phone.stop()
    finally:
        broker.terminate()
        broker.wait()


def test_the_command_says_why_a_board_that_sends_is_no_stream(hard: Hard, port: int) -> None:
    """It was asked whether it sends."""
    with socket.create_server(("127.0.0.1", port)) as server:
        url = f"socket://127.0.0.1:{port}"
        process = hard.start("check", "--listen", "--seconds", "2", "--port", url)
        server.settimeout(20)
        connection, _ = server.accept()
        with connection:

            def sent() -> bool:
                with contextlib.suppress(OSError):  # it has heard enough
                    connection.sendall(b"9.3,0,1,0,0,0,20,30,40\n")
                return process.poll() is not None

            wait_for(sent, timeout_s=30, what="the report")
        out, err = process.communicate()
    assert process.returncode == 2, err
    assert "9 values a line: say which with `columns`" in out
    assert "does the board send" not in out


def test_the_command_describes_what_is_on_a_port(hard: Hard, port: int) -> None:
    """A board behind a serial-to-TCP bridge: seven values a line, in g."""
    t, samples = SyntheticPhone(3).read(0, 1000)
    samples[:, :3] /= np.float32(9.80665)
    rows = np.column_stack([t, samples])
    lines = [(",".join(f"{v:.6f}" for v in row) + "\n").encode() for row in rows]
    pace = threading.Event()
    with socket.create_server(("127.0.0.1", port)) as server:
        url = f"socket://127.0.0.1:{port}"
        process = hard.start("check", "--listen", "--seconds", "6", "--json", "--port", url)
        server.settimeout(20)
        connection, _ = server.accept()
        with connection:
            for k in range(0, len(lines), 25):  # opening a port flushes what is there: not all at once
                connection.sendall(b"".join(lines[k : k + 25]))
                pace.wait(0.1)
            out, err = process.communicate(timeout=30)
    (stream,) = json.loads(out)["streams"]
    assert stream["dialect"] == "csv-lines", err
    assert stream["rate_hz"]["total acceleration"] == pytest.approx(50, abs=0.5)
    assert stream["gravity"]  # told to be in g, and turned into m/s²
    assert stream["problems"] == []
