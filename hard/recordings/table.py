"""Text -> numbers: the delimiter, the header, decimal commas, blank cells; errors name line and column."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Final

import msgspec
import numpy as np

from hard.stats import Counters, Drop
from hard.types import F64, HardError

_BLANK: Final = {"", "nan", "null", "none", "na", "n/a"}
LONGEST_LINE: Final = 1 << 16
_NOTE: Final = re.compile(r"#|sep=")


class Table(msgspec.Struct, frozen=True):
    """Columns of text under a header; the numbers are not read yet."""

    where: str  # how an error calls the file
    names: list[str]  # of the columns
    body: str  # without the header
    first_line: int  # of the body, from 1
    delimiter: str | None  # None: white space

    def first_row(self) -> list[str]:
        """The cells of the first line that is not blank; [] where there is none."""
        return self.first()[1]

    def first(self) -> tuple[int, list[str]]:
        """That line's number in the file, too."""
        return next(_rows(self, self.body[:LONGEST_LINE]), (self.first_line, []))


def parse(where: str, text: str, counters: Counters | None = None) -> Table:
    """A table with a header line; before it, blank lines, notes (#) and Excel's `sep=;` are left out.

    With `counters`, a last line that was cut off, as by a battery that ran out, is left out and counted.
    """
    start, line = 0, 1
    while True:
        end = text.find("\n", start)
        header = text[start : end if end >= 0 else len(text)].strip()
        if header and not _NOTE.match(header):
            break
        if end < 0:
            return Table(where, [], "", line, ",")
        start, line = end + 1, line + 1
    delimiter = next((d for d in "\t;" if d in header), ",")
    try:
        (names,) = csv.reader([header], delimiter=delimiter, skipinitialspace=True)
    except csv.Error as e:
        raise HardError(f"{where}: line {line}: {e}") from None
    body = text[end + 1 :] if end >= 0 else ""
    if counters is not None and _cut_off(rest := body[body.rfind("\n") + 1 :], names, delimiter):
        counters.add(Drop.BAD_LINE)
        body = body.removesuffix(rest)
    if delimiter != ",":
        body = body.replace(",", ".")  # decimal commas
    return Table(where, [name.strip() for name in names], body, line + 1, delimiter)


def _cut_off(last: str, names: Sequence[str], delimiter: str) -> bool:
    """Whether a last line, without a line end, stops too early."""
    if not last.strip():
        return False
    stops = bool(names[-1]) and last.rstrip()[-1] in f"{delimiter}+-"
    return stops or last.count(delimiter) < len(names) - 1


def numbers(table: Table, columns: Sequence[int]) -> F64:
    """Some columns of all lines, (n, len(columns)); NaN where a cell is blank."""
    line, first = table.first()
    if not first:
        raise HardError(f"{table.where}: no samples")
    if any(cell.strip() for cell in first[len(table.names) :]):
        raise HardError(
            f"{table.where}: {len(first)} values in line {line} for {len(table.names)} columns; "
            "with decimal commas, columns are separated by ; or tabs"
        )
    try:
        fast = np.loadtxt(
            _lines(table.body), delimiter=table.delimiter, usecols=columns, ndmin=2, comments=None,
            quotechar='"',
        )  # fmt: skip
    except ValueError:  # blank cells; or what is wrong is found again, with its place
        return np.array(
            [_numbers(table, line, row, columns) for line, row in _rows(table, table.body)], np.float64
        )
    return np.asarray(fast, np.float64)


def moments(table: Table, column: int) -> F64:
    """A column of dates with times, as in ISO 8601, in UTC seconds, (n,); without a zone they are UTC."""
    out = []
    for line, row in _rows(table, table.body):
        try:
            out.append(utc_s(row[column]))
        except (ValueError, IndexError):
            cell = row[column][:40] if column < len(row) else ""
            raise HardError(
                f"{table.where}: {cell!r} in line {line}, column {table.names[column]!r}, is no date with a "
                "time, such as 2026-01-05T10:00:00.020Z"
            ) from None
    return np.array(out, np.float64)


def different(table: Table, column: int) -> list[str]:
    """The texts that there are in a column, blank ones left out."""
    cells = (row[column].strip() for _, row in _rows(table, table.body) if column < len(row))
    return [cell for cell in dict.fromkeys(cells) if cell]


def utc_s(text: str) -> float:
    """Of a date with a time; raises ValueError."""
    moment = datetime.fromisoformat(text.strip())
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _rows(table: Table, body: str) -> Iterator[tuple[int, list[str]]]:
    """The cells of every line that is not blank, with its number in the file."""
    lines = _lines(body)
    if table.delimiter is None:
        for line, text in enumerate(lines, table.first_line):
            if text.strip():
                yield line, text.split()
        return
    reader = csv.reader(lines, delimiter=table.delimiter)
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                yield table.first_line + reader.line_num - 1, row
    except csv.Error as e:
        raise HardError(f"{table.where}: line {table.first_line + reader.line_num - 1}: {e}") from None


def _lines(text: str) -> Iterator[str]:
    """One at a time: all of them at once would take twice the memory, a StringIO four times."""
    start = 0
    while (end := text.find("\n", start)) >= 0:
        yield text[start:end]
        start = end + 1
    if start < len(text):
        yield text[start:]


def _numbers(table: Table, line: int, row: list[str], columns: Sequence[int]) -> list[float]:
    out = []
    for c in columns:
        if c >= len(row):
            raise HardError(
                f"{table.where}: {len(row)} columns in line {line}, expected {len(table.names)}; "
                "remove the line, or complete it"
            )
        cell = row[c].strip()
        try:
            out.append(np.nan if cell.lower() in _BLANK else float(cell))
        except ValueError:
            raise HardError(
                f"{table.where}: {cell[:30]!r} in line {line}, column {table.names[c]!r}, is not a number"
            ) from None
    return out
