"""Where a running daemon is found: a locked file in its state folder, for `hard reload` and `hard check`."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
from pathlib import Path
from typing import Final

import msgspec

log = logging.getLogger(__name__)

NAME: Final = "daemon.json"
USUAL_BYTES: Final = 512


class Running(msgspec.Struct, frozen=True):
    """A daemon, as it says of itself."""

    pid: int
    version: str
    health_port: int | None
    begun: int = 0  # reloads, so far
    reloads: int = 0  # finished, refused ones too
    refused: str | None = None  # why the last one was


class RunFile:
    """Locked for as long as the daemon lives. A disk that does not take it is no reason not to run.

    Owner: the main thread.
    """

    def __init__(self, state: Path) -> None:
        self._path = state / NAME
        self._fd: int | None = None

    def hold(self, running: Running) -> None:
        """Create and lock it; where another daemon has the same state folder, that one keeps it."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.touch(0o600)
            fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)  # a disk with files open to write stays busy
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(fd)
                log.warning(
                    "%s: another daemon has this state folder; set state_dir of one", self._path.parent
                )
                return
            self._fd = fd
            self.update(running)
        except OSError as e:
            log.debug("%s: %s", self._path, e.strerror)

    def update(self, running: Running) -> None:
        if self._fd is None:
            return
        try:
            with self._path.open("r+b", buffering=0) as file:  # at once: whoever reads it sees no half of it
                file.write(msgspec.json.encode(running).ljust(USUAL_BYTES))
                file.truncate()
        except OSError as e:
            log.debug("%s: %s", self._path, e.strerror)

    def drop(self) -> None:
        fd, self._fd = self._fd, None
        if fd is not None:
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)
            os.close(fd)


def find(state: Path) -> Running | None:
    """The daemon with this state folder; None where none runs, or it cannot be told."""
    try:
        with (state / NAME).open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return None  # nobody holds it: left by a daemon that was killed
            except BlockingIOError:
                return msgspec.json.decode(file.read(), type=Running)
    except (OSError, msgspec.DecodeError):
        return None
