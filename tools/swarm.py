"""Load: N synthetic phones over one MQTT connection or several, in real time, phases spread evenly.

python tools/swarm.py --broker mqtt://127.0.0.1:1883 --phones 2000 --batch-s 0.5 --seconds 30
"""

from __future__ import annotations

import functools
import json
import math
import sys
import time
from pathlib import Path
from typing import Final

import click
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # `python tools/x.py` and `python -m tools.x`

from hard.broker import Broker, parse_url
from hard.codecs.native import encode
from hard.stats import Counters
from hard.synthetic import SyntheticPhone
from hard.types import F32, F64, HardError

DEVICE: Final = "synthetic-swarm-{:05d}"
VOICES: Final = 32  # different people; the phones share them
LOOP_S: Final = 60.0
RATE_HZ: Final = 50.0
LEAD_S: Final = 0.5
SLOT_S: Final = 0.002  # what is due within it is sent at once: the pace, not the scheduler, is under test
UTC_S: Final = 1_750_000_000  # where Sensor Logger's clock begins, a whole number of seconds
HOP: Final = 64  # samples; see first_batch
COHORTS: Final = 13
DIALECTS: Final = ("native", "json", "sensor-logger")


class Phones:
    """Messages of N phones: batch k of every phone covers [k, k + 1) * batch_s of its own clock.

    Phones with the same voice send the same samples at the same time of their clocks, so that a batch is
    written once for all of them: else the load would cost more than what it loads.
    """

    def __init__(self, phones: int, batch_s: float, dialect: str = "native", prefix: str = "hard") -> None:
        self.phones = phones
        self.batch_s = batch_s
        self.count = max(1, round(batch_s * RATE_HZ))
        self._sensor_logger = dialect == "sensor-logger"
        samples = round(LOOP_S * RATE_HZ)
        self._loop = samples // self.count
        self._voices = [SyntheticPhone(i, jitter_s=0.0).read(0, samples)[1] for i in range(VOICES)]
        write = {"native": _native, "json": _twin, "sensor-logger": _sensor_logger}[dialect]
        self._write = functools.lru_cache(maxsize=4 * VOICES)(lambda voice, k: write(*self._batch(voice, k)))
        self._topics = [f"{prefix}/{DEVICE.format(i)}/imu" for i in range(phones)]

    def message(self, phone: int, batch: int) -> tuple[str, bytes]:
        """Topic and payload."""
        body = self._write(phone % VOICES, batch)
        if self._sensor_logger:
            return "sensor-logger", b'{"deviceId":"%s",%s' % (DEVICE.format(phone).encode(), body)
        return self._topics[phone], body

    def _batch(self, voice: int, batch: int) -> tuple[F64, F32]:
        at = batch % self._loop * self.count
        t = (batch * self.count + np.arange(self.count)) / RATE_HZ
        return t, self._voices[voice][at : at + self.count]


def _native(t: F64, samples: F32) -> bytes:
    return encode(t, samples, RATE_HZ)


def _twin(t: F64, samples: F32) -> bytes:
    rows = np.round(samples.astype(float), 6).tolist()
    return json.dumps({"t": t[0], "rate": RATE_HZ, "samples": rows}).encode()


def _sensor_logger(t: F64, samples: F32) -> bytes:
    """All but the device's name: an Android phone that sends total acceleration and angular velocity."""
    payload = [
        {
            "name": name,
            "time": UTC_S * 1_000_000_000 + round(at * 1e9),
            "values": dict(zip("xyz", xyz, strict=True)),
            "accuracy": 3,
        }
        for name, part in (("totalacceleration", samples[:, :3]), ("gyroscope", samples[:, 3:]))
        for at, xyz in zip(t.tolist(), np.round(part.astype(float), 6).tolist(), strict=True)
    ]
    return json.dumps({"messageId": 1, "sessionId": "swarm", "payload": payload}).encode()[1:]


def sent_at(start_s: float, phone: int, phones: int, batch: int, batch_s: float) -> float:
    """Monotonic time at which a batch is due: when its last sample has been taken, the phase added."""
    return start_s + (batch + 1 + phone / phones) * batch_s


def first_batch(phone: int, batch_s: float) -> int:
    """The batch with which a phone joins: nobody's windows are due in the same batches as everybody's.

    Windows begin with a phone's first sample. A hop is no whole number of batches, so 13 cohorts, a batch
    apart, have theirs complete at 13 phases of it (one every 0.1 s with batches of 0.5 s).
    """
    count = max(1, round(batch_s * RATE_HZ))
    return phone % max(COHORTS, math.ceil(HOP / count))


@click.command()
@click.option("--broker", required=True, metavar="URL")
@click.option("--phones", default=100, show_default=True, type=click.IntRange(min=1))
@click.option("--dialect", default="native", show_default=True, type=click.Choice(DIALECTS))
@click.option("--batch-s", default=0.5, show_default=True, type=click.FloatRange(min=0.02, max=10))
@click.option("--seconds", default=30.0, show_default=True, type=click.FloatRange(min=1))
@click.option("--connections", default=1, show_default=True, type=click.IntRange(1, 64))
@click.option("--prefix", default="hard", show_default=True)
def main(
    broker: str, phones: int, dialect: str, batch_s: float, seconds: float, connections: int, prefix: str
) -> None:
    """Prints one JSON line when the load starts, with its monotonic start time, and one when it has ended."""
    try:
        url = parse_url(broker)
    except HardError as e:
        raise click.UsageError(str(e)) from None
    counters = Counters()
    links = [Broker(url, counters, max_queued=1_000_000) for _ in range(connections)]
    for link in links:
        link.start()
    if not all(link.wait_ready(5.0) for link in links):
        raise click.ClickException(f"no broker answers at {url}")
    load = Phones(phones, batch_s, dialect, prefix)
    start_s = time.monotonic() + LEAD_S
    print(json.dumps({"start_s": start_s}), flush=True)
    batches = int(seconds / batch_s)
    late_s = _send(load, links, start_s, batches)
    for link in links:
        link.flush(10.0)
        link.stop()
    lost = sum(counters.drops().values())
    print(json.dumps({"batches": batches, "late_s": round(late_s, 4), "lost": lost}))


def _send(load: Phones, links: list[Broker], start_s: float, batches: int) -> float:
    """Everything, when it is due; returns the worst lateness, in seconds."""
    late_s = 0.0
    waiting: list[list[tuple[str, bytes]]] = [[] for _ in links]
    for batch in range(batches):
        for phone in range(load.phones):
            if batch < first_batch(phone, load.batch_s):
                continue
            due_s = sent_at(start_s, phone, load.phones, batch, load.batch_s)
            wait_s = due_s - time.monotonic()
            if wait_s > SLOT_S:
                _flush(waiting, links)
                time.sleep(max(0.0, due_s - time.monotonic()))
            late_s = max(late_s, -wait_s)
            waiting[phone % len(links)].append(load.message(phone, batch))
    _flush(waiting, links)
    return late_s


def _flush(waiting: list[list[tuple[str, bytes]]], links: list[Broker]) -> None:
    for messages, link in zip(waiting, links, strict=True):
        if messages:
            link.publish_many(messages)
            messages.clear()


if __name__ == "__main__":
    main()
