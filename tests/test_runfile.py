"""How a running daemon is found."""

from __future__ import annotations

import threading
from pathlib import Path

from hard.daemon.runfile import RunFile, Running, find


def test_a_daemon_is_found_while_it_writes_of_itself(tmp_path: Path) -> None:
    file, ended = RunFile(tmp_path), threading.Event()
    file.hold(Running(1, "1", None))

    def write() -> None:
        n = 0
        while not ended.is_set():
            n += 1
            file.update(Running(1, "1", None, n, n, "wrong" * (n % 20) or None))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        found = [find(tmp_path) for _ in range(5000)]
    finally:
        ended.set()
        writer.join()
    assert all(running is not None and running.begun == running.reloads for running in found)
    file.drop()
    assert find(tmp_path) is None
