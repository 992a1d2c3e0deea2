"""What the daemon's smoother makes of labelled stretches, each of them on its own.

The protocol has everybody do the same in the same order, and whatever remembers could learn that order. So
every labelled stretch is a device of its own, which begins with the stretch and has seen nothing before.
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hard.datasets import features
from hard.datasets.hapt import LABELS, Official, Session, read_sessions
from hard.imu import in_turns
from hard.model import Model
from hard.recognizer import Recognizer
from hard.recordings import Recording
from hard.settings import SmoothingSettings
from hard.smoothing import Smoother
from hard.types import F32, F64, HardError, Prediction

RATE_HZ: Final = 50.0


def steady_at_ends(model: Model, data: Path, official: Official) -> NDArray[np.int64]:
    """The steady label at each official window's end, (N,): index into LABELS, -1: `unknown` or none yet.

    Every stretch goes from its beginning through the daemon's own Recognizer and Smoother; its hops need not
    end where an official window does: then the label is that of the hop before.
    """
    users = frozenset(int(user) for user in np.unique(official.user))
    sessions = {s.exp: s for s in read_sessions(data, users)}
    stretch = _stretch_of(official, sessions)
    said = np.full(len(stretch), -1)
    order = np.lexsort((official.start, stretch, official.exp))
    for (exp, k), group in itertools.groupby(order, key=lambda i: (int(official.exp[i]), int(stretch[i]))):
        rows = list(group)
        _, first, end = sessions[exp].segments[k]
        begin = min(first, official.start[rows[0]])
        end = max(end, official.start[rows[-1]] + model.card.windowing.window)
        ends = sessions[exp].recording.t[official.start[rows] + model.card.windowing.window - 1]
        said[rows] = _labels(model, sessions[exp].recording, slice(begin, end), ends)
    return said


def after_those_before(model: Model, data: Path, official: Official) -> F32:
    """A model's probabilities of each official window, (N, labels).

    A model with a state has seen what came before in the same labelled stretch, a hop apart, and nothing
    else.
    """
    w = model.card.windowing
    users = frozenset(int(user) for user in np.unique(official.user))
    found = read_sessions(data, users)
    sessions = {s.exp: s for s in found}
    streams = dict(zip(sessions, features([s.recording for s in found], w), strict=True))
    stretch = _stretch_of(official, sessions)
    begins = np.array([sessions[e].segments[k][1] for e, k in zip(official.exp, stretch, strict=True)])
    state = np.zeros((len(stretch), model.card.state), np.float32)
    out = np.empty((len(stretch), len(model.card.labels)), np.float32)
    most = int((official.start - begins).max()) // w.hop if model.card.state else 0
    for k in range(most, -1, -1):
        at = official.start - k * w.hop
        rows = np.flatnonzero((at >= begins) | (k == 0))
        x = np.stack([streams[official.exp[i]][at[i] : at[i] + w.window] for i in rows])
        out[rows], state[rows] = model.step(x, state[rows])
    return out


def in_stretches(model: Model, x: F32, stretch: NDArray[np.int64]) -> F32:
    """The same of windows (N, window, 9) a hop apart, in the order of time, and their stretches (N,)."""
    state = np.zeros((int(stretch.max()) + 1, model.card.state), np.float32)
    out = np.empty((len(x), len(model.card.labels)), np.float32)
    for rows in in_turns(stretch.tolist()) if model.card.state else [range(len(x))]:
        of = stretch[rows]
        out[rows], state[of] = model.step(x[rows], state[of])
    return out


def _stretch_of(official: Official, sessions: dict[int, Session]) -> NDArray[np.int64]:
    """(N,) which of its recording's stretches a window lies in: that of its label with its middle."""
    out = []
    for exp, start, y in zip(official.exp, official.start, official.y, strict=True):
        segments = sessions[exp].segments
        away = np.maximum(segments[:, 1] - start - 64, start + 64 - segments[:, 2])  # samples; inside below 0
        of_label = np.where(segments[:, 0] == y, away, np.iinfo(np.int64).max)
        out.append(int(of_label.argmin()))
        if of_label[out[-1]] > 0:
            raise HardError(f"exp {exp}: the window at {start} lies in no stretch of {LABELS[y]}")
    return np.array(out, np.int64)


def _labels(model: Model, recording: Recording, part: slice, at_s: F64) -> list[int]:
    """What is said at these moments (n,) of a device that sends only this part of a recording."""
    smoother = Smoother(SmoothingSettings())
    samples = recording.samples[part, : 6 if "gyro_x" in model.card.channels else 3]
    predictions = Recognizer(model, acc_model=model).push("stretch", recording.t[part], samples)
    said = [-1]
    for p in predictions:
        activity = smoother.update(p).activity
        said.append(LABELS.index(activity) if activity in LABELS else -1)
    ends = [p.t_end - 0.5 / RATE_HZ for p in predictions]
    return [said[bisect_right(ends, t)] for t in at_s]


def smoothed(
    stretch: NDArray[np.int64],
    labels: Sequence[str],
    probabilities: F32,
    movement_g: F32,
    hop_s: float,
    averaging_s: float = math.inf,
) -> NDArray[np.int64]:
    """The steady label at each of N windows a hop apart, (N,): index into `labels`, -1: `unknown`.

    stretch (N,): the windows' stretches, in order, each a device that nothing is known of before.
    probabilities: (N, labels); movement_g: (N,) rms body acceleration; averaging_s: of the model's card.
    """
    smoother = Smoother(SmoothingSettings())
    said = []
    for i, (device, row) in enumerate(zip(stretch.tolist(), probabilities.tolist(), strict=True)):
        window = Prediction(
            device=str(device), t_end=i * hop_s, activity="", confidence=0.0,
            probabilities=dict(zip(labels, row, strict=True)), rate_hz=RATE_HZ, gaps=0, arrival_s=0.0,
            end_s=0.0, model="", model_hash="", movement_g=float(movement_g[i]),
            averaging_s=averaging_s,
        )  # fmt: skip
        activity = smoother.update(window).activity
        said.append(labels.index(activity) if activity in labels else -1)
    return np.array(said, np.int64)
