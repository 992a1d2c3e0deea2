"""How a process that runs for months keeps its memory: what starting left is not looked at again, and what a
tick frees the next one gets.
"""

from __future__ import annotations

import ctypes
import gc
from typing import Final

M_TRIM_THRESHOLD: Final = -1  # of glibc's mallopt(3)
M_MMAP_THRESHOLD: Final = -3
KEPT: Final = 16 << 20  # bytes, of each thread that works with arrays; a tick of 5,000 phones needs some MB


def settle() -> None:
    """To be called once everything has started.

    glibc hands a thread's freed memory back to the system whenever 128 kB of it lie together, and large
    arrays always. With 2,000 phones that was 10,000 page faults a second, a tenth of the daemon's CPU.
    Other C libraries are left as they are.
    """
    gc.collect()
    gc.freeze()  # torch's objects are most of what lives
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(M_MMAP_THRESHOLD, KEPT)
    mallopt(M_TRIM_THRESHOLD, KEPT)
