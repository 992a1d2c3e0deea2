"""One line of what `hard check` says."""

from __future__ import annotations

import enum
from collections.abc import Sequence

import msgspec


class Status(enum.StrEnum):
    """How a thing is; the exit status is the worst of all: 0, 1, 2."""

    PASS = "pass"
    WARN = "warn"
    FAIL = "fail"


class Line(msgspec.Struct, frozen=True):
    name: str
    status: Status
    what: str
    remedy: str | None = None  # of warn and fail


def ok(name: str, what: str) -> Line:
    return Line(name, Status.PASS, what)


def warn(name: str, what: str, remedy: str) -> Line:
    return Line(name, Status.WARN, what, remedy)


def fail(name: str, what: str, remedy: str) -> Line:
    return Line(name, Status.FAIL, what, remedy)


def mended(name: str, error: str, status: Status = Status.FAIL) -> Line:
    """An error of ours: its text ends with the remedy, after a semicolon."""
    what, _, remedy = error.rpartition("; ")
    return Line(name, status, what or remedy, remedy if what else None)


def worst(lines: Sequence[Line]) -> int:
    """0: all pass, 1: something to look at, 2: something does not work."""
    return max((list(Status).index(line.status) for line in lines), default=0)
