"""From a confusion matrix to the figures that are usually asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

BINS: Final = 15  # of confidence, equally wide, in the expected calibration error


class ClassScore(msgspec.Struct, frozen=True):
    """One activity's scores, 0-1, and how many examples truly are that activity."""

    precision: float
    recall: float
    f1: float
    n: int


class Mean(msgspec.Struct, frozen=True):
    """Precision, recall and F1 over all classes, 0-1."""

    precision: float
    recall: float
    f1: float


class Scores(msgspec.Struct, frozen=True):
    """What predictions are worth; classes that no example has count in micro only."""

    n: int
    accuracy: float
    micro: Mean  # every example alike: with one label an example all three are the accuracy
    macro: Mean  # every class alike
    labels: list[str]
    per_class: dict[str, ClassScore]
    confusion: list[list[int]]  # rows: truth, columns: prediction


def confusion_matrix(
    y: NDArray[np.integer], predicted: NDArray[np.integer], labels: int
) -> NDArray[np.int64]:
    """(labels, labels): rows truth, columns prediction."""
    confusion = np.zeros((labels, labels), np.int64)
    np.add.at(confusion, (y, predicted), 1)
    return confusion


def calibration_error(confidence: NDArray[np.floating], right: NDArray[np.bool_]) -> float:
    """Expected calibration error: |share right - mean confidence| (N,) per bin, weighed by its windows.

    Method: Guo et al., On Calibration of Modern Neural Networks (2017).
    """
    gaps = np.bincount(bins(confidence), right - confidence.astype(np.float64))
    return float(np.abs(gaps).sum() / len(right))


def bins(confidence: NDArray[np.floating]) -> NDArray[np.int64]:
    """Which of BINS bins of equal width each confidence, 0-1, lies in."""
    return np.minimum((confidence * BINS).astype(np.int64), BINS - 1)


def per_class(confusion: NDArray[np.int64], labels: Sequence[str]) -> dict[str, ClassScore]:
    hits = np.diag(confusion)
    truth, said = confusion.sum(axis=1), confusion.sum(axis=0)
    precision, recall = hits / np.maximum(said, 1), hits / np.maximum(truth, 1)
    f1 = 2 * hits / np.maximum(truth + said, 1)
    return {
        label: ClassScore(float(precision[i]), float(recall[i]), float(f1[i]), int(truth[i]))
        for i, label in enumerate(labels)
    }


def scores(y: NDArray[np.integer], predicted: NDArray[np.integer], labels: Sequence[str]) -> Scores:
    """All figures of predictions (N,) for the truth y (N,), both indices into labels."""
    confusion = confusion_matrix(y, predicted, len(labels))
    classes = per_class(confusion, labels)
    present = [c for c in classes.values() if c.n]
    accuracy = float(np.trace(confusion) / max(confusion.sum(), 1))
    return Scores(
        n=len(y),
        accuracy=accuracy,
        micro=Mean(accuracy, accuracy, accuracy),
        macro=Mean(
            float(np.mean([c.precision for c in present])),
            float(np.mean([c.recall for c in present])),
            float(np.mean([c.f1 for c in present])),
        ),
        labels=list(labels),
        per_class=classes,
        confusion=confusion.tolist(),
    )


def show(result: Scores, title: str, console: Console) -> None:
    console.print(
        f"[bold]{title}[/bold]: accuracy {100 * result.accuracy:.2f} % of {result.n:,}; precision, "
        f"recall, F1 {_triple(result.micro)} (micro), {_triple(result.macro)} (macro)"
    )
    console.print(*tables(result.labels, result.per_class, result.confusion))


def tables(
    labels: Sequence[str], classes: dict[str, ClassScore], matrix: Sequence[Sequence[int]]
) -> tuple[Table, Table]:
    """Scores by class, and the confusion matrix."""
    scored = Table()
    confusion = Table(title="rows: truth, columns: prediction")
    numbers = [str(i + 1) for i in range(len(labels))]
    for table, titles in ((scored, ["precision", "recall", "F1", "n"]), (confusion, numbers)):
        table.add_column("activity")
        for title in titles:
            table.add_column(title, justify="right")
    for i, label in enumerate(labels):
        c = classes[label]
        if not c.n:  # its column shows what was taken for it
            continue
        name = f"{i + 1} {label}"
        scored.add_row(name, f"{c.precision:.3f}", f"{c.recall:.3f}", f"{c.f1:.3f}", f"{c.n:,}")
        confusion.add_row(name, *(str(n) if n else "." for n in matrix[i]))
    return scored, confusion


def _triple(mean: Mean) -> str:
    return f"{mean.precision:.3f} {mean.recall:.3f} {mean.f1:.3f}"
