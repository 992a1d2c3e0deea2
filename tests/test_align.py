"""Sensors that come apart are joined by their own clock, whatever the messages; and absence is noticed."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hard.align import Aligner
from hard.stats import Counters, Drop
from hard.types import Chunk, Readings, Sensor

ODDITIES = [
    *("one is missing", "one is late", "one comes twice", "another sensor", "not a number", "out of order"),
    *("the clock goes back", "a pause"),
]


def tone(t: np.ndarray) -> np.ndarray:
    return np.stack([np.sin(5 * t + k) for k in range(3)], axis=1)


def sensor_times(seed: int, rate_hz: float, seconds: float) -> np.ndarray:
    rng = np.random.default_rng(seed)
    n = int(rate_hz * seconds)
    return (np.arange(n) + rng.uniform(-0.4, 0.4, n)) / rate_hz


def push_all(aligner: Aligner, messages: list[Readings]) -> list[Chunk]:
    return [chunk for message in messages for chunk in aligner.push(message)]


def joined(chunks: list[Chunk]) -> tuple[np.ndarray, np.ndarray]:
    return np.concatenate([c.t for c in chunks]), np.concatenate([c.samples for c in chunks])


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), largest_s=st.floats(0.02, 1.0), rate_hz=st.floats(25, 200))
def test_the_joint_does_not_depend_on_how_streams_are_split(
    seed: int, largest_s: float, rate_hz: float
) -> None:
    rng = np.random.default_rng(seed)
    streams = {
        Sensor.ACC: sensor_times(seed, 50.0, 8.0),
        Sensor.GYRO: sensor_times(seed + 1, rate_hz, 8.0),
    }
    messages = []
    for sensor, t in streams.items():
        at = 0
        while at < len(t):
            n = max(1, int(rng.uniform(0, largest_s) * len(t) / 8.0))
            messages.append(Readings("a", sensor, t[at : at + n], tone(t[at : at + n]), 0.0))
            at += n
    messages.sort(key=lambda m: float(m.t[-1]))  # a message leaves when its last reading has been taken
    t, samples = joined(push_all(Aligner(Counters()), messages))
    whole = [Readings("a", s, times, tone(times), 0.0) for s, times in streams.items()]
    expected_t, expected = joined(push_all(Aligner(Counters()), whole[::-1]))
    n = min(len(t), len(expected_t))
    assert n >= len(expected_t) - 50  # the end still waits for the slower sensor
    assert (t[:n] == expected_t[:n]).all()
    assert (samples[:n] == expected[:n]).all()


@settings(max_examples=150)
@given(
    seed=st.integers(0, 2**32 - 1),
    sensors=st.sampled_from(
        [
            [Sensor.ACC, Sensor.GYRO],
            [Sensor.LINEAR, Sensor.GRAVITY, Sensor.GYRO],
            [Sensor.ACC, Sensor.GYRO, Sensor.GRAVITY],
            [Sensor.GRAVITY, Sensor.ACC, Sensor.LINEAR],
        ]
    ),
    oddities=st.lists(st.sampled_from(ODDITIES), max_size=4),
)
def test_a_message_of_several_sensors_is_what_they_are_one_by_one(
    seed: int, sensors: list[Sensor], oddities: list[str]
) -> None:
    rng = np.random.default_rng(seed)
    linear = Sensor.ACC not in sensors
    rate_hz, start_s = rng.uniform(20, 120), 0.0
    odd = dict(zip(rng.choice(30, len(oddities), replace=False).tolist(), oddities, strict=True))
    (together, counted), (alone, expected_count) = [
        (Aligner(counters), counters) for counters in (Counters(), Counters())
    ]
    chunks: list[Chunk] = []
    expected: list[Chunk] = []
    for k in range(30):
        t = start_s + np.arange(rng.integers(1, 40)) / rate_hz
        start_s = t[-1] + 1 / rate_hz
        message = [Readings("a", s, t, tone(t + i), float(k)) for i, s in enumerate(sensors)]
        match odd.get(k):
            case "one is missing":
                message.pop(rng.integers(len(message)))
            case "one is late":
                message[-1] = msgspec.structs.replace(message[-1], t=t - 0.3 / rate_hz)
            case "one comes twice":
                message.append(message[0])
            case "another sensor":
                message.append(Readings("a", Sensor.LINEAR if not linear else Sensor.ACC, t, tone(t), 0.0))
            case "not a number":
                message[0].xyz[len(t) // 2, 1] = np.nan
            case "out of order":
                message = [msgspec.structs.replace(r, t=t[::-1]) for r in message]
            case "the clock goes back":
                start_s -= 5.0
            case "a pause":
                start_s += 2.0
        chunks += together.push_together(message)
        expected += push_all(alone, message)
    assert bool(chunks) == bool(expected)
    for side in (0, 1) if chunks else ():
        np.testing.assert_array_equal(joined(chunks)[side], joined(expected)[side])
    assert [c.gyro for c in chunks] == [c.gyro for c in expected]
    assert counted.snapshot() == expected_count.snapshot()


@given(seed=st.integers(0, 2**32 - 1))
def test_values_are_those_of_the_moment(seed: int) -> None:
    acc, gyro = sensor_times(seed, 100.0, 5.0), sensor_times(seed + 1, 100.0, 5.0)
    aligner = Aligner(Counters())
    chunks = push_all(
        aligner,
        [Readings("a", Sensor.GYRO, gyro, tone(gyro), 0.0), Readings("a", Sensor.ACC, acc, tone(acc), 0.0)],
    )
    t, samples = joined(chunks)
    np.testing.assert_allclose(samples[:, :3], tone(t), atol=1e-6)
    np.testing.assert_allclose(samples[:, 3:], tone(t), atol=0.01)  # linear between readings 10 ms apart
    assert all(c.gyro for c in chunks)


@pytest.mark.parametrize("rate_hz", [100, 200, 400, 800])
def test_what_a_fast_sensor_feels_above_half_the_rate_does_not_fold_down(rate_hz: int) -> None:
    acc, gyro = np.arange(0, 5, 0.02), np.arange(0, 5, 1 / rate_hz)
    hum = np.stack([np.sin(2 * np.pi * 49.0 * gyro)] * 3, axis=1)  # seen at 50 Hz it would be 1 Hz
    slow = tone(gyro)
    messages = [
        Readings("a", Sensor.GYRO, gyro, slow + hum, 0.0),
        Readings("a", Sensor.ACC, acc, tone(acc), 0.0),
    ]
    t, samples = joined(push_all(Aligner(Counters()), messages))
    begun = t > 1
    kept = samples[begun, 3:] - tone(t[begun] - 0.01)  # the mean of the last period
    assert np.abs(kept).max() < 0.04 + 1.5 * (50 / rate_hz) ** 2
    if rate_hz > 100:
        assert np.abs(kept).max() < 0.15


def test_acceleration_without_gravity_gets_it_from_the_gravity_stream() -> None:
    t = sensor_times(0, 50.0, 4.0)
    gravity = np.tile([0.0, 0.0, 9.8], (len(t), 1))
    messages = [
        Readings("a", Sensor.LINEAR, t, tone(t), 0.0),
        Readings("a", Sensor.GRAVITY, t, gravity, 0.0),
        Readings("a", Sensor.GYRO, t, tone(t), 0.0),
    ]
    _, samples = joined(push_all(Aligner(Counters()), messages))
    np.testing.assert_allclose(samples[:, :3], tone(t) + gravity, atol=1e-5)


@pytest.mark.parametrize("together", [True, False])
def test_parts_of_the_acceleration_beside_it_are_neither_kept_nor_counted(together: bool) -> None:
    """An Android that sends every sensor that it has, for longer than readings wait."""
    counters = Counters()
    aligner, plain = Aligner(counters), Aligner(Counters())
    sensors = [Sensor.GRAVITY, Sensor.ACC, Sensor.LINEAR, Sensor.GYRO]
    got, expected = [], []
    for first in range(0, 6000, 25):
        t = np.arange(first, first + 25) / 50
        message = [Readings("a", sensor, t, tone(t), 0.0) for sensor in sensors]
        parts = [message] if together else [[r] for r in message]
        got += [chunk for part in parts for chunk in aligner.push_together(part)]
        expected += [chunk for r in (message[1], message[3]) for chunk in plain.push(r)]
    assert counters.drops() == {}
    for mine, theirs in zip(joined(got), joined(expected), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_a_phone_without_a_gyroscope_is_waited_for_once() -> None:
    t = sensor_times(0, 50.0, 6.0)
    aligner = Aligner(Counters())
    sizes = []
    for at in range(0, len(t), 25):
        chunks = aligner.push(Readings("a", Sensor.ACC, t[at : at + 25], tone(t[at : at + 25]), 0.0))
        assert not any(c.gyro for c in chunks)
        sizes.append(sum(len(c.t) for c in chunks))
    assert sizes[:4] == [0] * 4
    assert sizes[4] == 125  # all that had waited
    assert sizes[5:] == [25] * (len(sizes) - 5)


def test_a_gyroscope_that_stops_is_given_up_and_welcomed_back() -> None:
    t = np.arange(0, 12, 0.02)
    aligner = Aligner(Counters())
    kinds = []
    for at in range(0, len(t), 25):
        part = t[at : at + 25]
        for sensor in (Sensor.ACC, Sensor.GYRO):
            if sensor is Sensor.ACC or not 4.0 <= part[0] < 8.0:
                kinds += [
                    (c.gyro, len(c.t)) for c in aligner.push(Readings("a", sensor, part, tone(part), 0.0))
                ]
    order = [gyro for gyro, _ in kinds]
    assert order == sorted(order[: order.index(False)], reverse=True) + [False] * order.count(False) + [
        True
    ] * (len(order) - order.index(False) - order.count(False))
    assert order[0] is True
    assert order[-1] is True
    assert order.count(False) > 3


def test_values_are_not_made_up_over_a_hole() -> None:
    t = np.arange(0, 4, 0.02)
    gyro = t[(t < 1.5) | (t > 2.0)]
    counters = Counters()
    chunks = push_all(
        Aligner(counters),
        [Readings("a", Sensor.GYRO, gyro, tone(gyro), 0.0), Readings("a", Sensor.ACC, t, tone(t), 0.0)],
    )
    times, _ = joined(chunks)
    missing = sorted(set(t.tolist()) - set(times.tolist()))
    assert missing == pytest.approx(t[(t >= 1.5) & (t <= 2.0)].tolist())
    assert counters.drops() == {Drop.UNPAIRED: len(missing)}


def test_readings_that_are_late_doubled_or_not_finite_are_dropped_and_counted() -> None:
    t = np.arange(0, 3, 0.02)
    values = tone(t)
    values[7, 1] = np.nan
    counters = Counters()
    aligner = Aligner(counters)
    chunks = push_all(
        aligner,
        [
            Readings("a", Sensor.GYRO, t, tone(t), 0.0),
            Readings("a", Sensor.ACC, t[:100], values[:100], 0.0),
            Readings("a", Sensor.ACC, t[60:], values[60:], 0.0),
        ],
    )
    times, _ = joined(chunks)
    assert times.tolist() == np.delete(t, 7).tolist()
    assert counters.drops() == {Drop.LATE: 40, Drop.NOT_FINITE: 1}


def test_a_new_recording_starts_anew() -> None:
    t = np.arange(0, 5, 0.02)
    aligner = Aligner(Counters())
    pair = [Readings("a", s, t, tone(t), 0.0) for s in (Sensor.GYRO, Sensor.ACC)]
    assert joined(push_all(aligner, pair))[0].tolist() == joined(push_all(aligner, pair))[0].tolist()


def test_devices_are_capped_and_can_be_forgotten() -> None:
    counters = Counters()
    aligner = Aligner(counters, max_devices=1)
    t = np.arange(0, 5, 0.02)
    aligner.push(Readings("a", Sensor.ACC, t, tone(t), 0.0))
    aligner.push(Readings("b", Sensor.ACC, t, tone(t), 5.0))
    assert counters.drops() == {Drop.TOO_MANY_DEVICES: 1}
    aligner.evict(silent_since_s=1.0)
    aligner.push(Readings("b", Sensor.ACC, t, tone(t), 6.0))
    assert counters.drops() == {Drop.TOO_MANY_DEVICES: 1}
