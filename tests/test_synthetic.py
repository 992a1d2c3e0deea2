"""Synthetic phones: plausible, repeatable, and called synthetic wherever they show."""

from __future__ import annotations

import numpy as np
import pytest

from hard.recognizer import Recognizer
from hard.synthetic import ACTIVITIES, MOTIONS, NAME, SyntheticPhone
from hard.types import G
from tools.swarm import DEVICE


def test_the_name_says_it() -> None:
    assert "synthetic" in NAME
    assert "synthetic" in DEVICE


def test_the_same_seed_is_the_same_person() -> None:
    a, b, c = (SyntheticPhone(seed).read(0, 500)[1] for seed in (3, 3, 4))
    assert (a == b).all()
    assert not (a == c).all()


@pytest.mark.parametrize("activity", MOTIONS)
def test_gravity_is_one_g_and_motion_is_in_human_range(activity: str) -> None:
    seed = ACTIVITIES.index(activity)
    _, samples = SyntheticPhone(seed).read(0, 1000)
    mean = np.linalg.norm(samples[:, :3].mean(axis=0))
    assert mean == pytest.approx(G, rel=0.06)
    assert samples[:, :3].std(axis=0).max() < 1.0 * G
    assert np.abs(samples[:, 3:]).max() < 10
    moving = activity.startswith("walking")
    assert (samples[:, :3].std(axis=0).max() > 0.1 * G) == moving


def test_times_increase_at_the_rate() -> None:
    t, _ = SyntheticPhone(0, rate_hz=100.0).read(0, 1000)
    assert (np.diff(t) > 0).all()
    assert np.diff(t).mean() == pytest.approx(0.01, rel=1e-3)


def test_the_waist_model_knows_most_of_what_they_do() -> None:
    """A demo that shows nonsense would be worse than none."""
    right = total = 0
    for seed in range(12):
        phone = SyntheticPhone(seed, dwell_s=20.0)
        for p in Recognizer("lstm-waist").push("x", *phone.read(0, 6000)):
            if (p.t_end % 20.0) > 4.0:  # the window lies within one activity
                right += p.activity == phone.activity(p.t_end)
                total += 1
    assert right / total > 0.9
