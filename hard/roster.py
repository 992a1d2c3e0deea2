"""Which row of a table is whose: names come and go, and rows are used again."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

RESERVED: Final = 16_384  # rows of tables at first: memory is taken when a row is first written to


class Roster:
    """Names and their rows, from 0. Owner: one thread."""

    def __init__(self) -> None:
        self._rows: dict[str, int] = {}
        self._names: list[str] = []  # by row
        self._free: list[int] = []

    def __len__(self) -> int:
        return len(self._rows)

    def row(self, name: str) -> int | None:
        return self._rows.get(name)

    def rows(self) -> Iterable[int]:
        """Those in use."""
        return self._rows.values()

    def name(self, row: int) -> str:
        return self._names[row]

    def add(self, name: str) -> int:
        """A row for a name that has none; what stands there may be of a name that has gone."""
        if self._free:
            row = self._free.pop()
            self._names[row] = name
        else:
            row = len(self._names)
            self._names.append(name)
        self._rows[name] = row
        return row

    def remove(self, name: str) -> int | None:
        """The row that it had, which may be anybody's now."""
        row = self._rows.pop(name, None)
        if row is not None:
            self._free.append(row)
        return row
