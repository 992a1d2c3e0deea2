"""Recordings on disk -> samples in SI units: public sets, exports of phone apps, CSV of common columns."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from hard.codecs import safe_name
from hard.recordings.columns import read_header
from hard.recordings.files import Export, is_zip, read_text, stem
from hard.recordings.join import Series, join
from hard.recordings.public import HAPT, is_motionsense, read_hapt, read_motionsense
from hard.recordings.recording import Recording
from hard.recordings.sensor_logger import is_one_of_its, read_export, read_json
from hard.recordings.sensors import Own, Raw, in_si, read_sensors
from hard.recordings.table import parse
from hard.stats import Counters
from hard.types import HardError, Sensor

__all__ = ["COLUMNS", "Recording", "read_recording"]

COLUMNS: Final = ("t", "ax", "ay", "az", "gx", "gy", "gz")
"""Of hard's own files, in s, m/s² and rad/s; the last three are absent without a gyroscope."""


def read_recording(
    path: Path,
    acc_unit: str | None = None,
    gyro_unit: str | None = None,
    counters: Counters | None = None,
) -> Recording:
    """Read a recording; its format is told by its name (HAPT), its first bytes or its header.

    `acc_unit` (m/s2 or g) and `gyro_unit` (rad/s or deg/s) win over what a CSV says; HAPT, MotionSense and
    Sensor Logger fix theirs. What is lost in joining sensors is counted in `counters`. Raises HardError with
    the file, and the line or column where there is one.
    """
    counters = counters or Counters()
    own = Own(acc_unit, gyro_unit)
    pair = HAPT.search(path.name)
    if pair:
        own.refuse(path)
        return read_hapt(path, pair)
    if path.is_dir() or is_zip(path):
        sensors = _export(Export(path), own, counters)
    else:
        text = read_text(path)
        if text.lstrip()[:1] in ("[", "{"):
            own.refuse(path)
            sensors = read_json(path, text)
        else:
            table = parse(str(path), text, counters)
            header = read_header(table.names, stem(path))
            if is_motionsense(table.names, header):
                own.refuse(path)
                return read_motionsense(path, table)
            if is_one_of_its(path.name, table.names):  # its Metadata.csv may lie beside it
                own.refuse(path)
                sensors = read_export(Export(path.parent), [path.name])
            else:
                sensors = in_si(read_sensors(table, header, counters), own)
    return Recording(safe_name(stem(path)), *join(str(path), sensors, counters))


def _export(export: Export, own: Own, counters: Counters) -> dict[Sensor, Series]:
    """All sensors of a zip or a folder; files of no sensor, and of one that the phone lacks, are left out."""
    heads = {name: parse(export.where(name), export.head(name)) for name in export.names}
    heads = {name: head for name, head in heads.items() if head.first_row()}
    its = [name for name, head in heads.items() if is_one_of_its(name, head.names)]
    if its:
        own.refuse(export.path)
        return read_export(export, its)
    raws: list[Raw] = []
    from_file: dict[Sensor, str] = {}
    for name, head in heads.items():
        header = read_header(head.names, name)
        if not header.times:
            continue  # averages, a spectrum
        for sensor in header.sensors:
            if sensor in from_file:
                raise HardError(
                    f"{export.path}: {sensor.value} is in {from_file[sensor]} and in {name}; give one of them"
                )
            from_file[sensor] = name
        if header.sensors or header.incomplete:
            raws += read_sensors(parse(export.where(name), export.text(name), counters), header, counters)
    if not raws:
        raise HardError(
            f"{export.path}: no sensor of motion in {_listed(export.names)}; expected an export of Sensor "
            "Logger or phyphox, with the accelerometer"
        )
    return in_si(raws, own)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
