"""What `hard record` and `hard calibrate` keep of a device's messages."""

from __future__ import annotations

import numpy as np
import pytest

from hard.codecs.native import encode
from hard.mqtt.address import BrokerUrl
from hard.personal.capture import Capture
from hard.settings import Settings
from hard.synthetic import SyntheticPhone
from hard.types import F32, F64, Message

LENGTH = 150  # samples in a message: 3 s


@pytest.fixture
def capture() -> Capture:
    return Capture(Settings(), BrokerUrl("127.0.0.1", 1), "alice")


def deliver(capture: Capture, t: F64, samples: F32) -> None:
    capture._inbox.put(Message("hard/alice/imu", encode(t, samples), 0.0))
    capture.take(0.0)


@pytest.mark.parametrize("late", [0, 1, 2])
def test_a_message_that_is_delivered_twice_costs_nothing(capture: Capture, late: int) -> None:
    t, samples = SyntheticPhone(1).read(0, 900)
    for first in range(0, 900, LENGTH):
        deliver(capture, t[first : first + LENGTH], samples[first : first + LENGTH])
        again = max(0, first - late * LENGTH)
        deliver(capture, t[again : again + LENGTH], samples[again : again + LENGTH])
    assert capture.restarts == 0
    np.testing.assert_array_equal(capture.recording().t, t)
    np.testing.assert_array_equal(capture.recording().samples, samples)


def test_a_device_that_starts_again_at_the_same_times_is_recorded_anew(capture: Capture) -> None:
    t, samples = SyntheticPhone(1).read(0, 600)
    deliver(capture, t[:LENGTH], samples[:LENGTH])
    deliver(capture, t[:LENGTH], samples[LENGTH : 2 * LENGTH])
    assert capture.restarts == 1
    np.testing.assert_array_equal(capture.recording().samples, samples[LENGTH : 2 * LENGTH])
