"""How lstm-pocket is trained: what a draw holds, what is changed in it, and that test people stay out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rich.progress import Progress
from torch import Tensor

import hard
from hard.datasets import hapt
from hard.nets.pocket import MOVING, LstmPocket
from hard.types import Windowing
from tools.pocket_pool import (
    LABELS,
    PERSON,
    SETS,
    at_hops,
    draw,
    draw_runs,
    read_pocket_pool,
    shares,
)
from tools.pocket_style import Styles, coloured, loudness, styled
from tools.pool import Pool
from tools.train_pocket import Pools, augment, elsewhere, train
from tools.train_pocket import test as judged

W = Windowing()


def small_pool() -> Pool:
    """Two people in each of two sets; gaits that differ in rate, postures in the size of their sway."""
    torch.manual_seed(0)
    parts, spans, at = [], [], 0
    for kind in (0, 1):
        for y in range(len(LABELS)):
            t = torch.arange(1500) / 50
            x = 0.002 * torch.randn(1500, 6) * (1 + 5 * max(y - MOVING, 0))
            if y < MOVING:
                x[:, 3] += 0.3 * torch.sin(2 * np.pi * (1 + y) * t)
            x[:, 3] += 1
            parts.append(x)
            spans += [(at + 700 * i, 500, y, PERSON * kind + 1 + i, kind) for i in range(2)]
            at += 1500
    return Pool(torch.cat(parts), np.array(spans, np.int64), W.window)


def fit(pool: Pool, seed: int, steps: int) -> LstmPocket:
    with Progress(disable=True) as progress:
        return train(pool, seed, steps, progress, "test")


def test_training_learns_gaits_and_postures() -> None:
    pool = small_pool()
    net = fit(pool, 0, 60)
    starts, spans = at_hops(pool, 64)
    with torch.no_grad():
        alone = net(pool.windows(starts)).argmax(dim=1).numpy()
    results = judged(net, Pools(pool, pool))
    said = results.logits.argmax(dim=1).numpy()
    assert (said == pool.spans[spans, 2]).mean() > 0.9
    np.testing.assert_array_equal(results.alone, alone)


def test_the_same_seed_gives_the_same_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tools.train_pocket.POSTURE_STEPS", 5)
    pool = small_pool()
    a, b, c = (fit(pool, seed, 2).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not torch.equal(a["head.weight"], c["head.weight"])


def test_rare_activities_and_small_sets_weigh_by_the_square_root() -> None:
    spans = np.array([[0, 900, 0, 1, 0], [2000, 100, 1, 1, 0], [3000, 400, 4, 101, 1]])
    np.testing.assert_allclose(shares(spans), np.array([30, 10, 20]) / 60)
    starts, y, kind = draw(spans, 500, np.random.default_rng(0))
    assert ((starts >= 2000) & (starts < 2100))[y == 1].all()
    assert torch.equal(kind == 1, starts >= 3000)


def test_where_a_place_has_one_gait_it_counts_little() -> None:
    spans = np.array([[0, 400, 0, 1, 0], [500, 400, 1, 1, 0], [1000, 400, 0, 201, 2], [1500, 400, 4, 201, 2]])
    np.testing.assert_allclose(shares(spans), np.array([10, 10, 1, 10]) / 31)
    stairs_in_another_pocket = np.array([[2000, 400, 1, 101, 1]])
    np.testing.assert_allclose(shares(np.concatenate([spans, stairs_in_another_pocket])), np.full(5, 0.2))


@given(seed=st.integers(0, 1000))
def test_runs_are_a_hop_apart_and_end_with_their_stretch(seed: int) -> None:
    spans = np.array([[0, 400, 4, 1, 0], [2000, 1, 5, 1, 0], [3000, 70, 6, 101, 1]])
    starts, there, y = draw_runs(spans, 40, 5, 64, np.random.default_rng(seed))
    assert there[:, 0].all()
    assert (starts.diff(dim=1) == 64).all()
    for run, exists, label in zip(starts, there, y, strict=True):
        ((first, n),) = spans[spans[:, 2] == int(label), :2]
        assert torch.equal(exists, run < first + n)
        assert int(run[0]) >= first


def test_a_stretch_knows_nothing_of_another() -> None:
    pool = small_pool()
    net = LstmPocket(len(LABELS)).eval()
    backwards = Pool(pool.stream, pool.spans[::-1].copy(), pool.window)
    results = judged(net, Pools(pool, pool))
    other = judged(net, Pools(backwards, backwards))
    begins = np.cumsum([0, *(-(-n // 64) for n in backwards.spans[:, 1])])
    order = np.concatenate([np.arange(a, b) for a, b in zip(begins[-2::-1], begins[:0:-1], strict=True)])
    torch.testing.assert_close(results.logits, other.logits[torch.from_numpy(order)])
    assert not (results.logits[begins[:-1]] == 0).all()
    with torch.no_grad():
        first = net(pool.windows(torch.from_numpy(pool.spans[:, 0].copy())))
    torch.testing.assert_close(results.logits[begins[:-1]], first)


def test_augmentation_keeps_gravity_and_changes_speed() -> None:
    torch.manual_seed(0)
    t = torch.arange(4000) / 50
    stream = torch.zeros(4000, 6)
    stream[:, 5] = 1.0
    stream[:, 3] = 0.2 * torch.sin(2 * np.pi * 2 * t)
    x = augment(Pool(stream, np.zeros((0, 5), np.int64), 128), torch.arange(500, 2500, 50))
    torch.testing.assert_close(x[:, :, 5], torch.ones(40, 128))
    crossings: Tensor = ((x[:, 1:, 3] > 0) != (x[:, :-1, 3] > 0)).sum(dim=1)
    assert crossings.float().std() > 0.5
    assert 0.1 < float(x[:, :, 3].std()) < 0.2


def test_a_phone_elsewhere_on_a_turning_limb_feels_what_moves_it_there() -> None:
    """Of a thigh that swings by 20 degrees, 0.2 m below the hip: the second derivative of the place."""
    t = torch.arange(200) / 50
    angle = 0.35 * torch.sin(2 * np.pi * t)
    gyro = torch.zeros(1, 200, 3)
    gyro[0, :, 0] = torch.gradient(angle)[0] * 50
    felt = elsewhere(gyro, torch.tensor([[[0.0, 0.0, -0.2]]]))[0]  # (T, 3) g, in the thigh's own axes
    place = 0.2 * torch.stack([torch.zeros(200), angle.sin(), -angle.cos()], dim=1)
    wanted = torch.gradient(torch.gradient(place, dim=0)[0], dim=0)[0] * 2500 / hard.types.G
    cos, sin = angle.cos(), angle.sin()
    level = torch.stack(
        [felt[:, 0], cos * felt[:, 1] - sin * felt[:, 2], sin * felt[:, 1] + cos * felt[:, 2]], dim=1
    )
    torch.testing.assert_close(level[5:-5], wanted[5:-5], atol=0.01, rtol=0)


def test_a_random_filter_keeps_gravity_and_what_rests() -> None:
    torch.manual_seed(0)
    acc = torch.zeros(4, 3, 128)
    acc[:, 2] = 1.0
    torch.testing.assert_close(coloured(acc), acc)
    acc[:, 0] = torch.randn(4, 128)
    changed = coloured(acc)
    torch.testing.assert_close(changed.mean(dim=2), acc.mean(dim=2))
    assert float((changed - acc)[:, 0].std(dim=1).min()) > 0.02


def test_a_set_is_given_anothers_spectrum_and_rest_is_left_alone() -> None:
    """Two sets that walk alike, but for the second's steps being four times as large."""
    torch.manual_seed(0)
    x = torch.cat([torch.zeros(4000, 3), 0.1 * torch.randn(4000, 3)], dim=1)
    x[2000:, 3:] *= 4
    x[:, 5] += 1.0
    pool = Pool(x, np.array([[0, 1800, 0, 1, 0], [2000, 1800, 0, 101, 1]]), W.window)
    rng = np.random.default_rng(0)
    styles = Styles(pool, rng)
    windows, y = pool.windows(torch.arange(0, 1600, 16)), torch.tensor([0, MOVING]).repeat(50)
    changed = styles(windows, y, torch.zeros(100, dtype=torch.int64), rng)
    assert torch.equal(changed[1::2], windows[1::2])
    grown = (loudness(changed[:, :, 5:].transpose(1, 2)) - loudness(windows[:, :, 5:].transpose(1, 2))).mean(
        dim=2
    )
    assert 0.3 < float((grown[::2] > 0.05).float().mean()) < 0.7
    assert 0.5 < float(grown.max()) < 1.6
    torch.testing.assert_close(styled(windows, torch.zeros(3, 100, 1, 8)), windows, atol=1e-4, rtol=0)


@pytest.mark.data
def test_the_pool_holds_all_three_sets_and_no_test_person(data: Path) -> None:
    pool = read_pocket_pool(data, W, SETS)
    people = [set((pool.users[pool.users // PERSON == k] % PERSON).tolist()) for k in range(3)]
    assert people[0] == set(range(1, 31)) - hapt.TEST_USERS
    assert people[1] == set(range(1, 17))
    assert people[2] == set(range(1, 24))
    up = pool.windows(at_hops(pool, 640)[0])[:, :, 3:].mean(dim=1).norm(dim=1)
    assert float(up.median()) == pytest.approx(1, abs=0.05)
    assert float(((up > 0.8) & (up < 1.4)).float().mean()) > 0.99
    test = read_pocket_pool(data, W, ["hapt"], hapt_test=True)
    assert set(test.users.tolist()) == hapt.TEST_USERS
