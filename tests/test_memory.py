"""What a tick frees the next one gets, without the kernel."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

PAGE_FAULTS = """
import resource, threading
import numpy as np
from hard.memory import settle

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def ticks(n):
    for _ in range(n):
        arrays = [np.ones(12_000) for _ in range(40)]  # each below 128 kB, together 4 MB or 940 pages
        del arrays

def work():
    ticks(5)
    before = faults()
    ticks(100)
    print(faults() - before)

{settle}
thread = threading.Thread(target=work)
thread.start()
thread.join()
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_freed_memory_is_kept_for_the_next_tick() -> None:
    def faults(settle: str) -> int:
        command = [sys.executable, "-c", PAGE_FAULTS.format(settle=settle)]
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    assert faults("settle()") < 100 < 2_000 < faults("")
