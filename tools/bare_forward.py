"""What a window costs in a model alone; a process of its own, for tools/bench.py.

python tools/bare_forward.py lstm-waist 64 torch auto
"""

from __future__ import annotations

import ctypes
import statistics
import sys
import time
from pathlib import Path
from typing import Final

import click
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # `python tools/x.py` and `python -m tools.x`

from hard.imu import Imu, Limits
from hard.model import Precision, Runtime, load_model
from hard.stats import Counters
from hard.synthetic import SyntheticPhone
from hard.types import F32, Chunk, HardError, Windowing

PHONES: Final = 32  # as many as the load has voices
SAMPLES: Final = 3000  # of each: all six activities
ROUNDS, CALLS = 5, 40
PR_SET_MDWE: Final = 65  # of prctl; Linux 6.3


@click.command()
@click.argument("model")
@click.argument("batch", type=click.IntRange(min=1))
@click.argument("runtime", type=click.Choice(["torch", "onnx"]))
@click.argument("precision", type=click.Choice(["auto", "float32", "bfloat16"]))
@click.option("--no-code", is_flag=True, help="The process may not write code, as under systemd.")
def main(model: str, batch: int, runtime: Runtime, precision: Precision, no_code: bool) -> None:
    """CPU µs a window; nan where the process is not to write code and the kernel cannot forbid it."""
    if no_code and ctypes.CDLL(None).prctl(PR_SET_MDWE, 1, 0, 0, 0):
        print("nan")
        return
    loaded = load_model(model, runtime, precision)
    batches = windows(loaded.card.windowing, batch)
    loaded.warm_up(batch)
    rounds = []
    for _ in range(ROUNDS):
        began_s = time.process_time()
        for x in batches:
            loaded.predict(x)
        rounds.append((time.process_time() - began_s) / len(batches) / batch * 1e6)
    print(statistics.median(rounds))


def windows(windowing: Windowing, batch: int) -> list[F32]:
    """Batches of the load's phones, in no order: what a network costs may depend on what it sees."""
    imu = Imu(windowing, Limits(), Counters())
    for i in range(PHONES):
        imu.push(Chunk(str(i), *SyntheticPhone(i, jitter_s=0.0).read(0, SAMPLES), 0.0))
    made = imu.prepare()
    assert made is not None
    rng = np.random.default_rng(0)
    return [made.x[rng.choice(len(made.x), batch)] for _ in range(CALLS)]


if __name__ == "__main__":
    try:
        main()
    except HardError as e:
        sys.exit(str(e))
