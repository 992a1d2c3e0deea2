"""How a phone is worn: whichever way it is turned, its stand and its walk turn it back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hard.datasets.hapt import LABELS, read_sessions
from hard.personal import gait
from hard.types import G, HardError
from tools.worn import angle_of, any_rotation, turned


def walker(seconds: float, rng: np.random.Generator) -> np.ndarray:
    """Somebody whose walk is much like the mean of other people's: (n, 3) m/s² in the models' axes."""
    phase = 2 * np.pi * 1.75 * np.arange(int(seconds * gait.RATE_HZ)) / gait.RATE_HZ
    vertical = 2.0 * np.cos(phase)
    horizontal = 5.0 * ((-0.07 + 0.07j) * np.cos(phase) + (-0.21 + 0.25j) * np.sin(phase))
    motion = np.stack([vertical, horizontal.real, horizontal.imag], axis=1) + rng.normal(
        0, 0.3, (len(phase), 3)
    )
    return motion @ gait.level(gait.UP) + G * gait.UP


def recording(
    rng: np.random.Generator, stand_s: float = 5.0, walk_s: float = 12.0
) -> tuple[np.ndarray, np.ndarray]:
    stand = G * gait.UP + rng.normal(0, 0.05, (int(stand_s * gait.RATE_HZ), 3))
    acc = np.concatenate([stand, walker(walk_s, rng)])
    return np.arange(len(acc)) / gait.RATE_HZ + 1000.0, acc


@given(st.integers(0, 2**32 - 1))
def test_any_turn_of_the_phone_is_turned_back(seed: int) -> None:
    rng = np.random.default_rng(seed)
    t, acc = recording(rng)
    turn = any_rotation(rng)
    worn = gait.fit(t, acc @ turn.T)
    assert worn.likeness > 0.8
    assert angle_of(np.array(worn.rotation) @ turn @ np.array(gait.fit(t, acc).rotation).T) < 0.1
    assert angle_of(np.array(worn.rotation) @ turn) < 20


@pytest.mark.parametrize("rate_hz", [25.0, 97.0, 200.0])
def test_other_rates_and_irregular_times_give_the_same(rate_hz: float) -> None:
    rng = np.random.default_rng(3)
    t, acc = recording(rng)
    at = np.sort(rng.uniform(t[0], t[-1], int((t[-1] - t[0]) * rate_hz)))
    other = np.stack([np.interp(at, t, acc[:, i]) for i in range(3)], axis=1)
    difference = np.array(gait.fit(at, other).rotation) @ np.array(gait.fit(t, acc).rotation).T
    assert angle_of(difference) < 8


def test_what_is_missing_is_said() -> None:
    rng = np.random.default_rng(0)
    t, acc = recording(rng)
    with pytest.raises(HardError, match="nobody stands still for 3 s in these 0 s"):
        gait.fit(t[:0], acc[:0])
    with pytest.raises(HardError, match="nobody walks for 10 s in these 4 s"):
        gait.fit(t[:249], acc[:249])
    with pytest.raises(HardError, match="nobody stands still"):
        gait.fit(t[250:], acc[250:])
    with pytest.raises(HardError, match=r"standing reads 0.1 g, expected 1"):
        gait.fit(t, acc - 0.9 * G * gait.UP)
    lying = np.concatenate([acc[:250, [1, 0, 2]], acc[250:]])
    with pytest.raises(HardError, match=r"up is \d+ degrees elsewhere in walking"):
        gait.fit(t, lying)
    shaken = np.concatenate([acc[:250], G * gait.UP + rng.normal(0, 3, (600, 3))])
    with pytest.raises(HardError, match="does not look like walking"):
        gait.fit(t, shaken)


def test_a_second_with_missing_samples_is_neither_stand_nor_walk() -> None:
    t, acc = recording(np.random.default_rng(0), stand_s=5.0)
    hole = (t >= t[0] + 2.1) & (t < t[0] + 3.0)
    assert np.isnan(gait.seconds(t[~hole], acc[~hole]).motion_g[2])
    assert gait.progress(gait.seconds(t[~hole][:200], acc[~hole][:200])) == (2, 0)
    assert gait.progress(gait.seconds(t, acc)) == (3, 10)


def test_a_clock_that_jumps_by_fifty_years_costs_no_memory() -> None:
    t, acc = recording(np.random.default_rng(0))
    jumped = np.where(t < t[0] + 1.5, t, t + 1.6e9)
    found = gait.seconds(jumped, acc)
    assert len(found.motion_g) < t[-1] - t[0] + 2
    assert np.isnan(found.motion_g[1])
    assert gait.progress(found)[1] == gait.progress(gait.seconds(t[t >= t[0] + 1.5], acc[t >= t[0] + 1.5]))[1]


@pytest.mark.data
def test_the_people_of_a_recording_are_found_as_they_wear_it(data: Path) -> None:
    """One recording; all of them are in `tools/evaluate.py calibration`."""
    (session,) = [s for s in read_sessions(data, frozenset({1})) if s.exp == 1]
    turn = any_rotation(np.random.default_rng(1))
    lost = turned(session.recording, turn)
    worn = gait.fit(lost.t, lost.samples[:, :3].astype(float))
    assert angle_of(np.array(worn.rotation) @ turn) < 35
    stands = [(a, b) for label, a, b in session.segments if LABELS[label] == "standing"]
    up = np.concatenate([lost.samples[a:b, :3] for a, b in stands]).mean(axis=0) @ np.array(worn.rotation).T
    assert gait.angle(up, gait.UP) < 10
