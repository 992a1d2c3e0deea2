"""Sensors that come apart -> the samples of one recording, joined as the daemon joins them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec
import numpy as np

from hard.align import BACK_S, EXPECTED, Joint
from hard.stats import Counters, Drop
from hard.types import F32, F64, Chunk, HardError, Readings, Sensor

PIECE_S: Final = 0.5  # as in a message; alignment keeps some seconds, not whole recordings


class Series(msgspec.Struct, frozen=True):
    """What one sensor measured."""

    t: F64  # (n,) seconds on the recording's clock
    xyz: F64  # (n, 3) m/s² (Android sign) or rad/s


def join(
    where: str, sensors: Mapping[Sensor, Series], counters: Counters, piece_s: float = PIECE_S
) -> tuple[F64, F32]:
    """Times (n,) and samples (n, 6); or (n, 3) where most of the acceleration has no angular velocity.

    Acceleration with gravity, or both parts of it, must be there. The result does not depend on `piece_s`.
    """
    source = Sensor.ACC if Sensor.ACC in sensors else Sensor.LINEAR
    needed = {s: sensors[s] for s in (source, *EXPECTED[source]) if s in sensors}
    base = needed[source]
    if all(np.array_equal(s.t, base.t) for s in needed.values()):
        return base.t, _stacked(needed, source)
    ordered = {sensor: _in_order(where, sensor, s, counters) for sensor, s in needed.items()}
    if source is Sensor.LINEAR:
        ordered[source] = _while_both(ordered[source], ordered[Sensor.GRAVITY], counters)
    chunks = _chunks(where, ordered, counters, piece_s)
    total = sum(len(c.t) for c in chunks)
    with_gyro = sum(len(c.t) for c in chunks if c.gyro)
    if not total or (Sensor.GYRO in needed and not with_gyro):
        spans = (f"{sensor.value} {s.t.min():.1f}-{s.t.max():.1f} s" for sensor, s in needed.items())
        raise HardError(
            f"{where}: no two seconds in common: {', '.join(spans)}; export all sensors of one recording"
        )
    if 2 * with_gyro > total:
        counters.add(Drop.UNPAIRED, total - with_gyro)
        chunks = [c for c in chunks if c.gyro]
    elif with_gyro:
        counters.add(Drop.UNPAIRED, len(needed[Sensor.GYRO].t))
    width = 6 if 2 * with_gyro > total else 3
    return np.concatenate([c.t for c in chunks]), np.concatenate([c.samples[:, :width] for c in chunks])


def _chunks(where: str, sensors: Mapping[Sensor, Series], counters: Counters, piece_s: float) -> list[Chunk]:
    """What the daemon would make of messages of `piece_s` seconds."""
    joint = Joint(where, counters)
    start_s = min(float(s.t[0]) for s in sensors.values() if len(s.t))
    piece = {sensor: np.floor((s.t - start_s) / piece_s) for sensor, s in sensors.items()}  # (n,) each
    chunks: list[Chunk] = []
    for k in np.unique(np.concatenate(list(piece.values()))):
        readings = []
        for sensor, s in sensors.items():
            first, end = np.searchsorted(piece[sensor], [k, k + 1])
            if first < end:
                readings.append(Readings(where, sensor, s.t[first:end], s.xyz[first:end], 0.0))
        chunks += joint.push_together(readings)
    return chunks


def _stacked(sensors: Mapping[Sensor, Series], source: Sensor) -> F32:
    """The samples of sensors with the same times."""
    acc = sensors[source].xyz
    if source is Sensor.LINEAR:
        acc = acc + sensors[Sensor.GRAVITY].xyz
    parts = [acc, sensors[Sensor.GYRO].xyz] if Sensor.GYRO in sensors else [acc]
    with np.errstate(over="ignore"):  # becomes infinity, and is dropped as such
        return np.concatenate(parts, axis=1).astype(np.float32)


def _while_both(linear: Series, gravity: Series, counters: Counters) -> Series:
    """The readings between gravity's first and last: a live phone that sends none is left without it."""
    both = (linear.t >= gravity.t[0]) & (linear.t <= gravity.t[-1])
    counters.add(Drop.UNPAIRED, int((~both).sum()))
    return Series(linear.t[both], linear.xyz[both])


def _in_order(where: str, sensor: Sensor, s: Series, counters: Counters) -> Series:
    """The finite readings, by time; HardError where two recordings are in one file, or the clock was set."""
    good = np.isfinite(s.xyz).all(axis=1)
    t, xyz = s.t[good], s.xyz[good]
    counters.add(Drop.NOT_FINITE, int((~good).sum()))
    if not len(t):
        raise HardError(f"{where}: {sensor.value} holds no numbers")
    back_s = float((np.maximum.accumulate(t) - t).max())
    if back_s > BACK_S:
        at = int(np.argmax(np.maximum.accumulate(t) - t))
        raise HardError(
            f"{where}: {sensor.value} goes back by {back_s:.1f} s in time at its row {at + 1}; "
            "cut the file there"
        )
    order = np.argsort(t, kind="stable")
    return Series(t[order], xyz[order])
