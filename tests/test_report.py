"""The page of all models: what it computes is right, what it draws is well-formed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hard.card import find_model, read_card
from hard.datasets import CHECKOUT
from hard.datasets.hapt import LABELS, TEST_USERS, read_official, read_sessions
from hard.model import load_model
from tools import pictures
from tools.own import evaluate_own
from tools.report import look_anywhere, mistakes, reliability, render
from tools.worn import evaluate_worn


def test_confidence_that_is_right_as_often_as_it_says_has_no_error() -> None:
    p = np.zeros((10, 6), np.float32)
    p[:, 0], p[:, 1] = 0.7, 0.3
    y = np.array([0] * 7 + [1] * 3)
    found = reliability(p, y)
    assert found.error == pytest.approx(0, abs=1e-6)
    assert (found.n, found.right) == ([10], [pytest.approx(0.7)])
    assert reliability(p, np.zeros(10, int)).error == pytest.approx(0.3)
    sure = np.eye(6, dtype=np.float32)[[0, 0]]
    assert reliability(sure, np.array([0, 1])).error == pytest.approx(0.5)


def test_mistakes_are_told_commonest_first() -> None:
    y, said = np.array([3, 3, 4, 0, 0, 3]), np.array([4, 4, 3, 0, 1, 3])
    assert mistakes(y, said, 1) == ["sitting taken for standing (2 windows)"]
    assert mistakes(y[:0], said[:0]) == []


@given(st.lists(st.lists(st.integers(0, 1000), min_size=6, max_size=6), min_size=6, max_size=6))
def test_pictures_are_well_formed(counts: list[list[int]]) -> None:
    shares = [min(1.0, row[0] / 1000) for row in counts]
    for svg in (
        pictures.confusion([*LABELS[:5], "<&>"], counts),
        pictures.bars(["a<b", *LABELS[:5]], shares),
        pictures.reliability(shares, shares, [row[1] + 1 for row in counts]),
    ):
        root = ElementTree.fromstring(svg)
        assert float(root.attrib["width"]) > 0


def test_a_model_without_measurements_has_its_card_on_the_page() -> None:
    card = read_card(find_model("lstm-waist"))
    page = render(card, None)
    assert card.name in page
    assert all(f.command in page for f in card.figures)
    assert "Confusion" not in page


@pytest.mark.data
def test_the_report_is_one_page_with_everything(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    command = [sys.executable, "tools/evaluate.py", "report", "--model", "lstm-waist", "--out", str(out)]
    done = subprocess.run(
        [*command, "--data", str(data)], cwd=CHECKOUT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    page = out.read_text("utf-8")
    assert page.count("<svg") == 4
    for what in (
        "Known failures",
        "Expected calibration error",
        "user 9",
        "turned, calibrated",
        "in a trouser pocket",
    ):
        assert what in page
    assert "http-equiv" not in page
    assert "src=" not in page  # nothing is loaded from elsewhere


@pytest.mark.data
def test_a_model_of_other_labels_is_on_the_page_too(data: Path) -> None:
    found = look_anywhere(load_model("lstm-pocket"), data)
    page = render(read_card(find_model("lstm-pocket")), found)
    assert page.count("<svg") == 4
    assert "phone turned" in page
    assert found.confusion.sum() > 2000
    assert np.trace(found.confusion) / found.confusion.sum() > 0.9
    assert sorted(found.people) == sorted(TEST_USERS)


@pytest.mark.data
def test_calibration_and_a_head_help_somebody_from_training(data: Path) -> None:
    """The figures themselves are of people left out: tools/evaluate.py calibration and personal."""
    model, sessions = load_model("lstm-waist"), read_sessions(data, frozenset({1}))
    worn = evaluate_worn(model, sessions, read_official(data, "train"))
    assert worn.refused == []
    assert worn.accuracy["turned"] < 0.7
    assert worn.accuracy["turned, calibrated"] > 0.9
    assert max(worn.error_deg) < 1
    own = evaluate_own(model, sessions, calibrated=True)
    assert [g.way for g in own.gains] == ["minute", "other day", "other day"]
    assert all(g.after >= g.before - 0.02 for g in own.gains)
    assert own.fit_s < 60
