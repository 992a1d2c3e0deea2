"""Two daemons side by side, each with topics and phones of its own, against one alone."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import psutil

from tools.bench_phones import DRAIN_S, Listener, Load, child, cpu, mosquitto, sleep_until, windows_sent


class Instances(msgspec.Struct):
    """What came out; CPU of each daemon's own process."""

    cores: int  # which the daemons, the broker and two load generators share
    phones: int  # of each instance
    seconds: float
    alone_us_per_phone_s: float
    two_us_per_phone_s: list[float]
    dropped: int  # windows sent whose label did not arrive, of all three
    times_one: float  # load that the two carry with a core each, in loads of one: by CPU a phone


def measure(load: Load) -> Instances:
    """One instance with `load.phones` alone, then two with as many each, over one mosquitto."""
    (alone,), lost = _run(["a"], load)
    two, lost_by_two = _run(["a", "b"], load)
    return Instances(
        cores=len(os.sched_getaffinity(0)),
        phones=load.phones,
        seconds=load.seconds,
        alone_us_per_phone_s=round(alone, 1),
        two_us_per_phone_s=[round(us, 1) for us in two],
        dropped=lost + lost_by_two,
        times_one=round(sum(alone / us for us in two), 2),
    )


def _run(names: Sequence[str], load: Load) -> tuple[list[float], int]:
    """CPU µs per phone and second of each instance, and the windows of all without a label."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        url = stack.enter_context(mosquitto(Path(folder)))
        processes, listeners = [], []
        for name in names:
            config = Path(folder) / f"{name}.yaml"
            config.write_text(json.dumps(_settings(name, url, folder, load.model)))
            daemon = stack.enter_context(child("-m", "hard", "run", "--config", str(config)))
            listeners.append(Listener(url, stack, prefix=name))
            listeners[-1].wait_for_daemon(daemon)
            processes.append(psutil.Process(daemon.pid))
        total_s = load.warm_up_s + load.seconds
        swarms = [
            stack.enter_context(
                child("tools/swarm.py", "--broker", url, "--phones", str(load.phones), "--prefix", name,
                      "--batch-s", str(load.batch_s), "--seconds", str(total_s), stdout=subprocess.PIPE)
            )
            for name in names
        ]  # fmt: skip
        starts = [float(_line(swarm)["start_s"]) for swarm in swarms]
        sleep_until(max(starts) + load.warm_up_s)
        before, began_s = [cpu(process) for process in processes], time.monotonic()
        sleep_until(min(starts) + total_s)
        used, measured_s = [cpu(process) for process in processes], time.monotonic() - began_s
        sent = [windows_sent(int(_line(swarm)["batches"]), load) for swarm in swarms]
        for listener in listeners:
            listener.wait_until_quiet(DRAIN_S)
    us = [(b - a) / measured_s / load.phones * 1e6 for a, b in zip(before, used, strict=True)]
    return us, sum(sent) - sum(listener.labels for listener in listeners)


def _settings(name: str, url: str, folder: str, model: str) -> dict[str, object]:
    return {
        "state_dir": f"{folder}/{name}",
        "broker": {"url": url},
        "sources": {"mqtt": {"topics": [{"filter": f"{name}/+/imu", "codec": "native"}]}},
        "imu": {"model": model},
        "output": {"prefix": name},
        "health": {"port": None},
    }


def _line(swarm: subprocess.Popen[bytes]) -> dict[str, float]:
    assert swarm.stdout is not None
    said: dict[str, float] = json.loads(swarm.stdout.readline())
    return said
