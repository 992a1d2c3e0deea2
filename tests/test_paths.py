"""Paths that cannot be read, and what is said of them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hard.paths import unreadable

NOBODY = 65534


def test_what_is_wrong_with_a_path_is_said(tmp_path: Path) -> None:
    file = tmp_path / "a.mp4"
    file.touch()
    assert unreadable(file) is None
    assert unreadable(tmp_path) == "a folder"
    assert unreadable(tmp_path / "b.mp4") == "no such file"
    assert unreadable(file / "b.mp4") == "not a directory"
    assert unreadable(tmp_path / ("x" * 300)) == "file name too long"
    assert unreadable(Path("/dev/null")) == "no regular file"
    assert unreadable(tmp_path / "caf\udce9.mp4") == "its name is not UTF-8"


@pytest.mark.parametrize("shut", ["a.mp4", "."])
def test_a_path_that_is_shut_to_us_is_said(tmp_path: Path, shut: str) -> None:
    file = tmp_path / "a.mp4"
    file.touch()
    tmp_path.chmod(0o755)
    (tmp_path / shut).chmod(0)
    here, there = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            if os.geteuid() == 0:
                os.setuid(NOBODY)
            os.write(there, str(unreadable(file)).encode())
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    (tmp_path / shut).chmod(0o755)
    assert os.read(here, 100) == b"permission denied for this user"
