"""`hard replay`: a recording goes to a broker as a phone would send it."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from hard.broker import Broker
from hard.codecs import good_name
from hard.mqtt.address import BrokerUrl
from hard.phones import need_native_topic, play
from hard.recordings import Recording
from hard.runtime import Stop
from hard.settings import TopicSettings
from hard.stats import Counters
from hard.types import HardError

CONNECT_S = 5.0
FLUSH_S = 10.0


def replay(
    recording: Recording, device: str, url: BrokerUrl, topics: Sequence[TopicSettings], speed: float
) -> int:
    """Publish in the native format where a daemon with these topics hears it, with QoS 1.

    HardError where it would not, where no broker answers or samples were lost.
    """
    if not good_name(device):
        raise HardError(f"device name {device!r}: expected 1-64 printable characters without + # / $")
    topic = need_native_topic(topics, device)
    counters, stop = Counters(), Stop()
    broker = Broker(url, counters)
    console = Console(stderr=True)
    with stop.on_signals():
        broker.start()
        try:
            if not broker.wait_ready(CONNECT_S):
                if broker.refusal:
                    raise HardError(f"{url}: {broker.refusal}")
                raise HardError(
                    f"no broker answers at {url}; start one with `hard run`, or name one with --broker"
                )
            lost = threading.Event()

            def publish(payload: bytes) -> None:
                if not broker.publish(topic, payload, qos=1):
                    lost.set()
                    stop.event.set()

            with Progress(TextColumn(topic), BarColumn(), TimeRemainingColumn(), console=console) as bar:
                task = bar.add_task("", total=float(recording.t[-1] - recording.t[0]))
                sent = play(
                    recording, publish, stop.event, speed=speed,
                    progress=lambda s: bar.update(task, completed=s),
                )  # fmt: skip
            if lost.is_set() or not broker.flush(FLUSH_S):
                raise HardError(f"the broker at {url} went away after {sent} of {len(recording.t)} samples")
        finally:
            broker.stop()
    console.print(f"{sent} of {len(recording.t)} samples sent to {topic}", highlight=False)
    return 0
