"""What a model knows of a device's past is the same however samples come, and ends where its windows do."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hard
from hard.card import SensorCard, find_model, list_models, read_card
from hard.model import MAX_BATCH, in_batches
from hard.roster import Roster
from hard.synthetic import SyntheticPhone
from hard.types import F32, F64, Prediction

WITH_STATE = [
    path.name for path in list_models() if isinstance(card := read_card(path), SensorCard) and card.state
]


def samples(n: int, channels: int) -> tuple[F64, F32]:
    t, x = SyntheticPhone(3).read(0, n)
    return t, x[:, :channels]


def channels_of(name: str) -> int:
    card = read_card(find_model(name))
    assert isinstance(card, SensorCard)
    return 6 if "gyro_x" in card.channels else 3


def shares(predictions: Sequence[Prediction]) -> F64:
    return np.array([list(p.probabilities.values()) for p in predictions])


def recognizer(name: str) -> hard.Recognizer:
    return hard.Recognizer(name, acc_model=name)


def test_models_of_motion_have_a_state() -> None:
    assert {"lstm-waist", "lstm-acc", "lstm-pocket"} <= set(WITH_STATE)


@pytest.mark.parametrize("name", WITH_STATE)
@settings(max_examples=10, deadline=None)
@given(cuts=st.lists(st.integers(1, 900), min_size=1, max_size=12))
def test_pieces_of_any_size_say_the_same(name: str, cuts: list[int]) -> None:
    t, x = samples(2500, channels_of(name))
    whole = shares(recognizer(name).push("a", t, x))  # a batch of 38 windows of one device
    pieces, at, r = [], 0, recognizer(name)
    while at < len(t):
        size = cuts[len(pieces) % len(cuts)]
        pieces.append(r.push("a", t[at : at + size], x[at : at + size]))
        at += size
    np.testing.assert_allclose(shares([p for piece in pieces for p in piece]), whole, rtol=0, atol=0.02)


@pytest.mark.parametrize("name", WITH_STATE)
def test_after_a_gap_nothing_is_known_from_before(name: str) -> None:
    t, x = samples(2000, channels_of(name))
    r, fresh = recognizer(name), recognizer(name)
    r.push("a", t[:1000], x[:1000])
    later = shares(r.push("a", t[1000:] + 5.0, x[1000:]))
    np.testing.assert_allclose(later, shares(fresh.push("a", t[1000:], x[1000:])), rtol=0, atol=0.02)


@pytest.mark.parametrize("name", WITH_STATE)
def test_devices_do_not_remember_each_other(name: str) -> None:
    t, x = samples(1500, channels_of(name))
    alone, r = shares(recognizer(name).push("a", t, x)), recognizer(name)
    mixed: list[Prediction] = []
    for i in range(0, 1500, 100):
        mixed += r.push("a", t[i : i + 100], x[i : i + 100])
        r.push("b", t[i : i + 100], x[::-1][i : i + 100])
    np.testing.assert_allclose(shares(mixed), alone, rtol=0, atol=0.02)


@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.booleans()), max_size=60))
def test_a_row_is_one_name_s(steps: list[tuple[str, bool]]) -> None:
    roster, expected = Roster(), dict[str, int]()
    for name, comes in steps:
        if comes and name not in expected:
            expected[name] = roster.add(name)
        elif not comes:
            assert roster.remove(name) == expected.pop(name, None)
        assert {n: roster.row(n) for n in "abcdefgh" if roster.row(n) is not None} == expected
        assert sorted(roster.rows()) == sorted(set(expected.values()))
        assert all(roster.name(row) == n for n, row in expected.items())
        assert len(roster) == len(expected)
    assert max(roster.rows(), default=0) < 8  # rows are used again


@given(st.integers(1, 2000))
def test_batches_are_even_and_no_larger_than_may_be(n: int) -> None:
    parts = in_batches(n)
    sizes = [part.stop - part.start for part in parts]
    assert [i for part in parts for i in range(n)[part]] == list(range(n))
    assert max(sizes) <= MAX_BATCH
    assert max(sizes) - min(sizes) <= 1
    assert (len(parts) - 1) * MAX_BATCH < n
