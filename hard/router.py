"""Which codec reads a topic."""

from __future__ import annotations

from collections.abc import Sequence

from hard.codecs import Codec


class Router:
    """The first filter that matches wins: + stands for one level, # for the rest."""

    CACHE = 100_000

    def __init__(self, codecs: Sequence[tuple[str, Codec]]) -> None:
        self._codecs = [(f.split("/"), codec) for f, codec in codecs]
        self._known: dict[str, Codec | None] = {}

    def codec(self, topic: str) -> Codec | None:
        if topic in self._known:
            return self._known[topic]
        levels = topic.split("/")
        found = next((codec for f, codec in self._codecs if _matches(f, levels)), None)
        if len(self._known) >= self.CACHE:
            self._known.clear()
        self._known[topic] = found
        return found


def _matches(pattern: list[str], levels: list[str]) -> bool:
    for i, part in enumerate(pattern):
        if part == "#":
            return True
        if i >= len(levels) or part not in ("+", levels[i]):
            return False
    return len(pattern) == len(levels)
