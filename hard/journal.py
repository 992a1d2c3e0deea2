"""Log records for systemd's journal, with fields, by its native protocol; and as lines of JSON."""

from __future__ import annotations

import json
import logging
import os
import socket
import struct
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

SOCKET: Final = Path("/run/systemd/journal/socket")
MAX_BYTES: Final = 48_000  # of a field; a datagram of the journal's socket takes 200 kB
MESSAGE_IDS: Final[Mapping[str, str]] = {
    "activity": "c0f784478dc34a92b38fd04a8eb41728",
    "connected": "c277629c49b84248844be618ee4178b2",
    "broker": "a8418071d0a046c4a0f9d443f2e250e7",
    "reloaded": "c92ab78677bf42a5bfe0e9ef5444432c",
    "refused": "181e83be464c4fc0aff69e6d66178a53",
    "stuck": "bf5ed528f7bc4614b05ae881f872eb6f",
    "lost": "51bc651427f342988b127ea128ce88e5",
}
"""`journalctl MESSAGE_ID=...` finds every record of a kind: a change of activity, the broker reached or not
reached, a configuration taken or refused, a stage that stands still, repeated messages left out."""
_PRIORITY: Final = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))


def wanted(environ: Mapping[str, str], fd: int = 2) -> bool:
    """Whether this file descriptor is the journal's, and its native socket is there."""
    try:
        out = os.fstat(fd)
    except OSError:
        return False
    return environ.get("JOURNAL_STREAM") == f"{out.st_dev}:{out.st_ino}" and SOCKET.exists()


class JournalHandler(logging.Handler):
    """One datagram a record. Own code: it is `FIELD=value` lines, and python-systemd needs a compiler.

    Not `<N>` prefixes on stderr: those carry the priority, but neither device nor MESSAGE_ID.
    """

    def __init__(self, path: Path = SOCKET) -> None:
        super().__init__()
        self._path = str(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(OSError):  # a journal that restarts is no reason to stop
            self._socket.sendto(encode(self._fields(record)), socket.MSG_DONTWAIT, self._path)

    def close(self) -> None:
        self._socket.close()
        super().close()

    def _fields(self, record: logging.LogRecord) -> dict[str, str]:
        """The record as the journal's fields."""
        fields = {
            "MESSAGE": self.format(record),
            "PRIORITY": str(priority(record.levelno)),
            "SYSLOG_IDENTIFIER": "hard",
            "LOGGER": record.name,
            "THREAD_NAME": record.threadName or "",
            "CODE_FILE": record.pathname,
            "CODE_LINE": str(record.lineno),
            "CODE_FUNC": record.funcName or "",
        }
        for name, value in extras(record).items():
            fields["MESSAGE_ID" if name == "kind" else name.upper()] = (
                MESSAGE_IDS.get(value, "") if name == "kind" else value
            )
        return fields


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message; device, activity and kind where they apply."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": round(record.created, 3),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        } | extras(record)
        if record.exc_info or record.exc_text:
            line["exception"] = record.exc_text or self.formatException(record.exc_info)  # type: ignore[arg-type]
        return json.dumps(line, ensure_ascii=False)


def extras(record: logging.LogRecord) -> dict[str, str]:
    """What a record says beside its text: `log.info(..., extra={"device": "alice", "kind": "activity"})`."""
    found = {name: getattr(record, name, None) for name in ("device", "activity", "kind")}
    return {name: value for name, value in found.items() if isinstance(value, str)}


def priority(level: int) -> int:
    """syslog's number for a logging level."""
    return next((number for least, number in _PRIORITY if level >= least), 7)


def encode(fields: Mapping[str, str]) -> bytes:
    """Fields as the journal's native protocol wants them; values of several lines carry their length."""
    out = bytearray()
    for name, text in fields.items():
        value = text.encode("utf-8", "replace")[:MAX_BYTES]
        if b"\n" in value:
            out += name.encode() + b"\n" + struct.pack("<Q", len(value)) + value + b"\n"
        else:
            out += name.encode() + b"=" + value + b"\n"
    return bytes(out)
