"""Playing phones to a broker: synthetic ones for `--simulate`, and recordings for `hard replay`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

import numpy as np

from hard.broker import Broker
from hard.codecs.native import encode
from hard.recordings import Recording
from hard.settings import TopicSettings, native_topic
from hard.synthetic import NAME, SyntheticPhone
from hard.types import HardError

BATCH_S = 0.5


class Simulator:
    """Synthetic phones that publish half-second batches in real time. Runs in its own thread."""

    def __init__(self, broker: Broker, topics: Sequence[TopicSettings], phones: int) -> None:
        self._broker = broker
        self._topics = [need_native_topic(topics, NAME.format(i + 1)) for i in range(phones)]
        self._phones = [SyntheticPhone(2 * i) for i in range(phones)]

    def run(self, stop: threading.Event) -> None:
        start_s = time.monotonic()
        sent = 0
        while True:
            for i, (topic, phone) in enumerate(zip(self._topics, self._phones, strict=True)):
                due_s = start_s + (sent + 1 + i / len(self._phones)) * BATCH_S
                if stop.wait(max(0.0, due_s - time.monotonic())):
                    return
                t, samples = phone.read(sent * 25, 25)
                self._broker.publish(topic, encode(t, samples))
            sent += 1


def need_native_topic(topics: Sequence[TopicSettings], device: str) -> str:
    """HardError where a daemon with these topics would not hear the native format."""
    topic = native_topic(topics, device)
    if topic is None:
        raise HardError(
            f"no topic takes the native format of {device!r}: add {{filter: hard/+/imu, codec: native}} to "
            "sources.mqtt.topics"
        )
    return topic


def play(
    recording: Recording,
    publish: Callable[[bytes], None],
    stop: threading.Event,
    *,
    speed: float = 1.0,
    batch_s: float = BATCH_S,
    progress: Callable[[float], None] = lambda _: None,
) -> int:
    """Send a recording as a phone would, in batches of its own time; returns how many samples went out.

    The timestamps are the recording's; `speed` only shortens the pauses. `progress` gets seconds played.
    """
    t, samples = recording.t, recording.samples
    start_s = time.monotonic()
    sent = 0
    while sent < len(t):
        behind = np.flatnonzero(t[sent:] >= t[sent] + batch_s)
        end = sent + int(behind[0]) if behind.size else len(t)
        end = max(sent + 1, min(end, sent + 4096))
        due_s = start_s + max(0.0, float(t[end - 1] - t[0])) / speed
        if stop.wait(max(0.0, due_s - time.monotonic())):
            break
        publish(encode(t[sent:end], samples[sent:end]))
        sent = end
        progress(float(t[end - 1] - t[0]))
    return sent
