"""The benchmark runs, counts every label, and prints what it promises; how fast is not a test's business."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from conftest import ROOT
from hard.align import Aligner
from hard.registry import make_codec
from hard.router import Router
from hard.settings import APP_TOPICS
from hard.stats import Counters
from hard.synthetic import SyntheticPhone
from hard.types import Chunk, Message, Readings
from tools.swarm import DEVICE, DIALECTS, Phones


def bench(*arguments: str) -> dict[str, Any]:
    """What tools/bench.py says."""
    command = [sys.executable, "tools/bench.py", *arguments, "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


@pytest.mark.mosquitto
def test_bench_counts_every_label_of_a_small_load() -> None:
    report = bench("phones", "--phones", "20", "--seconds", "5", "--warm-up-s", "4")
    assert {
        "phones", "cpu_us_per_phone_s", "latency_ms", "dropped", "rss_mb", "kb_per_phone",
        "bare_forward_us_per_phone_s",
    } <= set(report)  # fmt: skip
    assert set(report["latency_ms"]) == {"p50", "p95", "p99"}
    assert report["phones"] == 20
    assert report["dropped"] == 0
    # 4 s to warm up and 5 s, 25 samples a batch; each phone but every 13th joins later
    samples = [(18 - phone % 13) * 25 for phone in range(20)]
    assert report["labels"] == sum(max(0, (n - 128) // 64 + 1) for n in samples)
    assert 0 < report["latency_ms"]["p50"] <= report["latency_ms"]["p99"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("tools/bench.py", "sweep", "--phones", "10,x"), "expected numbers of phones such as 10,100"),
        (("tools/bench.py", "sweep", "--phones", "0"), "expected numbers of phones such as 10,100"),
        (("tools/bench.py", "window", "--model", "nope"), "Error: no model named 'nope'"),
        (("tools/bench.py", "webcam", "--model", "nope"), "error: no model named 'nope'"),
        (("tools/naive_daemon.py",), "usage: naive_daemon.py HOST PORT"),
    ],
)
def test_wrong_arguments_are_told_without_a_traceback(arguments: tuple[str, ...], expected: str) -> None:
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode != 0
    assert expected in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_load_is_an_unbroken_stream_for_every_phone(dialect: str) -> None:
    load = Phones(40, 0.5, dialect)
    router = Router([(t.filter, make_codec(t.codec, t, Counters())) for t in APP_TOPICS])
    aligner = Aligner(Counters())
    expected = SyntheticPhone(39 % 32, jitter_s=0.0).read(0, 3000)[1][:250]
    chunks: list[Chunk] = []
    for k in range(10):
        topic, payload = load.message(39, k)
        codec = router.codec(topic)
        assert codec is not None
        for item in codec.decode(Message(topic, payload, 0.0)):
            chunks += aligner.push(item) if isinstance(item, Readings) else [item]
    assert {chunk.device for chunk in chunks} == {DEVICE.format(39)}
    t = np.concatenate([chunk.t for chunk in chunks])
    np.testing.assert_allclose(np.diff(t), 0.02, rtol=0, atol=1e-6)
    np.testing.assert_allclose(np.concatenate([chunk.samples for chunk in chunks]), expected, atol=1e-5)


@pytest.mark.mosquitto
def test_the_plain_script_labels_the_same_windows() -> None:
    report = bench("naive", "--phones", "5", "--seconds", "5", "--warm-up-s", "4")
    assert report["hard"]["labels"] == report["naive"]["labels"] > 0
    assert report["hard"]["dropped"] == report["naive"]["dropped"] == 0


@pytest.mark.mosquitto
def test_bench_of_two_instances_keeps_their_phones_apart() -> None:
    report = bench("instances", "--phones", "10", "--seconds", "5", "--warm-up-s", "4")
    assert report["dropped"] == 0
    assert len(report["two_us_per_phone_s"]) == 2
    assert min(report["alone_us_per_phone_s"], *report["two_us_per_phone_s"]) > 0


def test_bench_of_a_window_knows_every_engine() -> None:
    """Also for a model that takes fewer channels."""
    rows = bench("window", "--model", "lstm-acc")["us_per_window"]
    for name in ("torch, float32", "ONNX Runtime"):
        assert set(rows[name]) == {"1", "4", "64"}
        assert min(rows[name].values()) > 0


@pytest.mark.alone
@pytest.mark.mosquitto
def test_bench_of_a_camera_counts_frames_and_labels() -> None:
    report = bench("webcam", "--seconds", "5")
    assert (report["rate_hz"], report["size"]) == (30.0, "640x480")
    assert 5 <= report["labels"] <= 12
    assert 0 < report["latency_ms"]["p50"] <= report["latency_ms"]["p99"]
    assert 0 < report["cached_us_per_frame"] < report["whole_clip_us"]
    assert report["cpu_share_of_a_core"] > 0
