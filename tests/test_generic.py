"""Whose samples a generic JSON message holds."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hard.codecs import CodecOptions, PayloadError
from hard.registry import make_codec
from hard.stats import Counters
from hard.types import F64, Message, Readings, Sensor

SAMPLES = [{"t": 0.02 * i, "ax": 0, "ay": 0, "az": 9.8} for i in range(30)]


def devices(payload: object) -> set[str]:
    codec = make_codec("json", CodecOptions(), Counters())
    return {item.device for item in codec.decode(Message("lab/eve", json.dumps(payload).encode(), 0.0))}


@pytest.mark.parametrize("key", ["device", "deviceId", "device_id", "Device_ID", "dev", "id", "name"])
def test_a_device_is_named_beside_the_samples_or_in_each_of_them(key: str) -> None:
    assert devices({key: "bob", "samples": SAMPLES}) == {"bob"}
    assert devices([{key: "bob"} | sample for sample in SAMPLES]) == {"bob"}
    assert devices({"samples": [{key: "bob"} | sample for sample in SAMPLES]}) == {"bob"}


def test_a_running_number_is_no_device() -> None:
    assert devices({"id": 17, "device": "bob", "samples": SAMPLES}) == {"bob"}
    assert devices([{"id": i} | sample for i, sample in enumerate(SAMPLES)]) == {"eve"}


def test_a_name_that_is_null_gives_way_to_the_topic() -> None:
    assert devices({"device": None, "samples": SAMPLES}) == {"eve"}


def test_samples_of_several_devices_in_one_list_are_refused() -> None:
    with pytest.raises(PayloadError, match="several devices in one list; send a list for each device"):
        devices([{"device": f"board-{i % 2}"} | sample for i, sample in enumerate(SAMPLES)])


DEG_S = np.array([0.1] * 30 + [20.0, 90.0, -90.0] * 10)  # a phone that lies still, and then turns
FIFTH = 37  # the fifth that is impossible in rad/s


def turning(cuts: list[int], **options: str) -> F64:
    """What is made of DEG_S, after 30 samples cut into messages."""
    codec = make_codec("json", CodecOptions(**options), Counters())
    samples = [{"t": 0.02 * i, "acc": [0, 0, 9.8], "gyro": [0, v, 0]} for i, v in enumerate(DEG_S)]
    bounds = [0, 30, *sorted(cuts), len(samples)]
    out = [
        item.xyz
        for first, end in itertools.pairwise(bounds)
        if first < end
        for item in codec.decode(Message("lab/eve", json.dumps(samples[first:end]).encode(), 0.0))
        if isinstance(item, Readings) and item.sensor is Sensor.GYRO
    ]
    return np.concatenate(out)[:, 1]


@given(cuts=st.lists(st.integers(31, 59), unique=True))
def test_deg_s_after_a_rest_is_noticed_as_soon_as_it_is_impossible(cuts: list[int]) -> None:
    np.testing.assert_array_equal(turning(cuts)[:FIFTH], DEG_S[:FIFTH])
    np.testing.assert_allclose(turning(cuts)[FIFTH:], np.radians(DEG_S[FIFTH:]))


def test_a_unit_that_is_set_is_not_corrected() -> None:
    np.testing.assert_array_equal(turning([], gyro_unit="rad/s"), DEG_S)


def test_angular_velocity_alone_is_told_so() -> None:
    with pytest.raises(PayloadError, match="angular velocity without acceleration: send both"):
        devices([{"t": 0.02 * i, "gyro": [0, 0, 0]} for i in range(30)])
