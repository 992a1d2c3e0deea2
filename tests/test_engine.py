"""The engine: labels do not depend on messages or ticks, and no payload stops it or makes it grow."""

from __future__ import annotations

import json
import logging
import math
import random
import threading
from collections import deque

import numpy as np
import psutil
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from hard.codecs import CodecOptions, good_name
from hard.codecs.native import NativeCodec, encode
from hard.engine import Engine
from hard.handoff import Inbox
from hard.history import History
from hard.model import Model, load_model
from hard.recognizer import Recognizer
from hard.registry import make_codec
from hard.router import Router
from hard.settings import APP_TOPICS, SmoothingSettings, TopicSettings
from hard.sinks.payload import encode as encode_label
from hard.smoothing import Smoother
from hard.stats import Counters, Drop
from hard.synthetic import SyntheticPhone
from hard.types import Event, Label, Message


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model("lstm-waist")


class Kept:
    """A sink that keeps what it gets."""

    def __init__(self) -> None:
        self.labels: list[Label] = []
        self.events: list[Event] = []
        self.forgotten: list[str] = []

    def emit(self, labels: list[Label]) -> None:
        self.labels += labels

    def announce(self, events: list[Event]) -> None:
        self.events += events

    def forget(self, devices: list[str]) -> None:
        self.forgotten += devices


def engine(model: Model, **options: float) -> tuple[Engine, Kept, Counters]:
    counters, sink = Counters(), Kept()
    recognizer = Recognizer(model, counters=counters)
    router = Router([("hard/+/imu", NativeCodec(CodecOptions(), Counters()))])
    inbox = Inbox(1000, 1 << 20, counters)
    history = History(Smoother(SmoothingSettings()))
    return Engine(inbox, router, recognizer, history, [sink], counters, **options), sink, counters


def messages(
    device: str, seed: int, seconds: float, sizes: list[int], rate_hz: float = 50.0
) -> deque[Message]:
    t, samples = SyntheticPhone(seed, rate_hz=rate_hz, dwell_s=5.0).read(0, int(seconds * rate_hz))
    out: deque[Message] = deque()
    at = 0
    while at < len(t):
        n = sizes[len(out) % len(sizes)]
        out.append(Message(f"hard/{device}/imu", encode(t[at : at + n], samples[at : at + n]), 0.0))
        at += n
    return out


@settings(max_examples=15)
@given(
    sizes=st.lists(st.integers(1, 200), min_size=1, max_size=6),
    per_tick=st.integers(1, 400),
    devices=st.integers(1, 5),
    rate_hz=st.sampled_from([25.0, 50.0, 100.0, 200.0]),
)
def test_labels_do_not_depend_on_messages_batches_or_ticks(
    model: Model, sizes: list[int], per_tick: int, devices: int, rate_hz: float
) -> None:
    running, sink, _ = engine(model)
    queues = [messages(f"d{i}", i, 11.0, sizes, rate_hz) for i in range(devices)]
    tick: list[Message] = []
    while any(queues):
        tick += [queue.popleft() for queue in queues if queue]
        if len(tick) >= per_tick:
            running.tick(tick, 0.0)
            tick = []
    running.tick(tick, 0.0)
    for i in range(devices):
        alone = Recognizer(model)
        t, samples = SyntheticPhone(i, rate_hz=rate_hz, dwell_s=5.0).read(0, int(11.0 * rate_hz))
        expected = alone.push("x", t, samples)
        labels = [label for label in sink.labels if label.prediction.device == f"d{i}"]
        got = [label.prediction for label in labels]
        smoother = Smoother(SmoothingSettings())
        assert [label.activity for label in labels] == [smoother.update(p).activity for p in expected]
        assert [(p.t_end, p.activity) for p in got] == [(p.t_end, p.activity) for p in expected]
        for a, b in zip(got, expected, strict=True):
            np.testing.assert_allclose(
                list(a.probabilities.values()), list(b.probabilities.values()), rtol=0, atol=1e-5
            )


def test_labels_count_up_and_say_since_when(model: Model) -> None:
    running, sink, _ = engine(model)
    for message in messages("alice", 0, 30.0, [25]):
        running.tick([message], 0.0)
    assert [label.seq for label in sink.labels] == list(range(1, len(sink.labels) + 1))
    for before, label in zip(sink.labels, sink.labels[1:], strict=False):
        same = before.activity == label.activity
        assert label.since_s == (before.since_s if same else label.window_end_s)


def test_a_slow_stream_is_unknown_and_says_why(model: Model) -> None:
    running, sink, _ = engine(model)
    for message in messages("alice", 0, 20.0, [10], rate_hz=10.0):
        running.tick([message], 0.0)
    assert {label.prediction.activity for label in sink.labels} == {"unknown"}
    assert {label.activity for label in sink.labels} == {"unknown"}
    assert all("10.0 Hz is below" in (label.reason or "") for label in sink.labels)
    assert sink.events == []


def test_a_silent_device_is_forgotten_everywhere(model: Model) -> None:
    running, sink, _ = engine(model)
    for message in messages("alice", 0, 5.0, [25]):
        running.tick([message], 0.0)
    running.evict(now_s=1e6)
    assert sink.forgotten == ["alice"]
    for message in messages("alice", 0, 5.0, [25]):
        running.tick([message], 0.0)
    assert [label.seq for label in sink.labels] == [1, 2, 1, 2]


def test_a_silent_device_becomes_stale_then_offline_and_enters_anew(model: Model) -> None:
    running, sink, _ = engine(model)
    sent = list(messages("alice", 0, 6.0, [25]))
    for message in sent[:10]:  # arrived at 0.0
        running.tick([message], 0.0)
    running.listen(9.9)
    before = len(sink.labels)
    assert [label.activity for label in sink.labels] == ["walking"] * before
    for now_s in (10.1, 11.1, 59.0):  # said once, however often it is looked at
        running.listen(now_s)
    for now_s in (60.1, 61.1):
        running.listen(now_s)
    quiet = sink.labels[before:]
    assert [(label.activity, label.reason) for label in quiet] == [
        ("unknown", "stale"),
        ("unknown", "offline"),
    ]
    assert [label.prediction.activity for label in quiet] == ["unknown", "unknown"]
    assert [label.seq for label in sink.labels] == list(range(1, before + 3))
    for message in sent[10:]:  # its clock has no gap: the signal goes on, but it enters anew
        running.tick([Message(message.topic, message.payload, 70.0)], 70.0)
    assert [(e.type, e.activity) for e in sink.events] == [
        ("enter", "walking"), ("exit", "walking"), ("enter", "walking"),
    ]  # fmt: skip
    first, last = sink.labels[0].prediction.t_end, sink.labels[before - 1].prediction.t_end
    assert [e.t for e in sink.events[:2]] == [first, last]
    assert sink.events[1].dwell_s == pytest.approx(last - first)


def test_a_device_whose_windows_began_anew_and_never_came_is_forgotten_too(model: Model) -> None:
    running, sink, _ = engine(model)
    for message in messages("alice", 0, 5.0, [25]):
        running.tick([message], 0.0)
    running._recognizer.wear("alice", np.eye(3))
    running.evict(now_s=100.0)
    assert sink.forgotten == []
    running.evict(now_s=1e6)
    assert sink.forgotten == ["alice"]


@pytest.mark.parametrize("jump_s", [0.5, 60.0, 9e10, -60.0])
def test_a_gap_inside_a_message_does_not_shift_the_others_times(model: Model, jump_s: float) -> None:
    """All arrive at once: a window ends as long before that as before the newest of its own piece."""
    t, samples = SyntheticPhone(0).read(0, 600)
    t = t + np.where(np.arange(600) < 300, 0.0, jump_s)
    running, sink, _ = engine(model)
    running.tick([Message("hard/a/imu", encode(t, samples), 1000.0)], 1000.0)
    ends = {label.prediction.t_end: label.prediction.end_s for label in sink.labels}
    assert len(ends) == 6
    for i, (t_end, end_s) in enumerate(ends.items()):
        newest = t[299] if i < 3 else t[-1]
        assert end_s == pytest.approx(1000.0 - (newest - t_end), abs=0.03)


def test_a_job_that_comes_too_late_is_never_done(model: Model) -> None:
    running, _, _ = engine(model)
    done: list[str] = []
    assert not running.call(lambda: done.append("late"), timeout_s=0.01)  # the engine does not run
    stop, thread = threading.Event(), threading.Thread(target=lambda: running.run(stop))
    thread.start()
    try:
        assert running.call(lambda: done.append("in time"), timeout_s=10.0)
    finally:
        stop.set()
        thread.join(10)
    assert done == ["in time"]


TIMES = (0, 1, -1, 0.3, 1.3, 3600, 1.7e9, 1.7e12, 1.7e18, -1e11, 9e10, 1e15, 1e30, 1e300, 10**25, 10**400)
VALUES = (0.0, 1.0, -9.8, 1e3, 1e9, 1e30, 1e39, 1e300, 10**400, None)


def hostile(rng: random.Random, dialect: str, clock: list[float]) -> tuple[str, bytes]:
    """A message of some samples whose clock may jump anywhere, and whose values may be anything."""
    n, device = rng.choice([1, 3, 50, 300, 900]), rng.choice("ab")
    t: list[float | int] = [clock[0] + i / 50 for i in range(n)]
    if rng.random() < 0.3:
        jump = rng.choice(TIMES)
        i = rng.randrange(n)
        t[i:] = [jump] * (n - i) if jump > 1e20 or rng.random() < 0.2 else [x + jump for x in t[i:]]
    if rng.random() < 0.05:
        rng.shuffle(t)
    clock[0] = float(t[-1]) + 0.02 if abs(t[-1]) < 1e18 else 0.0

    def xyz() -> list[object]:
        odd = rng.random() < 0.001
        return [rng.choice(VALUES) if odd else rng.gauss(5.6, 0.3) for _ in "xyz"]

    if dialect == "sensor-logger":
        at = [int(x * 10**9) if x < 1e200 else 10**400 for x in t]
        names = ("totalacceleration", "gyroscope")
        readings = [
            {"name": k, "time": a, "values": dict(zip("xyz", xyz(), strict=True))} for a in at for k in names
        ]
        return "sensor-logger", json.dumps({"deviceId": device, "payload": readings}).encode()
    if dialect == "phyphox":
        buffers = {f"{k}{axis}": [xyz()[0] for _ in t] for k in ("acc", "gyr") for axis in "XYZ"}
        return f"phyphox/{device}", json.dumps({"accT": t, "gyrT": t, **buffers}).encode()
    if dialect == "json":
        return f"json/{device}", json.dumps([{"t": x, "acc": xyz(), "gyro": xyz()} for x in t]).encode()
    if dialect == "android-sensor":
        at = int(t[-1] * 10**9) if t[-1] < 1e200 else 10**400
        event = {"type": "android.sensor.accelerometer", "timestamp": at, "values": xyz()}
        return "android/sensor", json.dumps(event).encode()
    if dialect == "hyperimu":
        body = {"Timestamp": t[-1], "Accelerometer": xyz(), "Gyroscope": xyz()}
        return f"hyperimu/{device}", json.dumps(body).encode()
    samples = [[*xyz(), *xyz()] for _ in t]
    topic = rng.choice([f"hard/{device}/imu", device])
    return topic, json.dumps({"t": t, "samples": samples}).encode()


@pytest.mark.parametrize("seed", range(6))
def test_no_message_of_any_dialect_stops_the_engine(model: Model, seed: int) -> None:
    """The labels' JSON is written too: a time beyond every calendar would stop it there."""
    rng, counters, sink = random.Random(seed), Counters(), Kept()
    topics = (
        *(*APP_TOPICS, TopicSettings(filter="json/+", codec="json")),
        *(TopicSettings(filter="a", codec="auto"), TopicSettings(filter="b", codec="native")),
    )
    router = Router([(t.filter, make_codec(t.codec, t, counters)) for t in topics])
    history = History(Smoother(SmoothingSettings()))
    recognizer = Recognizer(model, counters=counters)
    running = Engine(Inbox(10, 1 << 20, counters), router, recognizer, history, [sink], counters)
    dialects = ("sensor-logger", "phyphox", "json", "android-sensor", "hyperimu", "native")
    clocks = {name: [rng.choice([0.0, 5.5, 1.7e9])] for name in dialects}
    for k in range(120):
        name = rng.choice(dialects)
        topic, payload = hostile(rng, name, clocks[name])
        if rng.random() < 0.02:
            payload = rng.choice([b'{"a":', b""]) + b"[" * 100_000
        running.tick([Message(topic, payload, k * 0.5)], k * 0.5)
    assert len(sink.labels) > 20
    for label in sink.labels:
        assert math.isfinite(label.window_end_s)
        encode_label(label)


def seeds() -> list[bytes]:
    t, samples = SyntheticPhone(0).read(0, 25)
    twin = b'{"t": 0.5, "rate": 50, "acc": "g", "samples": [[0, 0, 1, 0, 0, 0], [0, 0, 1, 0, 0, 0]]}'
    return [encode(t, samples), encode(t[:1], samples, 50.0), encode(t[:1], samples[:1], 50.0), twin]


@st.composite
def mutants(draw: st.DrawFn) -> bytes:
    """A good payload after one to four bad things."""
    out = bytearray(draw(st.sampled_from(seeds())))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(out) - 1)))
        match draw(st.sampled_from(["flip", "cut", "add", "header", "value", "other"])):
            case "flip" if out:
                out[at] ^= 1 << draw(st.integers(0, 7))
            case "cut":
                del out[at:]
            case "add":
                out += draw(st.binary(max_size=50))
            case "header" if len(out) > 24:  # flags, count, rate, first timestamp
                field = 5 + at % 12
                out[field : field + 8] = draw(st.binary(min_size=8, max_size=8))
            case "value" if len(out) > 32:  # a sample or a timestamp
                place = 24 + at % (len(out) - 31)
                special = draw(st.floats(width=64) | st.sampled_from([np.nan, np.inf, 1e300, -1e11]))
                out[place : place + 8] = np.array([special]).tobytes()
            case _:
                odd = [b"", b"{}", b"null", b"[" * 2000, b'{"t":1e999,"samples":[[', bytes(out) * 2]
                out = bytearray(draw(st.sampled_from(odd)))
    return bytes(out)


def test_ten_thousand_mutated_payloads_neither_stop_it_nor_make_it_grow(
    model: Model, caplog: pytest.LogCaptureFixture
) -> None:
    running, sink, counters = engine(model)
    sent: list[Message] = []
    names = st.sampled_from(["mallory", "trudy", "eve", "", "x" * 70, "\x00"])

    @settings(
        max_examples=10_000, phases=[Phase.generate], database=None, suppress_health_check=list(HealthCheck)
    )
    @given(device=names, payload=mutants())
    def send(device: str, payload: bytes) -> None:
        sent.append(Message(f"hard/{device}/imu", payload, 0.0))
        running.tick(sent[-1:], 0.0)

    with caplog.at_level(logging.WARNING):
        send()
        assert counters["messages"] == len(sent) >= 9_000  # hypothesis stops early when it has seen it all
        rss = psutil.Process().memory_info().rss
        for _ in range(3):
            for message in sent:
                running.tick([message], 0.0)
    grown_mb = (psutil.Process().memory_info().rss - rss) / 2**20
    assert grown_mb < 8
    assert counters[Drop.BAD_PAYLOAD] > 1_000
    assert counters[Drop.BAD_DEVICE] > 300
    assert counters["samples"] > 5_000  # the mutants that are still well-formed reach the pipeline
    assert len(caplog.records) < 100  # sampled, not one a message
    assert any("bad payload on 'hard/" in r.getMessage() for r in caplog.records)
    before = len(sink.labels)
    for message in messages("alice", 0, 6.0, [25]):
        running.tick([message], 0.0)
    fresh = sink.labels[before:]
    expected = Recognizer(model).push("x", *SyntheticPhone(0, dwell_s=5.0).read(0, 300))
    assert [label.prediction.activity for label in fresh] == [p.activity for p in expected]


@pytest.mark.parametrize(
    ("filters", "topic", "expected"),
    [
        (["hard/+/imu"], "hard/alice/imu", 0),
        (["hard/+/imu"], "hard/alice/activity", None),
        (["hard/+/imu"], "hard/alice/imu/x", None),
        (["hard/+/imu"], "hard/imu", None),
        (["a/#", "b/+"], "b/x", 1),
        (["a/#", "a/b"], "a/b/c/d", 0),
    ],
)
def test_the_first_matching_filter_routes(filters: list[str], topic: str, expected: int | None) -> None:
    codecs = [NativeCodec(CodecOptions(), Counters()) for _ in filters]
    router = Router(list(zip(filters, codecs, strict=True)))
    for _ in range(2):  # the second answer comes from the cache
        assert router.codec(topic) is (None if expected is None else codecs[expected])


@pytest.mark.parametrize(
    ("name", "good"),
    [("alice", True), ("Küche 2", True), ("", False), ("a/b", False), ("+", False), ("a#", False),
     ("$SYS", False), ("x" * 65, False), ("a\nb", False)],
)  # fmt: skip
def test_names_that_cannot_be_topic_levels(name: str, good: bool) -> None:
    assert good_name(name) is good
