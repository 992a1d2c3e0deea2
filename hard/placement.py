"""Is a phone carried as a model knows it? Told by the side of it that points up while its person walks.

A person who lies and a phone that is worn otherwise may look alike, but who walks is upright. Walking is told
by rhythm: what moves repeats itself after a step or a stride.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec
import numpy as np

from hard.novelty import Motion
from hard.types import F32, Worn

MOVING_G: Final = 0.2  # rms body acceleration: 99.5 % of walking windows are above (HAPT, MotionSense)
STILL_G: Final = 0.1
RHYTHM: Final = 0.5  # correlation with itself: above in 95 % of walking windows, in a third of other movement
STEP_S: Final = (0.3, 1.2)  # from a quick step to a slow stride
WINDOWS: Final = 3  # consecutive walking windows that change our mind
STRICTER: Final = 2 / 3  # of the card's angle, before anybody walks: who sits may hold a pocket so, too


class _Belief(msgspec.Struct):
    fits: bool
    walking: int = 0  # windows of walking in a row
    against: int = 0  # and of those, the newest that contradict
    walked: bool = False  # `fits` comes from walking


class Placement:
    """Which devices are carried as `worn` says. Owner: the engine.

    A phone that has not been walked with fits as soon as it is still with that side up; three windows of
    walking settle it, then and whenever the phone is put elsewhere. Of the labelled windows of HAPT's
    training people (phone at the waist) 3 in 7,136 are taken for elsewhere, of MotionSense's (trouser pocket)
    82 in 14,281 for the waist.
    """

    def __init__(self, worn: Worn, rate_hz: float) -> None:
        self._up = np.array(worn.up, np.float32) / np.linalg.norm(worn.up)
        self._near, self._nearer = np.cos(np.radians([worn.within_deg, STRICTER * worn.within_deg])).tolist()
        self._lags = round(STEP_S[0] * rate_hz), round(STEP_S[1] * rate_hz)
        self._of: dict[str, _Belief] = {}

    def fits(self, devices: Sequence[str], x: F32, motion: Motion) -> list[bool]:
        """For each of N windows, in the order of time, whether its device is carried so.

        x: (N, window, 9) features; motion: of the same windows.
        """
        cosine = (motion.up @ self._up / np.maximum(motion.gravity_g, 1e-9)).tolist()
        return [
            self._update(self._belief(device, cosine[i]), cosine[i], motion.body_g[i], x[i])
            for i, device in enumerate(devices)
        ]

    def forget(self, devices: Iterable[str]) -> None:
        for device in devices:
            self._of.pop(device, None)

    def _belief(self, device: str, cosine: float) -> _Belief:
        belief = self._of.get(device)
        if belief is None:
            belief = self._of[device] = _Belief(cosine >= self._nearer)
        return belief

    def _update(self, belief: _Belief, cosine: float, body_g: float, window: F32) -> bool:
        near = cosine >= self._near
        if belief.walked and belief.fits == near:
            belief.against = 0
        elif body_g >= MOVING_G and rhythm(window[:, 6:9], self._lags) >= RHYTHM:
            belief.walking += 1
            belief.against = belief.against + 1 if near != belief.fits else 0
            if belief.against >= WINDOWS:
                belief.fits, belief.against = near, 0
            belief.walked = belief.walked or belief.walking >= WINDOWS
        else:
            belief.walking = belief.against = 0
            if cosine >= self._nearer and body_g < STILL_G and not belief.walked:
                belief.fits = True
        return belief.fits


def rhythm(acc: F32, lags: tuple[int, int]) -> float:
    """How well the size of an acceleration (T, 3) repeats itself after a lag in this range; 1: entirely."""
    size = np.linalg.norm(acc, axis=1)
    size = size - size.mean()
    n = len(size)
    spectrum = np.fft.rfft(size, 2 * n)
    products = np.fft.irfft(spectrum * spectrum.conj())[: lags[1] + 1] / (n - np.arange(lags[1] + 1))
    return float(products[lags[0] :].max() / max(products[0], 1e-12))
