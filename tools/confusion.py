"""What was taken for what: a table of truth against prediction, for any set of labels."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from tools.scores import confusion_matrix


class Confusion(msgspec.Struct, frozen=True):
    """How often each activity was taken for each."""

    labels: list[str]
    counts: list[list[int]]  # rows: truth, columns: prediction
    n: int
    accuracy: float
    recall: dict[str, float]  # of the activities that occur

    @staticmethod
    def of(labels: Sequence[str], y: NDArray[np.int64], predicted: NDArray[np.int64]) -> Confusion:
        """y and predicted: (N,) indices into labels."""
        counts = confusion_matrix(y, predicted, len(labels))
        truth = counts.sum(axis=1)
        recall = {label: float(counts[i, i] / truth[i]) for i, label in enumerate(labels) if truth[i]}
        return Confusion(list(labels), counts.tolist(), len(y), float((y == predicted).mean()), recall)


def show(title: str, c: Confusion, console: Console) -> None:
    table = Table(title=f"{title}: {100 * c.accuracy:.2f} % of {c.n:,} windows", title_justify="left")
    table.add_column("truth")
    for name in c.labels:
        table.add_column(name.replace("walking_", ""), justify="right")
    table.add_column("recall", justify="right")
    for label, row in zip(c.labels, c.counts, strict=True):
        if label in c.recall:
            table.add_row(label, *(str(n) if n else "." for n in row), f"{100 * c.recall[label]:.1f} %")
    console.print(table)
