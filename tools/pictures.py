"""Plots as SVG text, for the report and beside the cards: no packages, no pixels."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Final

CELL: Final = 46  # pixels
MARGIN: Final = 150
STYLE: Final = 'xmlns="http://www.w3.org/2000/svg" font-family="sans-serif" font-size="12"'


def confusion(labels: Sequence[str], counts: Sequence[Sequence[int]]) -> str:
    """A confusion matrix, rows the truth, columns what was said; darker is a greater share of the row."""
    n = len(labels)
    names = [label.replace("_", " ") for label in labels]
    parts = [_text(MARGIN + n * CELL / 2, 14, "said", "middle"), _text(4, MARGIN - 8, "truth")]
    for i, name in enumerate(names):
        middle = MARGIN + (i + 0.6) * CELL
        parts.append(_text(MARGIN - 6, middle, name, "end"))
        parts.append(
            f'<text transform="translate({middle - 3:.0f} {MARGIN - 6}) rotate(-45)">{escape(name)}</text>'
        )
        total = max(1, sum(counts[i]))
        for j, count in enumerate(counts[i]):
            share = count / total
            x, y = MARGIN + j * CELL, MARGIN + i * CELL
            shade = f"rgb({255 - 215 * share:.0f},{255 - 150 * share:.0f},{255 - 75 * share:.0f})"
            parts.append(
                f'<rect x="{x}" y="{y}" width="{CELL}" height="{CELL}" fill="{shade}" stroke="#ccc"/>'
            )
            if count:
                colour = "#fff" if share > 0.6 else "#000"
                parts.append(_text(x + CELL / 2, y + CELL / 2 + 4, str(count), "middle", colour))
    size = MARGIN + n * CELL
    return f'<svg {STYLE} width="{size + 60}" height="{size + 4}">{"".join(parts)}</svg>'


def reliability(confidence: Sequence[float], right: Sequence[float], n: Sequence[int]) -> str:
    """Bins of windows: their mean confidence, the share that is right, how many; the diagonal is ideal."""
    size, left = 260, 50

    def at(x: float, y: float) -> tuple[float, float]:
        return left + size * x, 10 + size * (1 - y)

    parts = [f'<rect x="{left}" y="10" width="{size}" height="{size}" fill="none" stroke="#999"/>']
    (x0, y0), (x1, y1) = at(0, 0), at(1, 1)
    parts.append(f'<line x1="{x0}" y1="{y0}" x2="{x1}" y2="{y1}" stroke="#999" stroke-dasharray="4"/>')
    for c, r, k in zip(confidence, right, n, strict=True):
        x, y = at(c, r)
        radius = 2 + 10 * (k / max(n)) ** 0.5
        parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" fill="#2869b4" fill-opacity="0.6"/>'
        )
    for tick in (0, 0.5, 1):
        parts.append(_text(at(tick, 0)[0], size + 26, f"{100 * tick:.0f} %", "middle"))
        parts.append(_text(left - 6, at(0, tick)[1] + 4, f"{100 * tick:.0f} %", "end"))
    parts.append(_text(left + size / 2, size + 44, "confidence", "middle"))
    parts.append(
        f'<text transform="translate(12 {10 + size / 2}) rotate(-90)" text-anchor="middle">right</text>'
    )
    return f'<svg {STYLE} width="{left + size + 20}" height="{size + 52}">{"".join(parts)}</svg>'


def bars(names: Sequence[str], shares: Sequence[float]) -> str:
    """Shares 0-1 as bars, one a line."""
    parts = []
    for i, (name, share) in enumerate(zip(names, shares, strict=True)):
        y = 20 * i
        parts.append(_text(MARGIN - 6, y + 14, name.replace("_", " "), "end"))
        parts.append(f'<rect x="{MARGIN}" y="{y + 2}" width="{300 * share:.1f}" height="15" fill="#2869b4"/>')
        parts.append(_text(MARGIN + 306, y + 14, f"{100 * share:.1f} %"))
    return f'<svg {STYLE} width="{MARGIN + 370}" height="{20 * len(names)}">{"".join(parts)}</svg>'


def _text(x: float, y: float, text: str, anchor: str = "start", colour: str = "#000") -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}" fill="{colour}">{escape(text)}</text>'
