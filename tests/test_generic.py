"""Whose samples a generic JSON message holds."""

from __future__ import annotations

import json

import pytest

from hard.codecs import CodecOptions, PayloadError
from hard.registry import make_codec
from hard.stats import Counters
from hard.types import Message

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
