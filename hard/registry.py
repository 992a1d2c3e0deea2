"""Extension tables: name -> "module:Class", imported when asked for; entry points add to them."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import Final

from hard.codecs import Codec, CodecOptions
from hard.stats import Counters
from hard.types import HardError

CODECS: Final[Mapping[str, str]] = {
    "android-sensor": "hard.codecs.android_sensor:AndroidSensorCodec",
    "auto": "hard.codecs.auto:AutoCodec",
    "hyperimu": "hard.codecs.hyperimu:HyperImuCodec",
    "json": "hard.codecs.generic:GenericCodec",
    "csv-lines": "hard.codecs.csv_lines:CsvLinesCodec",
    "native": "hard.codecs.native:NativeCodec",
    "phyphox": "hard.codecs.phyphox:PhyphoxCodec",
    "sensor-logger": "hard.codecs.sensor_logger:SensorLoggerCodec",
}
_UNITS: Final = ("acc_unit", "acc_scale", "gyro_unit", "gyro_scale")
OPTIONS: Final[Mapping[str, Sequence[str]]] = {
    "android-sensor": (),
    "hyperimu": ("columns",),
    "json": _UNITS,
    "csv-lines": ("columns", "time_unit", *_UNITS),
    "native": (),
    "phyphox": (),
    "sensor-logger": ("frame",),
}
"""What of CodecOptions a codec reads; the rest its dialect fixes, or its messages say. Others read any."""
SOURCES: Final[Mapping[str, str]] = {
    "mqtt": "hard.sources.mqtt:MqttSource",
    "serial": "hard.sources.serial:SerialSource",
    "webcam": "hard.sources.webcam:WebcamSource",
}
SINKS: Final[Mapping[str, str]] = {
    "mqtt": "hard.sinks.mqtt:MqttSink",
    "board": "hard.sinks.board:BoardSink",
    "homeassistant": "hard.sinks.homeassistant:HomeAssistantSink",
}


def names(kind: str, table: Mapping[str, str]) -> list[str]:
    """Every name of a table, entry points of group "hard.<kind>" included."""
    return sorted({*table, *(e.name for e in entry_points(group=f"hard.{kind}"))})


def make_codec(name: str, options: CodecOptions, counters: Counters) -> Codec:
    """A codec by its name in CODECS or in an entry point."""
    codec: Codec = resolve("codecs", CODECS, name)(options, counters)
    return codec


def resolve(kind: str, table: Mapping[str, str], name: str) -> type:
    """The class behind a name; HardError names the nearest name, the missing package, or the fault."""
    group, what = f"hard.{kind}", f"{kind.rstrip('s')} {name!r}"
    if name in table:
        target = EntryPoint(name, table[name], group)
    else:
        outside = [e for e in entry_points(group=group) if e.name == name]
        if not outside:
            known = names(kind, table)
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there is: {', '.join(known)}"
            raise HardError(f"no {kind.rstrip('s')} named {name!r}; {hint}")
        target = outside[0]
    try:
        found: type = target.load()
    except ModuleNotFoundError as e:
        raise HardError(f"{what} needs the package {e.name!r}: pip install {e.name}") from None
    except (AttributeError, ImportError, SyntaxError) as e:
        raise HardError(
            f"{what}, {target.value} of {_package(target)}, does not load: {e}; mend or uninstall it"
        ) from None
    if not callable(found):
        raise HardError(f"{what}, {target.value} of {_package(target)}, is no class; write module:Class")
    return found


def _package(target: EntryPoint) -> str:
    return target.dist.name if target.dist else "hard"
