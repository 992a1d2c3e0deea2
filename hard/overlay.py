"""What is written over a camera's picture: draw(image, caption) -> image; pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

import cv2
import msgspec
import numpy as np

from hard.log import duration
from hard.types import U8, UNKNOWN, Label

Colour: TypeAlias = tuple[int, int, int]  # blue, green, red

WHITE: Final[Colour] = (255, 255, 255)
SOFT: Final[Colour] = (205, 205, 205)
TRACK: Final[Colour] = (95, 95, 95)
ACCENT: Final[Colour] = (140, 225, 110)  # a label that is sure
DOUBT: Final[Colour] = (80, 190, 255)  # one that is not
RED: Final[Colour] = (80, 80, 255)
SURE: Final = 0.6
SHADE: Final = 0.26  # what panels leave of the picture: white on a white wall is still 8 to 1
BOLD: Final = cv2.FONT_HERSHEY_DUPLEX
PLAIN: Final = cv2.FONT_HERSHEY_SIMPLEX
STROKE: Final = 18.0 if cv2.__version__ >= "5" else 12.0  # letters were made of bare lines before OpenCV 5
SMALLEST: Final = (560, 480)  # pictures are enlarged until both sides reach their figures
LARGEST: Final = (1920, 1080)  # and reduced, or enlarged no further, where one exceeds its figure
MAX_OTHERS: Final = 6
AWAY_S: Final = 1.0  # a picture older than this is no live picture


class Caption(msgspec.Struct, frozen=True):
    """What there is to say beside the picture."""

    device: str
    label: Label | None  # of the camera; None: none yet
    others: Sequence[Label] = ()  # of phones
    age_s: float = 0.0  # of the picture
    rate_hz: float = 0.0  # of the camera
    keys: Sequence[tuple[str, str]] = ()  # what can be pressed, and what it does


def draw(image: U8, caption: Caption) -> U8:
    """A new picture, of a size fit to be looked at, with the caption in it; `image` (h, w, 3) BGR stays."""
    canvas = enlarge(image)
    pen = Pen(canvas)
    away = caption.age_s > AWAY_S
    if away:
        cv2.convertScaleAbs(canvas, canvas, 0.35)
    badge_right = _badge(pen, caption, away)
    if caption.others:
        _others(pen, caption.others, badge_right)
    _label(pen, caption, away)
    return canvas


def enlarge(image: U8) -> U8:
    """A copy in a size fit to be looked at, its aspect kept."""
    height, width = image.shape[:2]
    scale = max(1.0, SMALLEST[0] / width, SMALLEST[1] / height)
    scale = min(scale, LARGEST[0] / width, LARGEST[1] / height)
    if scale == 1.0:
        return image.copy()
    size = (max(2, round(width * scale)), max(2, round(height * scale)))
    way = cv2.INTER_CUBIC if scale > 1.0 else cv2.INTER_AREA
    return np.asarray(cv2.resize(image, size, interpolation=way), np.uint8)


class Pen:
    """Draws on one picture, in units of a 480th of its height, or a 560th of its width if that is less."""

    def __init__(self, canvas: U8) -> None:
        self._canvas = canvas
        height, width = canvas.shape[:2]
        self._unit = float(min(height / 480, width / 560))
        self.width = float(width / self._unit)
        self.height = float(height / self._unit)

    def text(
        self, at: tuple[float, float], text: str, size: float, colour: Colour, font: int = PLAIN
    ) -> None:
        """`at`: left end of the base line; `size`: height of a capital."""
        cv2.putText(
            self._canvas, text, self._px(at), font, self._scale(size), colour, self._thick(size), cv2.LINE_AA
        )

    def long(self, text: str, size: float, font: int = PLAIN) -> float:
        """How wide a text is."""
        (width, _), _ = cv2.getTextSize(text, font, self._scale(size), self._thick(size))
        return float(width) / self._unit

    def cut(self, text: str, size: float, room: float, font: int = PLAIN) -> str:
        """As much of a text as there is room for."""
        if self.long(text, size, font) <= room:
            return text
        while text and self.long(text + "...", size, font) > room:
            text = text[:-1]
        return text.rstrip() + "..."

    def panel(self, left: float, top: float, right: float, bottom: float, radius: float = 9) -> None:
        """Darken a rectangle with round corners."""
        (x0, y0), (x1, y1) = self._px((left, top)), self._px((right, bottom))
        height, width = self._canvas.shape[:2]
        x0, y0, x1, y1 = max(0, x0), max(0, y0), min(width, x1), min(height, y1)
        if x1 <= x0 or y1 <= y0:
            return
        part = self._canvas[y0:y1, x0:x1]
        mask = np.zeros(part.shape[:2], np.uint8)
        r = min(round(radius * self._unit), (x1 - x0) // 2, (y1 - y0) // 2)
        cv2.rectangle(mask, (r, 0), (x1 - x0 - r - 1, y1 - y0), 255, -1)
        cv2.rectangle(mask, (0, r), (x1 - x0, y1 - y0 - r - 1), 255, -1)
        for corner in (
            (r, r),
            (x1 - x0 - r - 1, r),
            (r, y1 - y0 - r - 1),
            (x1 - x0 - r - 1, y1 - y0 - r - 1),
        ):
            cv2.circle(mask, corner, r, 255, -1, cv2.LINE_AA)
        keep = (1.0 - mask * ((1.0 - SHADE) / 255.0)).astype(np.float32)
        part[:] = part * keep[:, :, None]

    def bar(self, at: tuple[float, float], long: float, high: float, share: float, colour: Colour) -> None:
        """A horizontal bar, round at its ends, filled to `share`; `at`: left end of its middle line."""
        thick = max(1, round(high * self._unit))
        start, end = self._px(at), self._px((at[0] + long, at[1]))
        cv2.line(self._canvas, start, end, TRACK, thick, cv2.LINE_AA)
        if share > 0.0:
            cv2.line(self._canvas, start, self._px((at[0] + long * min(share, 1.0), at[1])), colour, thick,
                     cv2.LINE_AA)  # fmt: skip

    def dot(self, at: tuple[float, float], radius: float, colour: Colour) -> None:
        cv2.circle(self._canvas, self._px(at), max(1, round(radius * self._unit)), colour, -1, cv2.LINE_AA)

    def _px(self, at: tuple[float, float]) -> tuple[int, int]:
        return round(at[0] * self._unit), round(at[1] * self._unit)

    def _scale(self, size: float) -> float:
        return size * self._unit / 21.0  # a capital at scale 1 has 21 pixels

    def _thick(self, size: float) -> int:
        return max(1, round(size * self._unit / STROKE))


def shown(activity: str) -> str:
    """A label's name for people."""
    return activity.replace("_", " ")


def _badge(pen: Pen, caption: Caption, away: bool) -> float:
    """Top left: whose picture this is, and whether it is a live one; returns its right end."""
    what = f"no picture for {caption.age_s:.0f} s" if away else f"{caption.rate_hz:.0f} frames/s"
    name = pen.cut(caption.device, 10, 190)
    name_long = pen.long(name, 10, BOLD)
    right = 42 + name_long + 10 + pen.long(what, 10) + 12
    pen.panel(14, 14, right, 42)
    pen.dot((29, 28), 5, RED if away else ACCENT)
    pen.text((42, 33), name, 10, WHITE, BOLD)
    pen.text((42 + name_long + 10, 33), what, 10, SOFT)
    return right


def _others(pen: Pen, others: Sequence[Label], badge_right: float) -> None:
    """Top right: what phones say; below the badge where there is no room beside it."""
    rows = []
    for label in others[:MAX_OTHERS]:
        known = label.activity != UNKNOWN
        what = f"{shown(label.activity)} {label.confidence:.0%}" if known else UNKNOWN
        rows.append((pen.cut(label.prediction.device, 10, 110), pen.cut(what, 10, 170, BOLD), known))
    if len(others) > MAX_OTHERS:
        rows.append((f"and {len(others) - MAX_OTHERS} more", "", False))
    names = max(pen.long(name, 10) for name, _, _ in rows)
    whats = max(pen.long(what, 10, BOLD) for _, what, _ in rows)
    right = pen.width - 14
    left = right - 12 - names - 12 - whats - 12
    top = 14 if left > badge_right + 8 else 50
    pen.panel(left, top, right, top + 10 + 20 * len(rows))
    for i, (name, what, known) in enumerate(rows):
        base = top + 19 + 20 * i
        pen.text((left + 12, base), name, 10, SOFT)
        pen.text((left + 12 + names + 12, base), what, 10, WHITE if known else SOFT, BOLD if known else PLAIN)


def _label(pen: Pen, caption: Caption, away: bool) -> None:
    """Bottom: the activity, how sure it is and since when, and what else it might be."""
    label = caption.label
    left, top, right, bottom = 14.0, pen.height - 118, pen.width - 14, pen.height - 14
    pen.panel(left, top, right, bottom, 12)
    x, middle = left + 18, right - 222
    if label is None or label.activity == UNKNOWN:
        pen.text((x, top + 42), "..." if label is None else UNKNOWN, 24, SOFT, BOLD)
        note = "waiting for a clip" if label is None else label.reason or ""
        pen.text((x, top + 68), pen.cut(note, 10, middle - x - 20), 10, SOFT)
    else:
        colour = SOFT if away else ACCENT if label.confidence >= SURE else DOUBT
        name, room = shown(label.activity), middle - x - 16
        size = max(14.0, 24.0 * min(1.0, room / pen.long(name, 24, BOLD)))
        pen.text((x, top + 42), pen.cut(name, size, room, BOLD), size, SOFT if away else WHITE, BOLD)
        long = middle - x - 26 - pen.long("100%", 12, BOLD)
        pen.bar((x + 3, top + 64), long, 7, label.confidence, colour)
        pen.text((x + long + 14, top + 69), f"{label.confidence:.0%}", 12, SOFT if away else WHITE, BOLD)
    if label is not None:
        _top_three(pen, label, middle, top, right - 18, SOFT if away else ACCENT)
        lasts = f"for {duration(label.window_end_s - label.since_s)}"
        pen.text((x, bottom - 13), lasts, 9, SOFT)
        pen.text((x + pen.long(lasts, 9) + 14, bottom - 13), f"latency {label.latency_ms:.0f} ms", 9, SOFT)
    x = right - 18
    for key, what in reversed(caption.keys):
        x -= pen.long(what, 9)
        pen.text((x, bottom - 13), what, 9, SOFT)
        x -= pen.long(key, 9, BOLD) + 5
        pen.text((x, bottom - 13), key, 9, WHITE, BOLD)
        x -= 14


def _top_three(pen: Pen, label: Label, left: float, top: float, right: float, best: Colour) -> None:
    shares = sorted(label.prediction.probabilities.items(), key=lambda item: -item[1])[:3]
    for i, (name, share) in enumerate(shares):
        base = top + 25 + 22 * i
        pen.text((left, base), pen.cut(shown(name), 10, 122), 10, SOFT if i else WHITE)
        pen.bar((left + 130, base - 5), right - left - 133, 4, share, SOFT if i else best)
