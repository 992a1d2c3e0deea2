"""The benchmark runs, counts every label, and prints what it promises; how fast is not a test's business."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from conftest import ROOT
from hard.codecs import CodecOptions
from hard.codecs.native import NativeCodec
from hard.stats import Counters
from hard.types import Message
from tools.swarm import Phones


@pytest.mark.mosquitto
def test_bench_counts_every_label_of_a_small_load() -> None:
    done = subprocess.run(
        [sys.executable, "tools/bench.py", "phones", "--phones", "20", "--seconds", "5", "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert {
        "phones", "cpu_us_per_phone_s", "latency_ms", "dropped", "rss_mb", "kb_per_phone",
        "bare_forward_us_per_phone_s",
    } <= set(report)  # fmt: skip
    assert set(report["latency_ms"]) == {"p50", "p95", "p99"}
    assert report["phones"] == 20
    assert report["dropped"] == 0
    assert report["labels"] == 20 * ((18 * 25 - 128) // 64 + 1)  # 4 s to warm up and 5 s, 25 samples a batch
    assert 0 < report["latency_ms"]["p50"] <= report["latency_ms"]["p99"]


def test_the_load_is_an_unbroken_stream_for_every_phone() -> None:
    load = Phones(3, 0.5)
    codec = NativeCodec(CodecOptions(), Counters())
    chunks = [codec.decode(Message("hard/x/imu", load.payload(1, k), 0.0))[0] for k in range(10)]
    t = np.concatenate([chunk.t for chunk in chunks])
    np.testing.assert_allclose(np.diff(t), 0.02, rtol=0, atol=1e-9)
    assert all(len(chunk.samples) == 25 for chunk in chunks)
