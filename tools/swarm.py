"""Load: N synthetic phones over one MQTT connection, in real time, phases spread evenly.

python tools/swarm.py --broker mqtt://127.0.0.1:1883 --phones 2000 --batch-s 0.5 --seconds 30
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Final

import click

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # `python tools/x.py` and `python -m tools.x`

from hard.broker import Broker, parse_url
from hard.codecs.native import HEADER, MAGIC, VERSION
from hard.stats import Counters
from hard.synthetic import SyntheticPhone
from hard.types import HardError

DEVICE: Final = "synthetic-swarm-{:05d}"
VOICES: Final = 32  # different people; the phones share them
LOOP_S: Final = 60.0
RATE_HZ: Final = 50.0
LEAD_S: Final = 0.5


class Phones:
    """Payloads of N phones: batch k of every phone covers [k, k + 1) * batch_s of its own clock."""

    def __init__(self, phones: int, batch_s: float) -> None:
        self.phones = phones
        self.batch_s = batch_s
        self.count = max(1, round(batch_s * RATE_HZ))
        samples = round(LOOP_S * RATE_HZ)
        self._loop = samples // self.count
        self._voices = [SyntheticPhone(i, jitter_s=0.0).read(0, samples)[1].tobytes() for i in range(VOICES)]

    def payload(self, phone: int, batch: int) -> bytes:
        size = self.count * 24
        at = batch % self._loop * size
        head = HEADER.pack(MAGIC, VERSION, 0, self.count, RATE_HZ, batch * self.count / RATE_HZ)
        return head + self._voices[phone % VOICES][at : at + size]


def sent_at(start_s: float, phone: int, phones: int, batch: int, batch_s: float) -> float:
    """Monotonic time at which a batch is due: when its last sample has been taken, the phase added."""
    return start_s + (batch + 1 + phone / phones) * batch_s


@click.command()
@click.option("--broker", required=True, metavar="URL")
@click.option("--phones", default=100, show_default=True, type=click.IntRange(min=1))
@click.option("--batch-s", default=0.5, show_default=True, type=click.FloatRange(min=0.02, max=10))
@click.option("--seconds", default=30.0, show_default=True, type=click.FloatRange(min=1))
@click.option("--prefix", default="hard", show_default=True)
def main(broker: str, phones: int, batch_s: float, seconds: float, prefix: str) -> None:
    """Prints one JSON line when the load starts, with its monotonic start time, and one when it has ended."""
    try:
        url = parse_url(broker)
    except HardError as e:
        raise click.UsageError(str(e)) from None
    counters = Counters()
    connection = Broker(url, counters, max_queued=1_000_000)
    connection.start()
    if not connection.wait_ready(5.0):
        raise click.ClickException(f"no broker answers at {url}")
    load = Phones(phones, batch_s)
    topics = [f"{prefix}/{DEVICE.format(i)}/imu" for i in range(phones)]
    start_s = time.monotonic() + LEAD_S
    print(json.dumps({"start_s": start_s}), flush=True)
    batches = int(seconds / batch_s)
    worst_s = 0.0
    for batch in range(batches):
        for phone in range(phones):
            wait_s = sent_at(start_s, phone, phones, batch, batch_s) - time.monotonic()
            if wait_s > 0.002:  # a few phones at a time: the pace, not the scheduler, is under test
                time.sleep(wait_s)
            worst_s = max(worst_s, -wait_s)
            connection.publish(topics[phone], load.payload(phone, batch))
    connection.flush(10.0)
    connection.stop()
    print(
        json.dumps({"batches": batches, "late_s": round(worst_s, 4), "lost": sum(counters.drops().values())})
    )


if __name__ == "__main__":
    main()
