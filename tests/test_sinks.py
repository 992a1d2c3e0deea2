"""What the sinks make of labels: figures that add up, and a log that thousands of phones do not flood."""

from __future__ import annotations

import logging

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from hard.daemon.metrics import LATENCY_S, Metrics
from hard.handoff import Board
from hard.sinks.board import LOGGED, BoardSink
from hard.types import Label, Prediction


def label(device: str = "alice", activity: str = "walking", latency_ms: float = 1.0) -> Label:
    p = Prediction(device, 2.56, activity, 0.9, {activity: 0.9}, 50.0, 0, 0.0, 0.0, "a-model", "0" * 12)
    return Label(p, activity, 0.9, None, 1000.0, 1000.0, 1, latency_ms)


@given(st.lists(st.lists(st.floats(0.001, 20_000.0), min_size=1, max_size=5), max_size=5))
def test_every_latency_is_in_its_bucket_and_those_above(ticks: list[list[float]]) -> None:
    metrics = Metrics(lambda _: "mqtt", lambda _: "imu")
    for tick in ticks:
        metrics.emit([label(latency_ms=ms) for ms in tick])
    all_s = [ms / 1000 for tick in ticks for ms in tick]
    (family,) = [
        f
        for f in text_string_to_metric_families(metrics.render().decode())
        if f.name == "hard_end_to_end_latency_seconds"
    ]
    found = {s.labels.get("le", s.name.rsplit("_", 1)[1]): s.value for s in family.samples}
    for edge_s in LATENCY_S:
        assert found[str(edge_s)] == sum(s <= edge_s for s in all_s)
    assert found["+Inf"] == found["count"] == len(all_s)
    assert found["sum"] == pytest.approx(sum(all_s))


def test_changes_of_a_few_devices_are_logged_and_of_many_only_for_debugging(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "hard.labels")
    sink = BoardSink(Board())
    for i in range(LOGGED):
        sink.emit([label(f"phone-{i}")])
    assert len(caplog.records) == LOGGED
    caplog.clear()
    sink.emit([label(f"crowd-{i}") for i in range(3)])
    assert [r.getMessage() for r in caplog.records] == [
        f"more than {LOGGED} devices: their activities are logged at level debug only"
    ]
    caplog.clear()
    caplog.set_level(logging.DEBUG, "hard.labels")
    sink.emit([label("phone-0", "sitting")])
    assert [r.levelname for r in caplog.records] == ["DEBUG"]
    caplog.clear()
    sink.forget([f"crowd-{i}" for i in range(3)])
    sink.emit([msgspec.structs.replace(label("phone-1"), activity="standing")])
    assert [r.levelname for r in caplog.records] == ["INFO"]
