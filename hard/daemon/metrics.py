"""Figures for Prometheus, under bounded labels: what the engines do, and the health report."""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections import Counter as Tally
from collections.abc import Callable, Iterator, Mapping
from itertools import accumulate
from typing import TYPE_CHECKING, Final

import numpy as np
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from hard.card import SensorCard
from hard.health import Health
from hard.model import MAX_BATCH
from hard.stats import Drop
from hard.types import F32, Event, Label

if TYPE_CHECKING:
    from hard.model import Model

LATENCY_S: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
FORWARD_S: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
PLAIN: Final[Mapping[str, str]] = {
    "messages": "Messages taken from the inbox",
    "samples": "Samples read from messages",
    "labels": "Labels made",
    "events": "Enter and exit events",
}
"""Counters that are no losses, by their name in stats.py."""


class Metrics:
    """A sink in each engine's thread, and what a scrape shows. Any thread may `render`."""

    def __init__(self, source: Callable[[str], str], modality: Callable[[str], str]) -> None:
        """From a device to the source that it belongs to, one of few, and to imu or video."""
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a further line for each, which nobody reads
        self._source = source
        self._modality = modality
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        names = ["source", "modality"]
        self._windows = Counter("hard_windows", "Windows recognised", names, registry=self._registry)
        self._labels = Counter("hard_label", "Labels, by steady activity", ["label"], registry=self._registry)
        self._latency = _Latency()
        self._registry.register(self._latency)
        self._forward = Histogram(
            "hard_inference_duration_seconds", "One forward pass, a batch of windows", ["model"],
            registry=self._registry, buckets=FORWARD_S,
        )  # fmt: skip

    def watch(self, examine: Callable[[], Health]) -> None:
        """Show the health report too."""
        self._registry.register(_HealthCollector(examine))

    def emit(self, labels: list[Label]) -> None:
        live = [label for label in labels if label.latency_ms]  # the others are of no window
        devices = [label.prediction.device for label in live]
        for (source, modality), n in Tally((self._source(d), self._modality(d)) for d in devices).items():
            self._windows.labels(source, modality).inc(n)
        for activity, n in Tally(label.activity for label in labels).items():
            self._labels.labels(activity).inc(n)
        self._latency.observe([label.latency_ms / 1000 for label in live])

    def announce(self, events: list[Event]) -> None:
        """The counter `events` has them."""

    def forget(self, devices: list[str]) -> None:
        """No figure is kept by device."""

    def forward_took(self, model: str, seconds: float) -> None:
        self._forward.labels(model).observe(seconds)

    def render(self) -> bytes:
        """The text that a scrape gets."""
        return generate_latest(self._registry)


class TimedModel:
    """A model whose forward passes are measured. Owner: one thread."""

    def __init__(self, model: Model, metrics: Metrics) -> None:
        self.card: SensorCard = model.card
        self._model = model
        self._metrics = metrics

    def warm_up(self, batch: int = MAX_BATCH) -> None:
        self._model.warm_up(batch)

    def predict(self, x: F32) -> F32:
        return self.step(x, np.zeros((len(x), self.card.state), np.float32))[0]

    def step(self, x: F32, state: F32) -> tuple[F32, F32]:
        began_s = time.perf_counter()
        out = self._model.step(x, state)
        self._metrics.forward_took(self.card.name, time.perf_counter() - began_s)
        return out


class _Latency(Collector):
    """A histogram that takes a tick's labels at once: a lock for each cost as much as its JSON."""

    def __init__(self) -> None:
        self._counts = [0] * (len(LATENCY_S) + 1)
        self._sum_s = 0.0
        self._lock = threading.Lock()

    def observe(self, seconds: list[float]) -> None:
        with self._lock:
            for s in seconds:
                self._counts[bisect_left(LATENCY_S, s)] += 1
            self._sum_s += sum(seconds)

    def collect(self) -> Iterator[Metric]:
        edges = [*map(str, LATENCY_S), "+Inf"]
        with self._lock:
            counts, sum_s = list(accumulate(self._counts)), self._sum_s
        yield HistogramMetricFamily(
            "hard_end_to_end_latency_seconds", "From arrival of a window's last sample to its label",
            buckets=list(zip(edges, counts, strict=True)), sum_value=sum_s,
        )  # fmt: skip


class _HealthCollector(Collector):
    def __init__(self, examine: Callable[[], Health]) -> None:
        self._examine = examine

    def describe(self) -> list[Metric]:
        return []  # else registering would examine what is not running yet

    def collect(self) -> Iterator[Metric]:
        h = self._examine()
        yield InfoMetricFamily(
            "hard_build", "What runs", {"version": h.version, "models": " ".join(h.models)}
        )
        state = GaugeMetricFamily("hard_state", "1 for the state of the daemon", labels=["state"])
        for name in ("ok", "degraded", "stuck", "stopped"):
            state.add_metric([name], float(h.state == name))
        yield state
        yield GaugeMetricFamily("hard_mqtt_connected", "Whether the broker is connected", float(h.connected))
        yield GaugeMetricFamily("hard_uptime_seconds", "Since the start", h.uptime_s)
        yield from _sources(h)
        idle = GaugeMetricFamily("hard_stage_idle_seconds", "Without progress", labels=["stage"])
        for name, idle_s in h.stages_idle_s.items():
            idle.add_metric([name], idle_s)
        yield idle
        yield from _counters(h.counters)


def _sources(h: Health) -> Iterator[Metric]:
    """Phones are one source together; ports and cameras each have their own."""
    devices = GaugeMetricFamily(
        "hard_source_devices", "Devices with a window in the last 10 s", labels=["source"]
    )
    rate = GaugeMetricFamily("hard_source_rate_hz", "Mean input rate of its live devices", labels=["source"])
    age = GaugeMetricFamily("hard_source_last_sample_age_seconds", "Of the newest sample", labels=["source"])
    for name, source in h.sources.items():
        devices.add_metric([name], source.devices)
        if source.rate_hz is not None:
            rate.add_metric([name], source.rate_hz)
        if source.age_s is not None:
            age.add_metric([name], source.age_s)
    yield from (devices, rate, age)


def _counters(counters: Mapping[str, int]) -> Iterator[Metric]:
    for name, what in PLAIN.items():
        yield CounterMetricFamily(f"hard_{name}", what, counters.get(name, 0))
    gap_s = counters.get("gap_ms", 0) / 1000
    yield CounterMetricFamily("hard_resample_gap_seconds", "Silence on the devices' clocks", gap_s)
    dropped = CounterMetricFamily(
        "hard_samples_dropped",
        "Data that became no label, by reason; README: What can get lost",
        labels=["reason"],
    )
    for drop in Drop:
        dropped.add_metric([drop.value], counters.get(drop.value, 0))
    yield dropped
