"""Training windows of HAPT: published places, any phase of an activity, and streams just started."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hard.datasets import features
from hard.datasets.hapt import Session, read_official, read_sessions
from hard.imu import CHANNELS
from hard.model import columns
from hard.recordings import Recording
from hard.types import Windowing

KINDS: Final = ("official", "any_phase", "just_started")
FRESH_SAMPLES: Final = 384  # 7.7 s: how long the filter remembers its start
FRESH_EVERY: Final = 192  # samples of labelled activity per stream that starts there


class Pool(msgspec.Struct, frozen=True):
    """Feature streams end to end, and the spans of them in which a window may start."""

    stream: Tensor  # (T, channels) float32
    spans: NDArray[np.int64]  # (k, 5): first start, number of starts, label, user, kind (index of KINDS)
    window: int

    def of(self, users: NDArray[np.int64]) -> Pool:
        """The part of the pool that belongs to these people."""
        return Pool(self.stream, self.spans[np.isin(self.spans[:, 3], users)], self.window)

    @property
    def users(self) -> NDArray[np.int64]:
        return np.unique(self.spans[:, 3])

    def official(self) -> tuple[Tensor, Tensor]:
        """Starts and labels of the published windows, (N,) each, in the published order."""
        rows = self.spans[self.spans[:, 4] == 0]
        return torch.from_numpy(rows[:, 0].copy()), torch.from_numpy(rows[:, 2].copy())

    def bouts(self, starts: Tensor) -> Tensor:
        """(N,) starts -> where the stretch of one activity begins that each window lies in, (N,)."""
        firsts = np.sort(self.spans[self.spans[:, 4] > 0, 0])
        return torch.from_numpy(
            firsts[np.searchsorted(firsts, starts.numpy() + self.window // 2, "right") - 1]
        )

    def before(self, starts: Tensor, hop: int) -> Iterator[tuple[Tensor, Tensor]]:
        """What a device has sent of the stretch that each of these (N,) windows lies in, oldest first.

        Yields the starts of windows (N,), a hop before those that come next, and whether (N,) each is there.
        """
        bouts = self.bouts(starts)
        most = int((starts - bouts).max()) // hop
        for k in range(most, 0, -1):
            at = starts - k * hop
            yield torch.maximum(at, torch.minimum(bouts, starts)), at >= bouts

    def draw(self, kind: int, n: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """n random starts of one kind and their labels, (n,) each; every start is equally likely."""
        rows = self.spans[self.spans[:, 4] == kind]
        picked = rows[rng.choice(len(rows), n, p=rows[:, 1] / rows[:, 1].sum())]
        starts = picked[:, 0] + rng.integers(0, picked[:, 1])
        return torch.from_numpy(starts), torch.from_numpy(picked[:, 2].copy())

    def windows(self, starts: Tensor) -> Tensor:
        """(n,) starts -> (n, window, channels)."""
        return self.stream[starts[:, None] + torch.arange(self.window)]


def read_pool(
    data: Path, windowing: Windowing, rng: np.random.Generator, channels: Sequence[str] = CHANNELS
) -> Pool:
    """The official training people's windows; no recording of a test person is read."""
    official = read_official(data, "train")
    sessions = read_sessions(data, frozenset(int(user) for user in np.unique(official.user)))
    pieces = [(s.recording, s) for s in sessions]
    for session in sessions:
        pieces += [(piece, session) for piece in _fresh(session, windowing, rng)]
    streams = features([recording for recording, _ in pieces], windowing)
    offsets = np.cumsum([0] + [len(stream) for stream in streams])
    offset_of = {s.exp: int(offsets[i]) for i, s in enumerate(sessions)}
    spans = [
        (offset_of[exp] + start, 1, y, user, 0)
        for exp, start, y, user in zip(official.exp, official.start, official.y, official.user, strict=True)
    ]
    for session in sessions:
        for label, first, end in session.segments:
            if end - first >= windowing.window:
                start = offset_of[session.exp] + first
                spans.append((start, end - first - windowing.window + 1, label, session.user, 1))
    for (recording, session), offset in list(zip(pieces, offsets[:-1], strict=True))[len(sessions) :]:
        starts = len(recording.t) - windowing.window + 1
        spans.append((offset, starts, int(recording.name), session.user, 2))
    stream = np.take(np.concatenate(streams), columns(channels), axis=1)
    return Pool(torch.from_numpy(stream), np.array(spans, np.int64), windowing.window)


def _fresh(session: Session, windowing: Windowing, rng: np.random.Generator) -> list[Recording]:
    """Short recordings that begin in the middle of an activity, as when a phone connects; named by label."""
    out = []
    samples, t = session.recording.samples, session.recording.t
    for label, first, end in session.segments:
        room = end - first - windowing.window
        if room < 0:
            continue
        for _ in range(max(1, (end - first) // FRESH_EVERY)):
            start = first + rng.integers(0, room + 1)
            stop = min(start + FRESH_SAMPLES, end)
            out.append(Recording(str(label), t[start:stop], samples[start:stop]))
    return out
