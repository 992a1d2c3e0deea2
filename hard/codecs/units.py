"""Which units a stream of bare numbers is in: told by its time step and by the norm of gravity."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from hard.types import F64, G

TIME_UNITS: Final = {"s": 1.0, "ms": 1e-3, "us": 1e-6}  # seconds
UNITS_PER_S: Final = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}
SLOWEST_HZ: Final = 2.0
FASTEST_HZ: Final = 1500.0
MIN_HZ: Final = 20.0
MAX_HZ: Final = 400.0
NEAR: Final = 1.4  # factor around 1 g; a walk's median norm stays within 1.1
MAX_RAD_S: Final = 35.0  # 2,000 deg/s, the full scale of common gyroscopes: more than this is not rad/s
FAST: Final = 5  # samples beyond it, from the last of which on a guess is corrected


def time_unit(t: F64) -> str | None:
    """Unit of timestamps (n,) whose median step means 20 to 400 Hz; None where there is none.

    A band is a factor of 20 wide and units are 1,000 apart, so at most one fits.
    """
    step = (t[4:] - t[:-4]) / 4  # whole milliseconds say little of one step
    step = step[np.isfinite(step)]
    if not len(step):
        return None
    median = float(np.median(step))
    fits = [name for name, s in TIME_UNITS.items() if 1 / MAX_HZ <= median * s * (1 + 1e-6) <= 1.01 / MIN_HZ]
    return fits[0] if fits else None


def unit_of_step(step: float) -> str | None:
    """Unit of timestamps so far apart, if that means 2 to 1,500 Hz; one of UNITS_PER_S, or None."""
    fits = (unit for unit, per_s in UNITS_PER_S.items() if SLOWEST_HZ * step <= per_s <= FASTEST_HZ * step)
    return next(fits, None)


def acc_unit(acc: F64, counts_per_g: float) -> str | None:
    """Unit of accelerations (n, 3) whose median norm is near 1 g; None where it is near nothing."""
    norm = median_norm(acc)
    one_g = {"m/s2": G, "g": 1.0, "counts": counts_per_g}
    fits = [name for name, size in one_g.items() if size / NEAR <= norm <= size * NEAR]
    return fits[0] if fits else None


def gyro_unit(gyro: F64, acc_unit: str) -> str:
    """Unit of angular velocities (n, 3), from the company they keep.

    Rest looks the same in every unit, so this is a convention: drivers that print m/s² print rad/s, those
    that print g print deg/s. Values beyond the range of any gyroscope in rad/s correct it.
    """
    if acc_unit == "counts":
        return "counts"
    if acc_unit == "g" or (np.abs(gyro) > MAX_RAD_S).any():
        return "deg/s"
    return "rad/s"


def too_fast(gyro: F64, before: int) -> tuple[int, int]:
    """How many samples have been too fast for rad/s with these (n, 3), and from which of them on it is deg/s.

    n where it is not; `before`: how many had been.
    """
    fast = before + np.cumsum((np.abs(gyro) > MAX_RAD_S).any(axis=1))
    return int(fast[-1]), int(np.searchsorted(fast, FAST))


def median_norm(acc: F64) -> float:
    """Median norm of the finite rows of (n, 3); 0 where there are none."""
    norms = np.linalg.norm(acc[np.isfinite(acc).all(axis=1)], axis=1)
    return float(np.median(norms)) if len(norms) else 0.0


def acc_scale(unit: str, counts_per_g: float) -> float:
    """m/s² of one unit."""
    return {"m/s2": 1.0, "g": G, "counts": G / counts_per_g}[unit]


def gyro_scale(unit: str, counts_per_deg_s: float) -> float:
    """rad/s of one unit."""
    return {"rad/s": 1.0, "deg/s": math.pi / 180, "counts": math.pi / 180 / counts_per_deg_s}[unit]
