"""Augmentation of clips and images: the same thing, filmed a little differently."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import cv2
import numpy as np

from hard.types import U8

KINDS: Final = ("flip", "rotation", "brightness", "crop", "speed")

ROTATION_DEG: Final = 12.0  # at most, either way
BRIGHTNESS: Final = 0.25  # at most, up or down
CROP: Final = 0.75  # of the edge, at least
SPEED: Final = 0.6  # of the clip, at least; the rest is not shown

Rng = np.random.Generator


def augment(clip: U8, frames: int, kinds: Sequence[str], rng: Rng) -> U8:
    """(m, h, w, 3) uint8 RGB, m >= frames, evenly spaced -> (frames, h, w, 3), all treated alike."""
    clip = clip[_rows(len(clip), frames, "speed" in kinds, rng)]
    h, w = clip.shape[1:3]
    angle = rng.uniform(-ROTATION_DEG, ROTATION_DEG) if "rotation" in kinds else 0.0
    share = rng.uniform(CROP, 1.0) if "crop" in kinds else 1.0
    middle = np.array([w, h]) / 2
    if angle or share < 1.0:
        place = cv2.getRotationMatrix2D(tuple(middle), angle, 1 / share)
        place[:, 2] += rng.uniform(-0.5, 0.5, 2) * (1 / share - 1) * np.array([w, h])
        drawn = [
            cv2.warpAffine(f, place, (w, h), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
            for f in clip
        ]
        clip = np.asarray(np.stack(drawn), np.uint8)
    if "flip" in kinds and rng.random() < 0.5:
        clip = clip[:, :, ::-1]
    if "brightness" in kinds:
        gain = np.float32(1 + rng.uniform(-BRIGHTNESS, BRIGHTNESS))
        clip = np.clip(clip * gain, 0, 255).astype(np.uint8)
    return clip


def _rows(m: int, frames: int, cut: bool, rng: Rng) -> list[int]:
    """Evenly spaced over all m, or over a part of them: that plays the clip faster or slower."""
    span = rng.uniform(SPEED, 1.0) * m if cut and m > frames else float(m)
    start = rng.uniform(0, m - span)
    return [int(start + (k + 0.5) * span / frames) for k in range(frames)]
