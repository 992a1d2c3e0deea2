"""People cut out of clips of static cameras, to be put before other backgrounds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import cv2
import msgspec
import numpy as np

from hard.datasets.video import Item
from hard.frames import read_video
from hard.types import F32, U8

SOFT: Final = (14.0, 40.0)  # difference from the background, in grey levels, that is nothing, and all person
HEIGHT: Final = 96  # a cut-out clip's frames are this high, if they were higher


Box = tuple[int, int, int, int]  # left, top, right, bottom, pixels


class Person(msgspec.Struct, frozen=True):
    """One clip with its matte; nobody writes to the arrays."""

    label: str
    group: str
    frames: U8  # (n, h, w, 3) RGB
    matte: U8  # (n, h, w) 0: background, 255: person
    background: U8  # (h, w, 3) RGB, where the person was not
    rate_hz: float
    box: Box  # of all that the person ever covers


def bounds(matte: U8) -> Box:
    """What a matte (n, h, w) covers at any time; the whole picture where it covers nothing."""
    covered = (matte > 127).mean(axis=0) > 0.02  # less than that are slips of the matte
    columns, rows = np.flatnonzero(covered.any(axis=0)), np.flatnonzero(covered.any(axis=1))
    if not len(columns):
        return 0, 0, matte.shape[2], matte.shape[1]
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def before_a_wall(items: Sequence[Item]) -> list[Person]:
    """People before a plain wall that both edges of the picture show, as in Weizmann's clips."""
    people = []
    for item in items:
        frames, rate_hz = read_video(item.path)
        edges = np.concatenate([frames[:, :, :6], frames[:, :, -6:]], axis=2)
        wall = np.median(edges, axis=(0, 2)).astype(np.float32)  # (h, 3)
        wall = cv2.GaussianBlur(wall[:, None], (1, 9), 3).reshape(wall.shape)
        background = np.broadcast_to(wall[:, None], frames.shape[1:])
        people.append(_cut(item, frames, background.astype(np.float32), rate_hz))
    return people


def before_one_camera(items: Sequence[Item]) -> list[Person]:
    """One camera that never moves: what most clips show most of the time is the background."""
    clips = [read_video(item.path) for item in items]
    clips = [(np.stack([_shrink(f) for f in frames]), rate_hz) for frames, rate_hz in clips]
    medians = [np.median(frames[len(frames) // 6 :: 5], axis=0) for frames, _ in clips]
    background = np.median(medians, axis=0).astype(np.float32)
    return [
        _cut(item, frames, background, rate_hz) for item, (frames, rate_hz) in zip(items, clips, strict=True)
    ]


def _shrink(frame: U8) -> U8:
    h, w = frame.shape[:2]
    if h <= HEIGHT:
        return frame
    small = cv2.resize(frame, (round(w * HEIGHT / h), HEIGHT), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.uint8)


def _cut(item: Item, frames: U8, background: F32, rate_hz: float) -> Person:
    matte = np.stack([_matte(frame, background) for frame in frames])
    scene = background.astype(np.uint8)
    return Person(item.label, item.group, frames, matte, scene, rate_hz, bounds(matte))


def _matte(frame: U8, background: F32) -> U8:
    """(h, w) uint8: how far each pixel is from the background, its holes filled, the largest piece alone."""
    seen = frame.astype(np.float32)
    gain = np.median(
        (background / np.maximum(seen, 1))[::4, ::4], axis=(0, 1)
    )  # cameras set their white balance
    difference = np.abs(seen * gain - background).max(axis=2)
    soft = np.clip((difference - SOFT[0]) / (SOFT[1] - SOFT[0]), 0, 1)
    solid = (cv2.GaussianBlur(soft, (3, 3), 0) > 0.5).astype(np.uint8)
    solid = cv2.morphologyEx(solid, cv2.MORPH_CLOSE, np.ones((5, 3), np.uint8))
    count, pieces, facts, _ = cv2.connectedComponentsWithStats(solid)
    if count < 2:
        return np.zeros(frame.shape[:2], np.uint8)
    largest = 1 + int(np.argmax(facts[1:, cv2.CC_STAT_AREA]))
    person = (pieces == largest).astype(np.uint8)
    outlines, _ = cv2.findContours(person, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    small = [c for c in outlines if cv2.contourArea(c) < 0.006 * person.size]  # gaps between arms stay open
    cv2.drawContours(person, small, -1, 1, -1)
    edge = cv2.GaussianBlur(person.astype(np.float32), (3, 3), 0)
    return np.asarray(255 * np.maximum(edge, np.where(person > 0, soft, 0)), np.uint8)
