"""What tools/evaluate.py stream counts: flaps, delays and the share right, on made-up labels."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest

from conftest import ROOT
from tools.stream import Labelled, Steadiness, delays, steadiness

W, S, D = "walking", "sitting", "standing"


def judge(*labels: str) -> tuple[Steadiness, list[float]]:
    """A window a second, ending at 1, 2, ... s; walking until 10 s, sitting from 12 s to 22 s."""
    segments = np.array([[0, 0, 500], [3, 600, 1100]])
    r = Labelled(np.arange(1.0, len(labels) + 1), list(labels), segments, 25.0)
    return steadiness([r], window_s=2.0, hop_s=1.0), delays(r)


@pytest.mark.parametrize(
    ("labels", "flaps", "delay_s"),
    [
        ([W] * 11 + [S] * 12, 0, 0.0),
        ([W] * 15 + [S] * 8, 0, 4.0),  # a late answer is late, no flap
        ([W] * 4 + [S] + [W] * 10 + [S] * 8, 2, 4.0),  # there and back
        ([W] * 9 + [D, W, D, D] + [S] * 10, 0, 2.0),  # where the truth is not known, nothing is a flap
        ([W] * 15 + [D] * 3 + [S] * 5, 0, 7.0),  # a wrong answer and its correction: not right, but no flaps
        ([W] * 15 + [D, W, D] + [S] * 5, 2, 7.0),
        ([W] * 23, 0, np.inf),
    ],
)
def test_flaps_and_delays(labels: list[str], flaps: int, delay_s: float) -> None:
    got, waits = judge(*labels)
    assert got.flaps == flaps
    assert waits == [delay_s]
    assert got.missed == (delay_s == np.inf)
    assert got.delay_median_s == delay_s


def test_the_share_right_is_of_windows_with_a_truth() -> None:
    got, _ = judge(*[W] * 11, *[S] * 6, *[D] * 6)
    truth = 8 + 8  # windows that end at 2-9 s and 14-21 s
    assert got.right == pytest.approx((truth - 4) / truth)  # those that end at 18-21 s


def test_each_activity_and_the_transitions_are_reported_apart() -> None:
    got, _ = judge(*[W] * 11, *[D], *[S] * 6, *[D] * 5)
    assert got.right_by == {W: 1.0, S: pytest.approx(5 / 8)}  # 14-18 s of 14-21 s
    assert got.in_transition == pytest.approx(3 / 4)  # windows that end at 10-13 s; that of 12 s is wrong


@pytest.mark.data
def test_steady_labels_hold_what_the_readme_says(data: Path) -> None:
    """On the test people: a sixth of the flaps, at most one hop (1.28 s) more delay, 98 % right."""
    done = subprocess.run(
        [sys.executable, "tools/evaluate.py", "stream", "--data", str(data), "--json"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    score = msgspec.json.decode(done.stdout)
    raw, steady = score["raw"], score["steady"]
    assert score["recordings"] == 19
    assert steady["flaps"] <= raw["flaps"] / 6
    assert steady["delay_median_s"] <= raw["delay_median_s"] + 1.28
    assert steady["delay_median_s"] <= 2.2
    assert steady["right"] >= max(0.98, raw["right"])
    assert score["unknown"] < 0.01
