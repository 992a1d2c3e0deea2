"""Lines of numbers as microcontrollers print them: Edge Impulse's data-forwarder dialect, `a/g:` counts."""

from __future__ import annotations

import logging
import re
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from hard.codecs import CodecOptions
from hard.codecs.line_stream import LAYOUTS, LineStream
from hard.log import Sampled
from hard.stats import Counters, Drop
from hard.types import Chunk, Message

log = logging.getLogger(__name__)

MAX_DEVICES: Final = 1000  # the longest unheard is forgotten; over MQTT anyone can make up names

_NAMED = re.compile(rb"[A-Za-z][\"']?\s*[:=]\s*-?\d")
_SEPARATOR = re.compile(rb"\s*,\s*|\s+")


def parse(line: bytes) -> list[float] | None:
    """The numbers of a line after an optional label such as `a/g:`; [] where blank, None for other text."""
    line = line.strip(b" \t\r\n\0,")
    if not line:
        return []
    if b"_" in line:  # Python's digit separator, nobody else's
        return None
    tokens = _SEPARATOR.split(line)
    if not _number(tokens[0]) and tokens[0][:1].isalpha() and len(tokens) > 1:
        tokens = tokens[1:]
    try:
        return [float("nan") if token == b"ovf" else float(token) for token in tokens]  # ovf: Arduino's print
    except ValueError:
        return None


def hint(line: bytes, columns: int = 0) -> str:
    """Why such a line is no sample, with the mend; `columns`: how many are configured, 0 where none are."""
    values = parse(line)
    if values and columns and len(values) != columns:
        return f"{len(values)} values a line, but `columns` names {columns}"
    if values and not columns and len(values) not in LAYOUTS:
        return f"{len(values)} values a line: say which with `columns`"
    if values:
        return "units or rate cannot be told: set them (acc_unit, gyro_unit, time_unit)"
    if b";" in line:
        return "values with ; between: print commas, tabs or spaces"
    if _NAMED.search(line):
        return "values with names: print the bare numbers, with commas between"
    return "not numbers: does the board print samples, and is the baud rate right?"


def _number(token: bytes) -> bool:
    try:
        float(token)
    except ValueError:
        return token == b"ovf"
    return True


class CsvLinesCodec:
    """Complete lines -> chunks; each device has its own layout, units and pace. Owner: the engine thread.

    The device is the last level of serial/<device>, in other topics the one before the last.
    """

    def __init__(self, options: CodecOptions, counters: Counters) -> None:
        self._counters = counters
        self._options = options
        self._complaints = Sampled(log)
        self._streams: OrderedDict[str, LineStream] = OrderedDict()

    def decode(self, message: Message) -> Sequence[Chunk]:
        levels = message.topic.split("/")
        device = levels[-1] if levels[0] == "serial" else levels[-2] if len(levels) > 1 else ""
        stream = self._stream(device)
        chunks: list[Chunk] = []
        rows: list[list[float]] = []
        bad, odd = 0, b""
        stream.hear(message.arrival_s)
        for line in message.payload.splitlines():
            values = parse(line)
            if values == []:
                continue
            if values is None or not stream.fits(len(values)):
                bad += 1
                odd = line
                continue
            if rows and len(rows[0]) != len(values):  # the layout has just changed
                chunks += stream.take(rows, message.arrival_s)
                rows = []
            rows.append(values)
        if rows:
            chunks += stream.take(rows, message.arrival_s)
        if bad:
            self._counters.add(Drop.BAD_LINE, bad)
            sample = message.payload[:60]
            why = "" if stream.fitted else f"; {self.why(odd)}"
            self._complaints.warning(device, f"{device}: {bad} line(s) not of samples in {sample!r}{why}")
        return chunks

    def why(self, lines: bytes) -> str:
        """Why lines of which none became a sample are none, by the last of them; with the mend."""
        return hint(lines.strip().rpartition(b"\n")[2], len(self._options.columns))

    def _stream(self, device: str) -> LineStream:
        stream = self._streams.pop(device, None) or LineStream(
            device, self._options, self._counters, self._complaints
        )
        self._streams[device] = stream
        while len(self._streams) > MAX_DEVICES:
            self._streams.popitem(last=False)
        return stream
