"""Motion unlike anything trained on is `unknown`, and says why."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import hard
from hard.card import SensorCard, find_model, read_card
from hard.model import Model, load_model
from hard.settings import SmoothingSettings
from hard.smoothing import Smoother
from hard.synthetic import ACTIVITIES, SyntheticPhone
from hard.types import F32, G, Prediction, Windowing


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model("lstm-waist")


def push(model: Model, samples: F32) -> list[Prediction]:
    return list(hard.Recognizer(model).push("a", np.arange(len(samples)) / 50, samples))


def phone(seed: int) -> F32:
    """20 s of one activity."""
    return SyntheticPhone(seed, jitter_s=0.0).read(0, 1000)[1]


class Uniform:
    """A model of windows of any length that knows nothing."""

    def __init__(self, windowing: Windowing) -> None:
        card = read_card(find_model("lstm-waist"))
        assert isinstance(card, SensorCard)
        self.card = msgspec.structs.replace(card, windowing=windowing, state=0)

    def predict(self, x: F32) -> F32:
        return np.full((len(x), len(self.card.labels)), 1 / len(self.card.labels), np.float32)

    def step(self, x: F32, state: F32) -> tuple[F32, F32]:
        return self.predict(x), state

    def warm_up(self, batch: int = 1) -> None:
        pass


@pytest.mark.parametrize(("window", "hop"), [(125, 25), (51, 17), (4, 2), (64, 64)])
def test_windows_of_any_length_are_measured(window: int, hop: int) -> None:
    got = push(Uniform(Windowing(window=window, hop=hop)), phone(3))
    assert len(got) == (1000 - window) // hop + 1
    assert {p.reason for p in got} == {None}


@pytest.mark.parametrize("seed", range(len(ACTIVITIES)))
def test_what_it_was_trained_on_is_known(model: Model, seed: int) -> None:
    assert {p.reason for p in push(model, phone(seed))} == {None}


@pytest.mark.parametrize("seed", range(len(ACTIVITIES)))
@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda s: np.concatenate([s[:, :3] - s[:, :3].mean(axis=0), s[:, 3:]], axis=1), "no gravity"),
        (
            lambda s: np.concatenate([s[:, :3] / G, s[:, 3:]], axis=1),
            "no gravity.* expected m/s² with gravity",
        ),
        (lambda s: np.concatenate([s[:, :3] * G, s[:, 3:]], axis=1), r"acceleration is not in m/s²: \d"),
    ],
    ids=["linear acceleration", "g sent as m/s²", "m/s² sent as g"],
)
def test_wrong_units_and_missing_gravity_are_named(model: Model, seed: int, spoil, why: str) -> None:
    predictions = push(model, spoil(phone(seed)).astype(np.float32))
    assert predictions
    smoother = Smoother(SmoothingSettings())
    for p in predictions:
        assert p.activity == "unknown"
        assert p.confidence == 0
        steady = smoother.update(p)
        assert steady.activity == "unknown"
        assert steady.reason == p.reason
        assert re.match(why, p.reason or "")


@given(st.floats(3.0, 8.0), st.floats(1.0, 3.0))  # more, and the mean is no gravity any more
def test_shaking_is_more_than_it_knows(hz: float, g: float) -> None:
    t = np.arange(500) / 50
    samples = np.zeros((500, 6), np.float32)
    samples[:, 0] = G * (1 + 2 * g * np.sin(2 * np.pi * hz * t))  # rms 1.4 g or more
    predictions = push(load_model("lstm-waist"), samples)
    assert all("more movement than the model knows" in (p.reason or "") for p in predictions)


@pytest.mark.data
def test_hardly_a_known_window_is_lost(model: Model, data: Path) -> None:
    from hard.datasets.hapt import read_sessions

    lost = passing = known = 0
    for session in read_sessions(data, frozenset({1, 3, 5})):  # training people: thresholds are from them
        predictions = hard.Recognizer(model).push("a", session.recording.t, session.recording.samples)
        for _, first, last in session.segments / [1, 50, 50]:
            inside = [p for p in predictions if first <= p.t_end - 2.54 and p.t_end < last]
            known += len(inside)
            lost += sum(p.reason is not None and not p.passing for p in inside)
            passing += sum(p.passing for p in inside)
    assert known > 500
    assert lost == 0
    assert passing < 0.03 * known


@given(st.floats(10.0, 170.0), st.floats(0.0, 6.28))
def test_who_changes_posture_is_unknown_and_the_steady_label_goes_on(degrees: float, way: float) -> None:
    """Up turns from one half of a window to the other."""
    radians = np.radians(degrees)
    after = np.array([np.cos(radians), np.sin(radians) * np.cos(way), np.sin(radians) * np.sin(way)])
    samples = np.zeros((128, 6), np.float32)
    samples[:64, 0] = G
    samples[64:, :3] = G * after
    (p,) = push(load_model("lstm-waist"), samples)
    gravity = np.linalg.norm(samples[:, :3].mean(axis=0)) / G
    if gravity < 0.7:
        assert "no gravity" in (p.reason or "")
        return
    assert p.reason == f"between postures: up turned by {degrees:.0f} degrees"
    assert (p.activity, p.confidence, p.passing) == ("unknown", 0.0, True)
    steady = Smoother(SmoothingSettings(min_confidence=0.0)).update(p)  # such a window leaves much in doubt
    assert steady.activity == max(p.probabilities, key=p.probabilities.__getitem__)
