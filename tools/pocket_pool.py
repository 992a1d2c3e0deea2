"""Labelled stretches of HAPT, MotionSense and sp_sw_har as one pool, for a phone carried anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hard.datasets import features, hapt, motionsense, sp_sw_har
from hard.imu import CHANNELS
from hard.model import columns
from hard.nets.pocket import MOVING
from hard.recordings import Recording
from hard.types import HardError, Windowing
from tools.pool import Pool

LABELS: Final = (
    *("walking", "walking_upstairs", "walking_downstairs", "running"),
    *("sitting", "standing", "laying"),
)
SETS: Final = ("hapt", "motionsense", "sp_sw_har")
POCKET_CHANNELS: Final = CHANNELS[3:]
"""Gyroscope and total acceleration: nothing here depends on the gravity filter, nor on how it started."""
PERSON: Final = 100  # a person's number in the pool: 100 times the number of the set, and the set's own
TEMPERATURE: Final = 0.64  # divides the exported logits; --leave-out subjects finds it
AVERAGING_S: Final = 0.5  # the most for the smoother, since the network averages; see the card
PLACES: Final = (0, 1, 1)  # of SETS: at the waist, in a trouser pocket
ONLY_GAIT: Final = 0.1  # without MotionSense, pockets only walk: gaits of MotionSense 76 -> 80 % with this
BATCH: Final = 60  # recordings filtered in one call


def read_pocket_pool(
    data: Path,
    windowing: Windowing,
    sets: Sequence[str],
    channels: Sequence[str] = POCKET_CHANNELS,
    hapt_test: bool = False,
) -> Pool:
    """Every labelled stretch of these sets long enough for a window; kinds are indices of SETS.

    Of HAPT, the 21 training people, or with `hapt_test` the nine others, but never both.
    """
    read = {"hapt": lambda: _hapt(data, hapt_test), "motionsense": lambda: _motionsense(data)}
    read["sp_sw_har"] = lambda: _sp_sw_har(data)
    streams, rows, offset = [], [], 0
    for name in sets:
        kind = SETS.index(name)
        found = read[name]()
        recordings = [recording for recording, *_ in found]
        cut = [s for i in range(0, len(found), BATCH) for s in features(recordings[i : i + BATCH], windowing)]
        for stream, (_, user, stretches) in zip(cut, found, strict=True):
            for label, first, end in stretches:
                starts = min(end, len(stream)) - first - windowing.window + 1
                if starts > 0:
                    rows.append((offset + first, starts, LABELS.index(label), PERSON * kind + user, kind))
            streams.append(np.take(stream, columns(channels), axis=1))
            offset += len(stream)
    if not rows:
        raise HardError(f"{data}: no labelled stretch of {windowing.window} samples in {', '.join(sets)}")
    return Pool(torch.from_numpy(np.concatenate(streams)), np.array(rows, np.int64), windowing.window)


Labelled = list[tuple[Recording, int, list[tuple[str, int, int]]]]
"""Recordings with their person, and of each stretch the activity, its first sample and one past its last."""


def _hapt(data: Path, test: bool) -> Labelled:
    sessions = hapt.read_sessions(data, hapt.TEST_USERS if test else hapt.TRAIN_USERS)
    return [
        (s.recording, s.user, [(hapt.LABELS[y], int(first), int(end)) for y, first, end in s.segments])
        for s in sessions
    ]


def _motionsense(data: Path) -> Labelled:
    trials = motionsense.read_trials(data)
    return [(t.recording, t.user, [(t.activity, 0, len(t.recording.t))]) for t in trials]


def _sp_sw_har(data: Path, rate_hz: float = 50.0) -> Labelled:
    out = []
    for execution in sp_sw_har.read_executions(data):
        grid = [(int(np.ceil(a * rate_hz)), int(np.floor(b * rate_hz)) + 1) for a, b in execution.spans_s]
        stretches = [(name, *span) for name, span in zip(execution.activities, grid, strict=True)]
        out.append((execution.recording, execution.user, stretches))
    return out


def at_hops(pool: Pool, hop: int) -> tuple[Tensor, NDArray[np.int64]]:
    """Starts (N,) of the windows a hop apart in every stretch, and the span (N,) that each lies in."""
    starts = [np.arange(first, first + n, hop) for first, n in pool.spans[:, :2]]
    spans = np.repeat(np.arange(len(starts)), [len(s) for s in starts])
    return torch.from_numpy(np.concatenate(starts)), spans


def shares(spans: NDArray[np.int64]) -> NDArray[np.float64]:
    """Probability of each span (k,) in a training draw.

    In a span every start is as likely; an activity of a set weighs as the square root of its time, so that
    the few minutes of stairs count, and no set drowns another. A place's only gait weighs ONLY_GAIT of
    that: the place must not tell the gait.
    """
    weight = spans[:, 1].astype(np.float64)
    group = spans[:, 4] * len(LABELS) + spans[:, 2]
    total = np.bincount(group, weight)
    weight /= np.sqrt(total[group])
    gaits, place = spans[:, 2] < MOVING, np.take(PLACES, spans[:, 4])
    for of in (gaits & (place == p) for p in np.unique(PLACES)):
        if len(np.unique(spans[of, 2])) == 1:
            weight[of] *= ONLY_GAIT
    return np.asarray(weight / weight.sum())


def draw(spans: NDArray[np.int64], n: int, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """n random starts, labels and kinds, (n,) each."""
    picked, starts = _picked(spans, n, rng)
    y, kind = torch.from_numpy(picked[:, [2, 4]].T.copy())
    return torch.from_numpy(starts), y, kind


def draw_runs(
    spans: NDArray[np.int64], n: int, hops: int, hop: int, rng: np.random.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """n runs of windows a hop apart, each from a random start to its stretch's end or for so many hops.

    Returns starts (n, hops), whether such a window is there (n, hops), and the labels (n,).
    """
    picked, first = _picked(spans, n, rng)
    starts = first[:, None] + hop * np.arange(hops)
    there = starts < picked[:, :2].sum(axis=1)[:, None]
    return torch.from_numpy(starts), torch.from_numpy(there), torch.from_numpy(picked[:, 2].copy())


def _picked(
    spans: NDArray[np.int64], n: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """n random spans (n, 5), and a start in each (n,)."""
    picked = spans[rng.choice(len(spans), n, p=shares(spans))]
    return picked, picked[:, 0] + rng.integers(0, picked[:, 1])
