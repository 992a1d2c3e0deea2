"""Frames -> predictions: a grid in time, one look at each frame, and a ring of what was seen."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from hard.frames import squeeze
from hard.model import VideoModel
from hard.stats import Counters, Drop
from hard.types import F32, UNKNOWN, Clip, Frame, Prediction

ROUNDING_S: Final = 1e-6
ALIKE: Final = 0.9  # a camera with steps of at least this many periods of the grid is about as fast
FOLLOW: Final = 0.25  # of a frame's distance from its place, that the grid moves towards it


class Grid:
    """Which frames a model looks at: the nearest to every 1 / rate_hz, whatever the camera's rate.

    Nobody knows when the next frame comes, so it is taken to be as far away as the last one was, but at most
    half a period of the grid. With a camera that is about as fast the grid goes along: else, where frames lie
    between its places, jitter would lose every other one.
    """

    def __init__(self, rate_hz: float) -> None:
        self._period_s = 1.0 / rate_hz
        self._t = -math.inf
        self._next_t = math.nan  # of the first place that is not filled yet
        self._place = -1

    def place(self, t: float) -> int | None:
        """The place, counted from 0, that a frame at `t` seconds fills; None where an earlier one has."""
        if self._place < 0:
            self._next_t = t
        step_s, self._t = t - self._t, t
        slack_s = min(step_s / 2, 0.25 * self._period_s)
        late_s = t + slack_s - self._next_t + ROUNDING_S
        if late_s < 0.0:
            return None
        places = 1 + int(late_s / self._period_s)
        self._place += places
        self._next_t += places * self._period_s
        if step_s > ALIKE * self._period_s:
            self._next_t += FOLLOW * (t + self._period_s - self._next_t)
        return self._place


class Ring:
    """The newest embeddings of one camera, one for each place of the grid; pure.

    Places without a frame of their own, because the camera is slow or frames were lost, get the next frame's.
    """

    def __init__(self, clip: Clip, *, every: int = 1, max_gap_s: float = 1.0) -> None:
        """`every` places a clip is due; silence of more than `max_gap_s` begins a new one."""
        self._frames = clip.frames
        self._every = every
        self._max_gap = max(1, round(max_gap_s * clip.rate_hz))
        self._twice = np.zeros((2 * clip.frames, 0), np.float32)  # the ring, written twice: a clip is a slice
        self._next = 0
        self._filled = 0
        self._place = -1
        self._due = -every
        self.gaps = 0

    def push(self, embedding: F32, place: int) -> bool:
        """Take the (E,) embedding of a frame; whether a clip is due."""
        if self._twice.shape[1] != len(embedding):
            self._twice = np.zeros((2 * self._frames, len(embedding)), np.float32)
        missed = place - self._place
        if self._filled and missed > self._max_gap:
            self._filled = 0
            self.gaps += 1
        for _ in range(missed if self._filled else 1):
            self._twice[self._next] = self._twice[self._next + self._frames] = embedding
            self._next = (self._next + 1) % self._frames
            self._filled += 1
        self._place = place
        if self._filled < self._frames or place - self._due < self._every:
            return False
        self._due = place
        return True

    def clip(self) -> F32:
        """(1, frames, E): a view, until the next push."""
        return self._twice[None, self._next : self._next + self._frames]


class VideoRecognizer:
    """Frames of one camera in, predictions out; the daemon and `hard classify` use it. Owner: one thread."""

    def __init__(
        self,
        device: str,
        model: VideoModel,
        *,
        every: int = 5,
        max_gap_s: float = 1.0,
        min_rate_hz: float = 5.0,
        counters: Counters | None = None,
    ) -> None:
        self.device = device
        self.model = model
        self._ring = Ring(model.card.clip, every=every, max_gap_s=max_gap_s)
        self._min_rate_hz = min_rate_hz
        self._counters = counters or Counters()

    def push(self, frame: Frame) -> Prediction | None:
        """Look at a frame with a place on the grid; the prediction for the clip that it completes, if due."""
        assert frame.place is not None
        gaps = self._ring.gaps
        small = squeeze(frame.pixels, self.model.card.clip.size)
        due = self._ring.push(self.model.encode(small[None])[0], frame.place)
        self._counters.add(Drop.GAP, self._ring.gaps - gaps)
        return self._prediction(frame) if due else None

    def _prediction(self, frame: Frame) -> Prediction:
        card = self.model.card
        shares = self.model.classify(self._ring.clip())[0].tolist()
        best = max(range(len(shares)), key=shares.__getitem__)
        reason = None
        if frame.rate_hz < self._min_rate_hz:
            reason = f"rate {frame.rate_hz:.1f} Hz is below {self._min_rate_hz:g} Hz"
        return Prediction(
            device=self.device,
            t_end=frame.t,
            activity=card.labels[best] if reason is None else UNKNOWN,
            confidence=shares[best] if reason is None else 0.0,
            probabilities=dict(zip(card.labels, shares, strict=True)),
            rate_hz=frame.rate_hz,
            gaps=self._ring.gaps,
            arrival_s=frame.arrival_s,
            end_s=frame.arrival_s,
            model=card.name,
            model_hash=card.sha256[:12],
            reason=reason,
        )
