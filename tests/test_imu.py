"""*The* property: windows depend on the samples and their times alone, not on messages, batches or timing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hard.imu import Imu, Limits
from hard.stats import Counters, Drop
from hard.synthetic import SyntheticPhone
from hard.types import Chunk, Windowing

Windows = dict[str, list[tuple[float, bytes]]]


def imu(**limits: float) -> tuple[Imu, Counters]:
    counters = Counters()
    return Imu(Windowing(), Limits(**limits), counters), counters


def collect(pipeline: Imu, seen: Windows) -> None:
    windows = pipeline.prepare()
    if windows is not None:
        for device, t_end, x in zip(windows.devices, windows.t_end, windows.x, strict=True):
            seen.setdefault(device, []).append((float(t_end), x.tobytes()))


def at_once(t: np.ndarray, samples: np.ndarray) -> list[tuple[float, bytes]]:
    pipeline, _ = imu()
    seen: Windows = {}
    pipeline.push(Chunk("a", t, samples, 0.0))
    collect(pipeline, seen)
    return seen.get("a", [])


def irregular(seed: int, rate_hz: float, seconds: float) -> tuple[np.ndarray, np.ndarray]:
    """A jittered stream with lost stretches, duplicates and late samples."""
    rng = np.random.default_rng(seed)
    n = int(rate_hz * seconds)
    t = (np.arange(n) + rng.uniform(-0.4, 0.4, n)) / rate_hz + rng.choice([0.0, 17.3, 1.7e9])
    samples = rng.normal([0, 0, 9.8, 0, 0, 0], 1.0, (n, 6)).astype(np.float32)
    order = np.arange(n)
    for _ in range(rng.integers(0, 4)):
        at, length = rng.integers(0, n), rng.integers(1, 40)
        match rng.integers(0, 4):
            case 0:  # lost
                order = np.delete(order, slice(at, at + length))
            case 1:  # sent twice
                order = np.insert(order, min(at, len(order)), order[at : at + length])
            case 2:  # reordered
                order[at : at + length] = order[at : at + length][::-1]
            case _:
                samples[at] = np.nan
    return t[order], samples[order]


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    rate_hz=st.floats(20, 400),
    largest=st.integers(1, 200),
    patience=st.integers(1, 5),
)
def test_windows_do_not_depend_on_how_samples_are_split(
    seed: int, rate_hz: float, largest: int, patience: int
) -> None:
    t, samples = irregular(seed, rate_hz, 9.0)
    rng = np.random.default_rng(seed + 1)
    pipeline, _ = imu()
    seen: Windows = {}
    at = 0
    while at < len(t):
        n = int(rng.integers(1, largest + 1))
        pipeline.push(Chunk("a", t[at : at + n], samples[at : at + n], 0.0))
        at += n
        if rng.integers(patience) == 0:  # ticks come when they come
            collect(pipeline, seen)
    collect(pipeline, seen)
    assert seen.get("a", []) == at_once(t, samples)


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), devices=st.integers(1, 12), most=st.integers(1, 30))
def test_chunks_of_many_devices_are_what_each_is_alone(seed: int, devices: int, most: int) -> None:
    rng = np.random.default_rng(seed)
    chunks: list[Chunk] = []
    queues = []
    for i in range(devices):
        t, samples = irregular(seed + i, float(rng.uniform(20, 200)), 6.0)
        if rng.integers(3) == 0:
            samples *= rng.choice([30.0, 100.0])  # beyond what needs a closer look, and beyond all limits
        cuts = np.sort(rng.integers(0, len(t), 30))
        parts = zip(np.split(t, cuts), np.split(samples, cuts), strict=True)
        queues.append([Chunk(str(i), a, b, 0.0) for a, b in parts if len(a)])
    while any(queues):
        chunks.append(queues[rng.choice([k for k, q in enumerate(queues) if q])].pop(0))
    (together, counted), (alone, expected_count) = imu(), imu()
    seen: Windows = {}
    expected: Windows = {}
    while chunks:
        n = int(rng.integers(1, most + 1))
        together.push_many(chunks[:n])
        for chunk in chunks[:n]:
            alone.push(chunk)
        del chunks[:n]
        collect(together, seen)
        collect(alone, expected)
    assert seen == expected
    assert counted.snapshot() == expected_count.snapshot()


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32 - 1), devices=st.integers(2, 12))
def test_windows_do_not_depend_on_other_devices(seed: int, devices: int) -> None:
    rng = np.random.default_rng(seed)
    streams = {
        f"d{i}": irregular(seed + i, float(rng.uniform(20, 120)), float(rng.uniform(3, 8)))
        for i in range(devices)
    }
    pipeline, _ = imu()
    seen: Windows = {}
    places = dict.fromkeys(streams, 0)
    while places:
        device = str(rng.choice(list(places)))
        t, samples = streams[device]
        n = int(rng.integers(1, 60))
        pipeline.push(
            Chunk(
                device,
                t[places[device] : places[device] + n],
                samples[places[device] : places[device] + n],
                0.0,
            )
        )
        places[device] += n
        if places[device] >= len(t):
            del places[device]
        if rng.integers(6) == 0:
            collect(pipeline, seen)
    collect(pipeline, seen)
    for device, (t, samples) in streams.items():
        assert seen.get(device, []) == at_once(t, samples)


def stream(seconds: float, start_s: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    t, samples = SyntheticPhone(1, jitter_s=0.0).read(0, round(seconds * 50))
    return t + start_s, samples


def test_no_window_spans_a_gap() -> None:
    t, samples = stream(10.0)
    keep = (t < 4.0) | (t > 4.3)
    pipeline, counters = imu()
    seen: Windows = {}
    pipeline.push(Chunk("a", t[keep], samples[keep], 0.0))
    collect(pipeline, seen)
    assert counters[Drop.GAP] == 1
    ends = [end for end, _ in seen["a"]]
    assert all(end <= 4.0 or end - 2.54 >= 4.3 for end in ends)
    assert ends == pytest.approx([2.54, 3.82, 4.32 + 2.54, 4.32 + 3.82, 4.32 + 5.10])
    # after the gap the window is that of a stream that began there
    assert seen["a"][2][1] == at_once(t[t > 4.3], samples[t > 4.3])[0][1]


def test_a_short_silence_is_bridged() -> None:
    t, samples = stream(5.0)
    keep = (t < 2.0) | (t > 2.15)
    pipeline, counters = imu()
    pipeline.push(Chunk("a", t[keep], samples[keep], 0.0))
    windows = pipeline.prepare()
    assert windows is not None
    assert len(windows.x) == 2
    assert counters.drops() == {}


@pytest.mark.parametrize(
    ("bad", "counter"), [(np.nan, Drop.NOT_FINITE), (np.inf, Drop.NOT_FINITE), (1e4, Drop.ABSURD)]
)
def test_bad_samples_are_dropped_and_counted(bad: float, counter: Drop) -> None:
    t, samples = stream(5.0)
    samples[100:103, 1] = bad
    pipeline, counters = imu()
    pipeline.push(Chunk("a", t, samples, 0.0))
    windows = pipeline.prepare()
    assert windows is not None
    assert np.isfinite(windows.x).all()
    assert len(windows.x) == 2
    assert counters.drops() == {counter: 3}


def test_times_that_are_not_finite_are_dropped_and_counted() -> None:
    t, samples = stream(5.0)
    t[100] = np.nan
    pipeline, counters = imu()
    pipeline.push(Chunk("a", t, samples, 0.0))
    assert pipeline.prepare() is not None
    assert counters.drops() == {Drop.NOT_FINITE: 1}


def test_a_chunk_sent_twice_changes_nothing() -> None:
    t, samples = stream(5.0)
    pipeline, counters = imu()
    seen: Windows = {}
    for at in range(0, len(t), 25):
        for _ in range(2):
            pipeline.push(Chunk("a", t[at : at + 25], samples[at : at + 25], 0.0))
    collect(pipeline, seen)
    assert seen["a"] == at_once(t, samples)
    assert counters.drops() == {Drop.LATE: len(t)}


def test_two_chunks_in_the_wrong_order_cost_the_older_one() -> None:
    t, samples = stream(5.0)
    first, second = slice(50, 55), slice(55, 60)
    pipeline, counters = imu()
    for part in (slice(0, 50), second, first, slice(60, None)):
        pipeline.push(Chunk("a", t[part], samples[part], 0.0))
    windows = pipeline.prepare()
    assert windows is not None
    assert len(windows.x) == 2
    assert counters.drops() == {Drop.LATE: 5}


def test_a_clock_set_back_starts_anew_at_once() -> None:
    t, samples = stream(20.0)
    pipeline, counters = imu()
    seen: Windows = {}
    pipeline.push(Chunk("a", t, samples, 0.0))
    collect(pipeline, seen)
    pipeline.push(Chunk("a", t, samples, 0.0))  # the recording is played again
    collect(pipeline, seen)
    half = len(seen["a"]) // 2
    assert seen["a"][:half] == seen["a"][half:] == at_once(t, samples)
    assert counters.drops() == {Drop.CLOCK_JUMP: 1}


def test_a_clock_set_back_a_little_starts_anew_after_two_seconds() -> None:
    t, samples = stream(8.0)
    pipeline, counters = imu()
    seen: Windows = {}
    pipeline.push(Chunk("a", t, samples, 0.0))
    pipeline.push(Chunk("a", t, samples, 0.0))
    collect(pipeline, seen)
    late = counters[Drop.LATE]
    assert counters.drops() == {Drop.CLOCK_JUMP: 1, Drop.LATE: late}
    assert late == 101  # t = 0 .. 2.00 s
    assert seen["a"][len(at_once(t, samples)) :] == at_once(t[late:], samples[late:])


def test_a_clock_set_forward_is_a_gap() -> None:
    t, samples = stream(8.0)
    t[200:] += 3600.0
    pipeline, counters = imu()
    pipeline.push(Chunk("a", t, samples, 0.0))
    assert counters.drops() == {Drop.GAP: 1}


def test_a_device_that_sends_a_hundred_times_its_rate_is_bounded() -> None:
    t = np.arange(50_000) / 5000.0
    samples = np.tile(np.array([0, 0, 9.8, 0, 0, 0], np.float32), (len(t), 1))
    pipeline, counters = imu()
    pipeline.push(Chunk("a", t, samples, 0.0))
    assert pipeline.prepare() is None
    assert counters[Drop.RATE_TOO_HIGH] > 40_000


@pytest.mark.parametrize("rate_hz", [20, 25, 50, 100, 200, 400])
def test_the_input_rate_is_measured(rate_hz: float) -> None:
    t, samples = SyntheticPhone(3, rate_hz=rate_hz).read(0, int(rate_hz * 6))
    pipeline, _ = imu()
    pipeline.push(Chunk("a", t, samples, 0.0))
    windows = pipeline.prepare()
    assert windows is not None
    assert windows.rate_hz == pytest.approx(rate_hz, rel=0.02)
    assert windows.t_end == pytest.approx(t[0] + 2.54 + 1.28 * np.arange(len(windows.x)))


def test_devices_are_capped_and_silent_ones_forgotten() -> None:
    t, samples = stream(1.0)
    pipeline, counters = imu(max_devices=2, evict_after_s=10.0)
    for device in "abc":
        pipeline.push(Chunk(device, t, samples, 100.0))
    assert len(pipeline) == 2
    assert counters.drops() == {Drop.TOO_MANY_DEVICES: 1}
    pipeline.push(Chunk("b", t + 1.0, samples, 105.0))
    assert pipeline.evict(now_s=111.0) == ["a"]
    pipeline.push(Chunk("c", t, samples, 111.0))
    assert len(pipeline) == 2


def test_a_forgotten_device_leaves_nothing_to_the_next_one_in_its_row() -> None:
    t, samples = stream(6.0)
    pipeline, _ = imu(max_devices=1, evict_after_s=10.0)
    seen: Windows = {}
    pipeline.push(Chunk("a", t, samples * 0.5, 0.0))
    collect(pipeline, seen)
    pipeline.evict(now_s=100.0)
    pipeline.push(Chunk("b", t, samples, 100.0))
    collect(pipeline, seen)
    assert seen["b"] == at_once(t, samples)


def test_tables_grow_with_the_devices_and_with_their_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hard.imu.RESERVED", 3)
    streams = {str(i): irregular(i, rate_hz, 5.0) for i, rate_hz in enumerate([50.0, 300.0] * 20)}
    pipeline, _ = imu()
    seen: Windows = {}
    for part in range(10):
        chunks = []
        for device, (t, samples) in streams.items():
            rows = slice(part * len(t) // 10, (part + 1) * len(t) // 10)
            chunks.append(Chunk(device, t[rows], samples[rows], 0.0))
        pipeline.push_many(chunks)
        collect(pipeline, seen)
    assert len(seen) > 30
    for device, (t, samples) in streams.items():
        assert seen.get(device, []) == at_once(t, samples)


def test_old_hops_advance_the_filter_but_give_no_window() -> None:
    t, samples = stream(6.0)
    pipeline, counters = imu()
    pipeline.push(Chunk("a", t[:192], samples[:192], 0.0))
    assert pipeline.prepare(oldest_s=50.0) is None
    pipeline.push(Chunk("a", t[192:], samples[192:], 100.0))
    windows = pipeline.prepare(oldest_s=50.0)
    assert windows is not None
    whole = at_once(t, samples)
    assert [(float(e), x.tobytes()) for e, x in zip(windows.t_end, windows.x, strict=True)] == whole[2:]
    assert counters.drops() == {Drop.STALE_HOP: 2}
