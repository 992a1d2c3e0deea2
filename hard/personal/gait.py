"""How a phone is worn, from standing and walking: the rotation of its axes onto the models' axes.

Standing gives up: it is the mean acceleration. Walking gives the direction about it: what moves horizontally
in step with the vertical is the same in every walk. With v the vertical acceleration and h the horizontal one
as a complex number, forward + i sideways, the correlation of v with h at a few lags is multiplied by exp(i a)
when the phone is turned by a about the vertical; the angle of its product with the mean of many people is a,
without the doubt about front and back that a principal axis leaves. In people left out of that mean, half of
the angles are within 13 degrees of 0 and nine in ten within 29; how they wear the phone differs as well.
"""

from __future__ import annotations

from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from hard.types import F64, G, HardError

RATE_HZ: Final = 50.0
STAND_S: Final = 3
WALK_S: Final = 10
STILL_G: Final = 0.08  # rms about the mean: 98 % of the seconds in which HAPT's training people stand
WALKING_G: Final = 0.15  # all of the seconds in which they walk
GRAVITY_G: Final = (0.7, 1.4)  # as in novelty.py
MOST_LEAN: Final = 20.0  # degrees between standing's up and walking's
LEAST_LIKENESS: Final = 0.6  # 10 s of walking have 0.67-0.98, of standing, sitting and lying 0.0-0.5

UP: Final = np.array([0.987, -0.159, -0.026])
"""Where acceleration points in the models' axes while their people stand: HAPT's training people, the mean of
42 recordings, each within 24 degrees of it (python tools/evaluate.py calibration --fit)."""
LAGS: Final = tuple(range(-24, 25, 4))  # samples: half a second, about a step, to each side
WALK: Final = np.array(
    [
        *(-0.215 + 0.314j, -0.193 + 0.180j, -0.028 - 0.043j, 0.168 - 0.158j, 0.208 - 0.244j, 0.137 - 0.136j),
        *(-0.116 + 0.019j, -0.189 + 0.215j, -0.224 + 0.266j, -0.007 + 0.090j, 0.110 - 0.143j, 0.223 - 0.272j),
        0.133 - 0.139j,
    ]
)
"""The correlation at those lags, the mean of 111 stretches of 10 s of the same people (the same command)."""


class Worn(msgspec.Struct, frozen=True):
    """How one phone is worn."""

    rotation: tuple[tuple[float, ...], ...]  # (3, 3): a vector in the phone's axes -> in the models' axes
    likeness: float  # 0-1, of this walk to other people's


class Seconds(msgspec.Struct, frozen=True):
    """A recording second by second: what moves, and the 50 Hz samples of each."""

    acc: F64  # (k, 50, 3) m/s²
    motion_g: F64  # (k,) rms about the second's mean; NaN where samples are missing


def seconds(t: F64, acc: F64) -> Seconds:
    """Cut samples (n, 3) in m/s² at times t (n,) [s], increasing, into whole seconds on a grid of 50 Hz.

    Between parts of a recording that are more than a second apart stands a second without samples, however
    long the pause.
    """
    parts = []
    breaks = np.flatnonzero(np.diff(t) > 1.0) + 1
    for part, values in zip(np.split(t, breaks), np.split(acc, breaks), strict=True):
        parts += [_unbroken(part, values), Seconds(np.zeros((1, int(RATE_HZ), 3)), np.full(1, np.nan))]
    parts.pop()
    return Seconds(np.concatenate([p.acc for p in parts]), np.concatenate([p.motion_g for p in parts]))


def _unbroken(t: F64, acc: F64) -> Seconds:
    n = int(RATE_HZ)
    whole = int(t[-1] - t[0]) if len(t) else 0
    if not whole:
        return Seconds(np.empty((0, n, 3)), np.empty(0))
    at = t[0] + np.arange(whole * n) / RATE_HZ
    grid = np.stack([np.interp(at, t, acc[:, i]) for i in range(3)], axis=1).reshape(whole, n, 3)
    motion = np.sqrt(grid.var(axis=1).sum(axis=1)) / G  # (k,)
    held = np.histogram(t, t[0] + np.arange(whole + 1))[0]
    motion[held < n // 4] = np.nan
    return Seconds(grid, motion)


def stands(found: Seconds) -> list[int]:
    """Where three seconds of standing still begin."""
    return _runs(found.motion_g < STILL_G, STAND_S)


def walks(found: Seconds) -> list[int]:
    """Where ten seconds of walking begin."""
    return _runs(found.motion_g >= WALKING_G, WALK_S)


def progress(found: Seconds) -> tuple[int, int]:
    """How many of the seconds of standing, and then of the seconds of walking, are there."""
    stood = _longest(found.motion_g < STILL_G, STAND_S)
    if stood < STAND_S:
        return stood, 0
    return stood, _longest(found.motion_g[stands(found)[0] + STAND_S :] >= WALKING_G, WALK_S)


def fit(t: F64, acc: F64) -> Worn:
    """How the phone was worn by whoever stood still and walked in this recording; samples as for `seconds`.

    Of several, the stand whose up is nearest to the walk's, and the first walk that is like other people's.
    Raises HardError that says what is missing.
    """
    found = seconds(t, acc)
    still = np.array([found.acc[s : s + STAND_S].mean(axis=(0, 1)) for s in stands(found)])
    if not len(still):
        raise HardError(f"nobody stands still for {STAND_S} s in these {len(found.motion_g)} s; try again")
    why = f"nobody walks for {WALK_S} s in these {len(found.motion_g)} s; try again"
    for start in walks(found):
        walk = found.acc[start : start + WALK_S].reshape(-1, 3)
        angles = [angle(up, walk.mean(axis=0)) for up in still]
        best = int(np.argmin(angles))
        if angles[best] > MOST_LEAN:
            why = (
                f"up is {angles[best]:.0f} degrees elsewhere in walking than in standing: the phone moved; "
                "wear it where it stays, stand, then walk"
            )
            continue
        try:
            return align(still[best], walk)
        except HardError as e:
            why = str(e)
    raise HardError(why)


def angle(a: F64, b: F64) -> float:
    """Degrees between two vectors."""
    cosine = float(a @ b) / (float(np.linalg.norm(a)) * float(np.linalg.norm(b)))
    return float(np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0))))


def align(gravity: F64, walk: F64) -> Worn:
    """The rotation from the mean acceleration (3,) of standing and that of walking (n, 3), m/s² at 50 Hz."""
    size_g = float(np.linalg.norm(gravity)) / G
    if not GRAVITY_G[0] <= size_g <= GRAVITY_G[1]:
        raise HardError(
            f"standing reads {size_g:.1f} g, expected 1: the phone must send its acceleration with gravity, "
            "in the right unit; `hard check --listen` says what it sends"
        )
    axes = level(gravity)
    correlation = gait(walk, axes)
    product = np.vdot(correlation, WALK)
    likeness = float(abs(product) / (np.linalg.norm(correlation) * np.linalg.norm(WALK)))
    if likeness < LEAST_LIKENESS:
        raise HardError(
            f"this does not look like walking (likeness {likeness:.2f}, expected {LEAST_LIKENESS:g}): "
            "wear the phone where it stays, and walk at your usual pace on level ground"
        )
    a = float(np.angle(product))
    turn = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    rotation = level(UP).T @ turn @ axes  # phone -> up, forward, sideways -> models
    return Worn(tuple(tuple(row) for row in rotation.round(6).tolist()), round(likeness, 3))


def level(up: F64) -> NDArray[np.float64]:
    """Axes (3, 3), a row each: up, the phone's z made level (its x where z is upright), and their product."""
    up = up / np.linalg.norm(up)
    z = np.eye(3)[2 if abs(up[2]) < 0.9 else 0]
    forward = z - up * (up @ z)
    forward /= np.linalg.norm(forward)
    return np.stack([up, forward, np.cross(up, forward)])


def gait(walk: F64, axes: F64) -> NDArray[np.complex128]:
    """How horizontal motion goes with the vertical, (len(LAGS),); walk (n, 3) at 50 Hz, axes of `level`."""
    motion = (walk - walk.mean(axis=0)) @ axes.T
    vertical, horizontal = motion[:, 0], motion[:, 1] + 1j * motion[:, 2]
    vertical = vertical / vertical.std()
    horizontal = horizontal / np.sqrt((np.abs(horizontal) ** 2).mean())
    most = max(LAGS)
    n = len(walk)
    return np.array([(vertical[most : n - most] * horizontal[most + k : n - most + k]).mean() for k in LAGS])


def _runs(wanted: NDArray[np.bool_], length: int) -> list[int]:
    """Where `length` seconds begin that are all wanted."""
    if len(wanted) < length:
        return []
    return np.flatnonzero(np.convolve(wanted, np.ones(length), "valid") == length).tolist()


def _longest(wanted: NDArray[np.bool_], most: int) -> int:
    """The longest stretch of seconds that are all wanted; no more than `most`."""
    return next((n for n in range(most, 0, -1) if _runs(wanted, n)), 0)
