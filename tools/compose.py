"""Clips that never were: people cut out, put before any background, filmed by any camera."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from hard.types import F32, U8, Clip
from tools.cutout import Box, Person

SPEED: Final = (0.7, 1.4)  # of the filmed motion
HEIGHT: Final = (0.5, 1.8)  # of a person, in heights of the picture: beyond 1 the feet go first
WIDTH: Final = (0.52, 1.1)  # of its own, for its height: a 16:9 picture is squeezed to 0.56 of its width
AS_FILMED: Final = 0.25  # share of clips that keep the background they were filmed before

GRAIN: Final = np.random.default_rng(0).standard_normal(1 << 20, np.float32)
"""Noise to take pieces from: drawing it anew for each clip took half of the time of composing."""

Rng = np.random.Generator


def moments(n: int, clip: Clip, rate_hz: float, speed: float, rng: Rng) -> NDArray[np.int64]:
    """Which frames of n a camera sees: any phase, unsteady in time; a short film runs to and fro."""
    step = rate_hz / clip.rate_hz * speed
    span = step * (clip.frames - 1)
    start = rng.uniform(0, max(n - 1 - span, 0.2 * n))
    t = start + step * (np.arange(clip.frames) + rng.normal(0, 0.08, clip.frames))
    period = 2 * (n - 1)
    t = np.abs(t) % period
    return np.rint(np.minimum(t, period - t)).astype(np.int64)


def warp(frames: U8, places: F32, size: int, border: int) -> U8:
    """Frames (n, h, w[, 3]) drawn into (n, size, size[, 3]), each by its own matrix of `places` (n, 2, 3)."""
    drawn = [
        cv2.warpAffine(f, m, (size, size), flags=cv2.INTER_LINEAR, borderMode=border)
        for f, m in zip(frames, places, strict=True)
    ]
    return np.asarray(np.stack(drawn), np.uint8)


def wander(n: int, reach: float, rng: Rng) -> F32:
    """(n, 2) a smooth way about the origin, as a hand-held or touched camera goes."""
    t = np.linspace(0, 2 * np.pi, n)
    frequency, phase = rng.uniform(0.2, 2.0, (2, 1, 2)), rng.uniform(0, 2 * np.pi, (2, 1, 2))
    way = np.sin(frequency * t[None, :, None] + phase).sum(axis=0)
    return np.asarray(reach * way, np.float32)


def place(box: Box, clip: Clip, rng: Rng) -> F32:
    """Matrices (frames, 2, 3) that draw what is in the box somewhere: any size, side and lean."""
    size = clip.size
    left, top, right, bottom = box
    tall = rng.uniform(*HEIGHT) * size
    sy = tall / (bottom - top)
    sx = sy * rng.uniform(*WIDTH) * rng.choice((-1, 1))
    lean = rng.normal(0, 0.05)
    a = np.array([[sx, -lean * sy], [lean * sx, sy]])
    wide = abs(sx) * (right - left)
    room = max(size - wide, 0.3 * wide)
    x = size / 2 + rng.uniform(-0.5, 0.5) * room
    if tall < size:
        y = size / 2 + rng.uniform(-0.4, 0.6) * (size - tall)
    else:
        y = tall / 2 + 0.04 * size * rng.uniform(-1, 2)  # the head stays in
    middle = a @ np.array([(left + right) / 2, (top + bottom) / 2])
    still = np.concatenate([a, np.array([[x], [y]]) - middle[:, None]], axis=1)
    return np.asarray(np.repeat(still[None], clip.frames, axis=0), np.float32)


def tint(frames: U8, rng: Rng, strength: float) -> F32:
    """The same things in other colours and another light, the same in every frame."""
    gain = np.exp(rng.normal(0, strength, 3)) * np.exp(rng.normal(0, strength))
    order = rng.permutation(3) if rng.random() < 0.3 else np.arange(3)
    out = frames[..., order].astype(np.float32)
    if rng.random() < 0.15:
        out = 255 - out
    out *= gain.astype(np.float32)
    return np.asarray(out + rng.normal(0, 60 * strength), np.float32)


def film(scene: F32, rng: Rng) -> U8:
    """What a webcam makes of a scene (n, size, size, 3): light, flicker, blur, noise, compression."""
    n = len(scene)
    gain = np.exp(rng.uniform(-1.5, 0.3) if rng.random() < 0.15 else rng.normal(0, 0.2))
    gain = gain * np.exp(rng.normal(0, 0.08, 3))
    flicker = 1 + rng.choice((0.0, 0.01, 0.03)) * rng.normal(0, 1, (n, 1, 1, 1))
    x = scene * (gain * flicker).astype(np.float32)
    x += np.float32(rng.normal(0, 15))
    if rng.random() < 0.15:
        x = np.repeat(x.mean(axis=3, keepdims=True), 3, axis=3)  # infrared, or black and white
    if rng.random() < 0.3:
        sigma = rng.uniform(0.3, 0.9)
        x = np.stack([cv2.GaussianBlur(f, (3, 3), sigma) for f in x])
    grain = rng.choice((0.5, 2.0, 5.0, 9.0), p=(0.4, 0.3, 0.2, 0.1))
    start = rng.integers(len(GRAIN) - x.size)
    x += np.float32(grain) * GRAIN[start : start + x.size].reshape(x.shape)
    out = np.clip(x, 0, 255, out=x).astype(np.uint8)
    if rng.random() < 0.2:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(30, 90))]
        sent = [cv2.imdecode(cv2.imencode(".jpg", f, quality)[1], cv2.IMREAD_COLOR) for f in out]
        out = np.asarray(sent, np.uint8)
    return np.asarray(out, np.uint8)


def shake(frames: int, rng: Rng) -> F32:
    """(frames, 2) pixels by which the whole picture moves; mostly not at all."""
    kind = rng.random()
    if kind < 0.5:
        return np.zeros((frames, 2), np.float32)
    if kind < 0.8:
        return np.asarray(rng.normal(0, rng.uniform(0.1, 0.5), (frames, 2)), np.float32)
    return wander(frames, rng.uniform(0.3, 2.0), rng)


def acting(person: Person, background: U8, clip: Clip, rng: Rng) -> U8:
    """A person does what the clip shows, somewhere else: (frames, size, size, 3) uint8 RGB."""
    rows = moments(len(person.frames), clip, person.rate_hz, rng.uniform(*SPEED), rng)
    if rng.random() < AS_FILMED:
        return film(reframed(person.frames[rows], person.box, clip, rng), rng)
    return film(before(person, rows, background, place(person.box, clip, rng), clip, rng), rng)


def before(person: Person, rows: NDArray[np.int64], background: U8, places: F32, clip: Clip, rng: Rng) -> F32:
    """These frames of a person, drawn by `places`, before a background, the whole shaken: a scene."""
    moved = places.copy()
    shaken = shake(clip.frames, rng)
    moved[:, :, 2] += shaken
    matte = warp(person.matte[rows], moved, clip.size, cv2.BORDER_CONSTANT)[..., None] / np.float32(255)
    body = tint(warp(person.frames[rows], moved, clip.size, cv2.BORDER_REPLICATE), rng, 0.2)
    behind = scenery(background, shaken, clip, rng)
    return np.asarray(body * matte + behind * (1 - matte), np.float32)


def scenery(background: U8, shaken: F32, clip: Clip, rng: Rng) -> F32:
    """Some part of an image, moved with the camera: (frames, size, size, 3), or (1, ...) if still."""
    h, w = background.shape[:2]
    zoom = rng.uniform(1.0, 2.2) * clip.size / min(h, w)
    sx = zoom * rng.choice((-1, 1))
    a = np.array([[sx, 0], [0, zoom]])
    middle = a @ (np.array([w, h]) * rng.uniform(0.35, 0.65, 2))
    still = np.concatenate([a, clip.size / 2 - middle[:, None]], axis=1).astype(np.float32)
    if not shaken.any():
        return tint(warp(background[None], still[None], clip.size, cv2.BORDER_REFLECT_101), rng, 0.15)
    places = np.repeat(still[None], clip.frames, axis=0)
    places[:, :, 2] += shaken
    frames = np.broadcast_to(background, (clip.frames, *background.shape))
    return tint(warp(frames, places, clip.size, cv2.BORDER_REFLECT_101), rng, 0.15)


def reframed(frames: U8, box: Box, clip: Clip, rng: Rng) -> F32:
    """The film as it was shot, cropped and mirrored at random, its person within the picture."""
    h, w = frames.shape[1:3]
    left, top, right, bottom = box
    zoom = rng.uniform(0.9, 1.3) * np.array([clip.size / w, clip.size / h])
    zoom *= np.exp(rng.normal(0, 0.08, 2))
    a = np.diag(zoom * np.array([rng.choice((-1, 1)), 1]))
    middle = np.array([(left + right) / 2, (top + bottom) / 2])
    share = rng.uniform(0.0, 1.0)
    aim = share * middle + (1 - share) * np.array([w, h]) / 2
    still = np.concatenate([a, clip.size / 2 + rng.normal(0, 3, (2, 1)) - (a @ aim)[:, None]], axis=1)
    places = np.repeat(still.astype(np.float32)[None], clip.frames, axis=0)
    places[:, :, 2] += shake(clip.frames, rng)
    return tint(warp(frames, places, clip.size, cv2.BORDER_REFLECT_101), rng, 0.1)


def gradient(size: int, rng: Rng) -> U8:
    """A plain wall under uneven light, or a few bars of colour."""
    corners = rng.uniform(0, 255, (int(rng.integers(1, 4)), int(rng.integers(1, 5)), 3)).astype(np.float32)
    smooth = rng.choice((cv2.INTER_LINEAR, cv2.INTER_NEAREST, cv2.INTER_CUBIC))
    return np.clip(cv2.resize(corners, (size, size), interpolation=int(smooth)), 0, 255).astype(np.uint8)


def cast(people: Sequence[Person], rng: Rng) -> Person:
    """One of them: every clip of a label as likely as another, a label by the root of its number of clips."""
    labels, counts = np.unique([p.label for p in people], return_counts=True)
    label = rng.choice(labels, p=np.sqrt(counts) / np.sqrt(counts).sum())
    own = [p for p in people if p.label == label]
    return own[rng.integers(len(own))]
