"""Curves and confusion matrices as PNG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hard.types import HardError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def _figure(width: float, height: float) -> Figure:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise HardError(
            "plots need matplotlib, which is not installed: pip install -c constraints.txt -e '.[train]'"
        ) from None
    return Figure((width, height), layout="constrained")


def require() -> None:
    """Raises HardError without matplotlib, before and not after hours of training."""
    _figure(1, 1)


def curves(path: Path, history: Mapping[str, Sequence[float]], title: str) -> None:
    """One panel for losses, one for shares (names that end in accuracy), over the epochs."""
    figure = _figure(9, 3.5)
    left, right = figure.subplots(1, 2)
    for name, values in history.items():
        panel = right if name.endswith("accuracy") else left
        panel.plot(range(1, len(values) + 1), values, label=name)
    for panel, what in ((left, "loss"), (right, "accuracy")):
        panel.set(xlabel="epoch", ylabel=what)
        panel.grid(alpha=0.3)
        if panel.lines:
            panel.legend()
    figure.suptitle(title)
    figure.savefig(path, dpi=120)


def confusion(path: Path, matrix: Sequence[Sequence[int]], labels: Sequence[str], title: str) -> None:
    """Counts, rows truth and columns prediction, coloured by their share of the row."""
    size = 2.0 + 0.55 * len(labels)
    figure = _figure(size + 1, size)
    axes = figure.subplots()
    shares = [[n / max(sum(row), 1) for n in row] for row in matrix]
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for i, row in enumerate(matrix):
        for j, n in enumerate(row):
            if n:
                axes.text(j, i, str(n), ha="center", va="center", color="w" if shares[i][j] > 0.5 else "k")
    axes.set_xticks(range(len(labels)), labels, rotation=60, ha="right")
    axes.set_yticks(range(len(labels)), labels)
    axes.set(xlabel="prediction", ylabel="truth", title=title)
    figure.savefig(path, dpi=120)
