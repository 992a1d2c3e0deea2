"""What the daemon needs of the machine: disk, clock, memory, systemd; without importing anything heavy."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from hard.daemon.runfile import find
from hard.doctor.line import Line, fail, ok, warn
from hard.service import RUNNING, installed, systemd_version

DISK_FAIL_MB: Final = 20
DISK_WARN_MB: Final = 200
MEMORY_WARN_MB: Final = 600
OLDEST_CLOCK_S: Final = 1_767_225_600  # 2026: a Pi has no clock of its own, and starts in the past


def disk_line(state: Path) -> Line:
    """Whether the state folder takes a file, and how much fits."""
    try:
        state.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=state) as file:
            file.write(b"hard check")
            file.flush()
            os.fsync(file.fileno())
    except OSError as e:
        return fail(
            "disk", f"{state}: {e.strerror}", "set state_dir to a folder that this user can write, with room"
        )
    free_mb = shutil.disk_usage(state).free >> 20
    what = f"{state}: {free_mb:,} MB free"
    if free_mb < DISK_FAIL_MB:
        return fail(
            "disk", what, "free some space: daily totals and the embedded broker's store are kept there"
        )
    if free_mb < DISK_WARN_MB:
        return warn("disk", what, "free some space before it is full")
    return ok("disk", what)


def memory_line(meminfo: Path = Path("/proc/meminfo")) -> Line:
    try:
        kb = next(int(line.split()[1]) for line in meminfo.read_text().splitlines() if "MemAvailable" in line)
    except (OSError, StopIteration, ValueError, IndexError):
        return ok("memory", "not to be seen from here")
    what = f"{kb >> 10:,} MB available"
    if kb >> 10 < MEMORY_WARN_MB:
        return warn("memory", what, "the daemon takes 370 MB; stop something else, or add swap")
    return ok("memory", what)


def clock_line() -> Line:
    """Whether the clock can be right, and whether anything keeps it so."""
    now_s = time.time()
    if now_s < OLDEST_CLOCK_S:
        return fail(
            "clock", time.strftime("%Y-%m-%d", time.gmtime(now_s)), "set it: timedatectl set-ntp true"
        )
    synchronised = Path("/run/systemd/timesync/synchronized").exists()
    zone = time.strftime("%Y-%m-%d %H:%M:%S %Z")
    if not synchronised and RUNNING.exists():
        return warn("clock", f"{zone}, not synchronised as far as systemd-timesyncd knows",
                    "timedatectl set-ntp true, unless chrony or ntpd does it")  # fmt: skip
    return ok("clock", zone)


def systemd_lines(state: Path, root: Path = Path("/")) -> Iterator[Line]:
    """Whether a daemon runs, and whether there is a service that starts it. `root`: where / is."""
    running = find(state)
    if running:
        refused = running.refused
        what = f"process {running.pid}, version {running.version}"
        if refused:
            yield warn(
                "daemon",
                f"{what}; its newest settings were refused: {refused}",
                "mend them, then hard reload",
            )
        else:
            yield ok("daemon", what)
    version = systemd_version()
    if version is None:
        yield warn("systemd", "not on this machine", "start `hard run` at boot in your own way")
        return
    if version < 252:
        yield warn("systemd", f"version {version}", "the unit is written for 252 and later")
        return
    services = installed(root)
    if not services:
        yield warn("systemd", f"version {version}; hard is not installed as a service",
                   "sudo hard service install, or with --user")  # fmt: skip
        return
    yield ok("systemd", f"version {version}; installed: {', '.join(services)}")
