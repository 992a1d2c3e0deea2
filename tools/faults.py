"""Faults, done to a real daemon: what each did, how long until labels flowed again, and what was lost.

python tools/faults.py [--full] [--json] [NAME]...    full: the broker killed 20 times, longer waits
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import click
import msgspec

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # `python tools/x.py` and `python -m tools.x`

from hard.codecs.native import encode
from hard.health import Health
from hard.stats import Drop
from hard.synthetic import SyntheticPhone
from tools.lab import ROOT, FaultError, Lab, Proxy, small_disk, wait_for

RECOVERY_S: Final = 10.0
HEAVY: Final = 5
MOST_MB: Final = 500.0  # 340 MB without faults

RAISING = """
class Codec:
    def __init__(self, options, counters): pass
    def decode(self, message): raise RuntimeError("a fault in the engine")
"""
SHIM = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
int clock_gettime(clockid_t id, struct timespec *t) {
    static int (*real)(clockid_t, struct timespec *);
    struct stat s;
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int rc = real(id, t);
    if (id == CLOCK_REALTIME && stat(getenv("BACK_AN_HOUR"), &s) == 0) t->tv_sec -= 3600;
    return rc;
}
"""


class Outcome(msgspec.Struct):
    """What a fault did. `recovery_s`: from its end to the first label of a new window, for each time."""

    recovery_s: list[float]
    effect: str
    lost: dict[str, int] = {}
    rss_mb: float = 0.0
    name: str = ""


class Extent(msgspec.Struct, frozen=True):
    """How much of a fault."""

    kills: int = 2
    half_open: int = 1
    frozen_s: float = 1.0  # after it has been noticed


FULL: Final = Extent(kills=20, half_open=3, frozen_s=20.0)

Fault = Callable[[Lab, Extent], Outcome]


def begin(lab: Lab, url: str | None = None, **environ: str) -> Health:
    """Broker, daemon, phone and listener; until the first label."""
    lab.start_broker()
    lab.listen()
    lab.phone()
    lab.start_daemon(url, **environ)
    lab.next_label(lab.started_s)
    return healthy(lab)


def healthy(lab: Lab) -> Health:
    return lab.wait_health("state ok", lambda h: h.ready and not h.problems)


def lost(before: Health, after: Health) -> dict[str, int]:
    """The losses between two reports, by counter."""
    names = [str(drop) for drop in Drop]
    return {n: d for n in names if (d := after.counters.get(n, 0) - before.counters.get(n, 0))}


def broker_killed(lab: Lab, extent: Extent) -> Outcome:
    before, recovery = begin(lab), []
    for _ in range(extent.kills):
        lab.kill_broker()
        lab.wait_health("the loss of the broker", lambda h: not h.connected and not h.ready)
        lab.start_broker()
        recovery.append(lab.next_label(time.monotonic()))
    return Outcome(recovery, "not ready, `no broker at`; reconnects", lost(before, healthy(lab)))


def broker_absent_at_start(lab: Lab, extent: Extent) -> Outcome:
    lab.start_daemon()
    lab.wait_health("the reason", lambda h: not h.ready and "Connection refused" in " ".join(h.problems))
    lab.start_broker()
    began_s = time.monotonic()
    lab.listen()
    lab.phone()
    return Outcome(
        [lab.next_label(began_s)], "not ready, the reason in health; no exit", healthy(lab).counters
    )


def wrong_password(lab: Lab, extent: Extent) -> Outcome:
    file = lab.folder / "passwords"

    def password(text: str) -> None:
        subprocess.run(
            ["mosquitto_passwd", "-c", "-b", str(file), "hard", text], check=True, capture_output=True
        )

    password("right")
    lab.start_broker(f"allow_anonymous true\npassword_file {file}")
    lab.start_daemon(HARD__BROKER__USERNAME="hard", HARD__BROKER__PASSWORD="wrong")
    lab.wait_health("the refusal", lambda h: "refused user 'hard'" in " ".join(h.problems))
    password("wrong")
    lab.signal_broker(signal.SIGHUP)
    began_s = time.monotonic()
    lab.listen()
    lab.phone()
    return Outcome([lab.next_label(began_s)], "not ready, `refused user`; tries again", healthy(lab).counters)


def broker_frozen(lab: Lab, extent: Extent) -> Outcome:
    before = begin(lab)
    lab.signal_broker(signal.SIGSTOP)
    lab.wait_health("the silence noticed", lambda h: not h.ready)
    time.sleep(extent.frozen_s)  # the fault lasts
    lab.signal_broker(signal.SIGCONT)
    recovery = lab.next_label(time.monotonic())
    return Outcome([recovery], "given up after 4.5 s of silence; not ready", lost(before, healthy(lab)))


def half_open(lab: Lab, extent: Extent) -> Outcome:
    """The daemon's connection leads nowhere any more; new ones work."""
    proxy = Proxy(lab.port)
    before = begin(lab, f"mqtt://127.0.0.1:{proxy.port}")
    recovery = []
    for _ in range(extent.half_open):
        proxy.swallow()
        recovery.append(lab.next_label(time.monotonic() + 0.2))
    return Outcome(recovery, "given up after 4.5 s of silence, connected anew", lost(before, healthy(lab)))


def disk_full(lab: Lab, extent: Extent) -> Outcome:
    with small_disk(lab.state) as disk:
        before = begin(lab)
        fill = disk / "fill"
        with contextlib.suppress(OSError), fill.open("wb", buffering=0) as file:
            while file.write(bytes(4096)):
                pass
        lab.wait_health("the disk noticed", lambda h: "totals are not written" in " ".join(h.problems))
        flow = lab.next_label(time.monotonic())
        fill.unlink(missing_ok=True)
        return Outcome([flow], "labels flow; degraded, totals wait in memory", lost(before, healthy(lab)))


def read_only(lab: Lab, extent: Extent) -> Outcome:
    """From the start: a file system with a file open for writing cannot be made read-only from outside."""
    with small_disk(lab.state, "ro") as disk:
        lab.start_broker()
        lab.start_daemon()
        lab.listen()
        lab.phone()
        lab.next_label(time.monotonic())
        before = lab.wait_health(
            "the disk noticed", lambda h: "totals are not written" in " ".join(h.problems)
        )
        flow = lab.next_label(time.monotonic())
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
        return Outcome([flow], "labels flow; degraded, totals wait in memory", lost(before, healthy(lab)))


def state_corrupted(lab: Lab, extent: Extent) -> Outcome:
    lab.state.mkdir()
    (lab.state / "totals.sqlite3").write_bytes(b"not a database" * 1000)
    (lab.state / "daemon.json").write_bytes(b"\xff\xfe")
    (lab.state / "last.log").write_bytes(b"\xff\xfe")
    after = begin(lab)
    recovery = lab.labels["alice"][0].at_s - lab.started_s
    wait_for(lambda: (lab.state / "totals.sqlite3.damaged").exists(), "the damaged file put aside")
    return Outcome(
        [recovery], "put aside as totals.sqlite3.damaged, begun anew; the log says so", after.counters
    )


def model_corrupted(lab: Lab, extent: Extent) -> Outcome:
    models = lab.folder / "models" / "mine"
    models.mkdir(parents=True)
    for name in ("card.yaml", "model.pt"):
        (models / name).write_bytes((ROOT / "models/lstm-waist" / name).read_bytes())
    good = (models / "model.pt").read_bytes()
    (models / "model.pt").write_bytes(good[:5000] + b"\0" * 100 + good[5100:])
    lab.start_broker()
    lab.start_daemon(HARD__IMU__MODEL=str(models))
    wait_for(lambda: lab.daemon.poll() is not None, "the refusal to start")
    if lab.daemon.poll() != 1 or not lab.said("the file is damaged"):
        raise FaultError(f"exit status {lab.daemon.poll()}, and no reason in the log")
    (models / "model.pt").write_bytes(good)
    lab.kill_broker()
    after = begin(lab, HARD__IMU__MODEL=str(models))
    recovery = lab.labels["alice"][0].at_s - lab.started_s
    return Outcome([recovery], "exit 1, `the file is damaged`; systemd tries again", after.counters)


def engine_raises(lab: Lab, extent: Extent) -> Outcome:
    outside = lab.folder / "outside"
    (outside / "raising-1.dist-info").mkdir(parents=True)
    (outside / "raising.py").write_text(RAISING)
    (outside / "raising-1.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: raising\nVersion: 1\n"
    )
    (outside / "raising-1.dist-info" / "entry_points.txt").write_text(
        "[hard.codecs]\nraising = raising:Codec\n"
    )
    environ = {
        "PYTHONPATH": os.pathsep.join([str(outside), str(ROOT)]),
        "HARD__SOURCES__MQTT__TOPICS": "[{filter: hard/+/imu}, {filter: raise, codec: raising}]",
    }
    begin(lab, **environ)
    poke = lab.client()
    poke.wait_ready(5.0)
    poke.publish("raise", b"x", qos=1)
    wait_for(lambda: lab.daemon.poll() is not None, "the end of the process")
    if lab.daemon.poll() != 1 or not lab.said("engine ended by RuntimeError: a fault in the engine"):
        raise FaultError(f"exit status {lab.daemon.poll()}, and no reason in the log")
    began_s = time.monotonic()
    time.sleep(1.0)  # RestartSec=
    lab.start_daemon(**environ)
    recovery = lab.next_label(began_s)
    return Outcome([recovery], "exit 1 with the traceback; systemd starts it again", healthy(lab).counters)


def clock_back(lab: Lab, extent: Extent) -> Outcome:
    source, library, flag = lab.folder / "shim.c", lab.folder / "shim.so", lab.folder / "back"
    source.write_text(SHIM)
    try:
        subprocess.run(["gcc", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"], check=True)
    except FileNotFoundError:
        raise FaultError("gcc is missing: the clock is that of a library put before the C library") from None
    before = begin(lab, LD_PRELOAD=str(library), BACK_AN_HOUR=str(flag))
    was = lab.labels["alice"][-1]
    flag.touch()
    recovery = lab.next_label(time.monotonic() + 0.1)
    now = lab.labels["alice"][-1]
    if now.utc >= was.utc or now.seq <= was.seq or not 0 <= now.latency_ms < 1000:
        raise FaultError(f"labels do not follow the clock: {was} then {now}")
    flag.unlink()
    recovery = max(recovery, lab.next_label(time.monotonic() + 0.1))
    return Outcome([recovery], "labels flow, their UTC follows the clock, rates and delays do not",
                   lost(before, healthy(lab)))  # fmt: skip


def thousand_devices(lab: Lab, extent: Extent) -> Outcome:
    before = begin(lab)
    crowd = lab.client()
    crowd.wait_ready(5.0)
    t, samples = SyntheticPhone(3).read(0, 200)
    payload = encode(t, samples)
    began_s = time.monotonic()
    names = [f"crowd-{n:04d}" for n in range(1000)]
    for name in names:
        crowd.publish(f"hard/{name}/imu", payload)
    wait_for(lambda: all(len(lab.labels.get(name, [])) >= 2 for name in names), "two labels of each")
    took_s = max(lab.labels[name][1].at_s for name in names) - began_s
    recovery = lab.next_label(time.monotonic())
    after = lab.wait_health("its report", lambda h: h.sources["mqtt"].devices > 1000)
    return Outcome([recovery], f"all 2,000 windows labelled in {took_s:.1f} s", lost(before, after))


def hundredfold_rate(lab: Lab, extent: Extent) -> Outcome:
    before = begin(lab)
    mad = lab.client()
    mad.wait_ready(5.0)
    t, samples = SyntheticPhone(3).read(0, 2500)
    began_s = time.monotonic()
    for n in range(10):  # half a second of 5,000 Hz each
        mad.publish("hard/mad/imu", encode(t / 100 + n * 0.5, samples))
    recovery = lab.next_label(began_s)
    after = healthy(lab)
    fresh = [s for s in lab.labels.get("mad", []) if s.at_s > began_s]
    return Outcome([recovery], f"the others go on; {len(fresh)} labels of it", lost(before, after))


def ten_megabytes(lab: Lab, extent: Extent) -> Outcome:
    before = begin(lab)
    heavy = lab.client()
    heavy.wait_ready(5.0)
    for _ in range(HEAVY):
        heavy.publish("hard/heavy/imu", bytes(10 << 20), qos=1)
    after = lab.wait_health("the count", lambda h: h.counters.get("payload_too_large", 0) >= HEAVY)
    recovery = lab.next_label(time.monotonic())
    return Outcome([recovery], "dropped and counted; the others go on", lost(before, after))


FAULTS: Final[Mapping[str, Fault]] = {
    f.__name__.replace("_", "-"): f
    for f in (
        broker_killed, broker_absent_at_start, wrong_password, broker_frozen, half_open, disk_full, read_only,
        state_corrupted, model_corrupted, engine_raises, clock_back, thousand_devices, hundredfold_rate,
        ten_megabytes,
    )
}  # fmt: skip


def run(name: str, extent: Extent, most_s: float = RECOVERY_S) -> Outcome:
    """Do one fault; FaultError where labels do not flow again in time, or memory has grown."""
    with tempfile.TemporaryDirectory() as folder, Lab(Path(folder)) as lab:
        try:
            outcome = FAULTS[name](lab, extent)
            outcome.rss_mb = round(lab.rss_mb(), 1)
        except FaultError as e:
            tail = lab.log.read_text("utf-8", "replace")[-2000:] if lab.log.exists() else ""
            raise FaultError(f"{name}: {e}; the daemon said:\n{tail}") from None
    outcome.name = name
    if max(outcome.recovery_s) > most_s:
        raise FaultError(f"{name}: labels flowed again after {max(outcome.recovery_s):.1f} s")
    if outcome.rss_mb > MOST_MB:
        raise FaultError(f"{name}: {outcome.rss_mb:.0f} MB of memory")
    return outcome


@click.command()
@click.option("--full", is_flag=True, help="As often and as long as the acceptance asks for.")
@click.option("--json", "as_json", is_flag=True)
@click.argument("names", nargs=-1, type=click.Choice(list(FAULTS)))
def main(full: bool, as_json: bool, names: tuple[str, ...]) -> None:
    """Do the faults, all of them by default; exit status 1 where one is not got over."""
    failed = False
    for name in names or FAULTS:
        try:
            outcome = run(name, FULL if full else Extent())
        except FaultError as e:
            failed = True
            print(f"FAILED {e}", flush=True)
            continue
        if as_json:
            print(msgspec.json.encode(outcome).decode(), flush=True)
            continue
        losses = (
            ", ".join(f"{k} {n}" for k, n in outcome.lost.items() if k in {str(d) for d in Drop}) or "nothing"
        )
        n = len(outcome.recovery_s)
        times = f"{max(outcome.recovery_s):4.1f} s" + (f", worst of {n}" if n > 1 else "")
        print(f"{name:22} {times:22} {outcome.rss_mb:5.0f} MB  lost: {losses}; {outcome.effect}", flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
