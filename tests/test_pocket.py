"""lstm-pocket: however the phone is turned, the answer is the same; its training keeps test people out."""

from __future__ import annotations

import warnings
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.progress import Progress
from scipy.spatial.transform import Rotation
from torch import Tensor

import hard
from hard.card import read_card
from hard.datasets import CHECKOUT, hapt
from hard.model import Model, load_model
from hard.nets.hip import hip, solved
from hard.nets.level import SWAY, SWAY_SIGNALS, rotate, still_frame, sway, turned, turning
from hard.nets.pocket import ARM_RIDGE, MOVED_G, MOVING, STILL, LstmPocket
from hard.nets.rest import FADE
from hard.synthetic import SyntheticPhone
from hard.types import F32, Windowing
from tools.confusion import Confusion
from tools.evaluate_sets import evaluate
from tools.export import Stepping, check_export
from tools.pocket_pool import (
    LABELS,
    PERSON,
    SETS,
    TEMPERATURE,
    at_hops,
    draw,
    draw_runs,
    read_pocket_pool,
    shares,
)
from tools.pocket_style import Styles, coloured, loudness, styled
from tools.pool import Pool
from tools.stretches import in_stretches
from tools.train_pocket import Pools, augment, elsewhere, train
from tools.train_pocket import test as judged

FOLDER = CHECKOUT / "models" / "lstm-pocket"
W = Windowing()


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model("lstm-pocket")


def phone_windows(seed: int) -> F32:
    """Windows (n, 128, 9) of a synthetic phone's activities, in g and rad/s."""
    _, samples = SyntheticPhone(seed, jitter_s=0.0).read(0, 1280)
    total, gyro = samples[:, :3] / hard.types.G, samples[:, 3:]
    x = np.concatenate([total - total.mean(axis=0), gyro, total], axis=1)
    return np.stack([x[i : i + 128] for i in range(0, 1153, 128)]).astype(np.float32)


@settings(max_examples=25)
@given(seed=st.integers(0, 1000), ios=st.booleans())
def test_no_rotation_and_no_sign_of_acceleration_changes_the_answer(
    model: Model, seed: int, ios: bool
) -> None:
    x = phone_windows(seed)
    rotation = Rotation.random(random_state=seed).as_matrix()
    y = np.einsum("ij,ntcj->ntci", rotation, x.reshape(*x.shape[:2], 3, 3)).reshape(x.shape)
    y = y.astype(np.float32) * np.repeat([-1 if ios else 1, 1, -1 if ios else 1], 3).astype(np.float32)
    np.testing.assert_allclose(model.predict(y), model.predict(x), atol=1e-4)
    of_one = np.zeros(len(x), np.int64)
    np.testing.assert_allclose(in_stretches(model, y, of_one), in_stretches(model, x, of_one), atol=1e-4)


def at_rest(n: int, size: float, seed: int = 0) -> Tensor:
    """Windows (n, 128, 6) of a body at rest that sways by about `size` g and rad/s."""
    x = size * torch.randn(n, 128, 6, generator=torch.Generator().manual_seed(seed))
    x[:, :, 4] += 1.0
    return x


@given(n=st.integers(1, 6), seed=st.integers(0, 1000))
def test_postures_are_told_by_the_fading_mean_of_sway(n: int, seed: int) -> None:
    net = LstmPocket(len(LABELS)).eval()
    x = at_rest(n, 0.01, seed)
    numbers = net.sway(x)
    state = torch.zeros(1, net.state)
    for i in range(n):
        seen, state = net.remember(x[i : i + 1], numbers[i : i + 1], state)
    weight = FADE ** torch.arange(n - 1, -1, -1.0)[:, None]
    mean = (weight * numbers.clamp(-net.clamp, net.clamp)).sum(dim=0) / weight.sum()
    torch.testing.assert_close(seen[0, :-1], mean, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(seen[0, -1], weight.sum())
    assert torch.equal(seen, state)


def test_what_is_seen_for_longer_is_surer() -> None:
    torch.manual_seed(0)
    net = LstmPocket(len(LABELS)).eval()
    first = net.posture[0]
    assert isinstance(first, torch.nn.Linear)
    with torch.no_grad():
        first.weight[:, -1] = 0  # whatever it has learnt of the number of windows
    mean = torch.randn(4, SWAY)
    once, often = (net.postures(torch.cat([mean, torch.full((4, 1), n)], dim=1)) for n in (1.0, 9.0))
    torch.testing.assert_close(often, 3 * once)


@pytest.mark.parametrize("how", ["shaken", "tilted"])
def test_movement_or_another_tilt_ends_what_is_known_of_rest(how: str) -> None:
    torch.manual_seed(0)
    net = LstmPocket(len(LABELS)).eval()
    x = at_rest(1, 0.003)
    before = torch.rand(1, net.state)
    with torch.no_grad():
        assert net.step(x, before)[1].any()
        if how == "shaken":
            x[:, :, 3] += 1.5 * MOVED_G * torch.sin(torch.arange(128) * 0.8) * 2**0.5
        else:  # by 30 degrees half way
            x[:, 64:, 3] += 0.5
            x[:, 64:, 4] -= 0.13
        logits, after = net.step(x, before)
        assert not after.any()
        torch.testing.assert_close(logits, net(x))


def test_a_gait_is_told_without_what_was_known_of_rest() -> None:
    net = LstmPocket(len(LABELS)).eval()
    x = torch.from_numpy(phone_windows(5)[:, :, 3:])
    with torch.no_grad():
        fresh, known = net(x), net.step(x, torch.rand(len(x), net.state))[0]
    torch.testing.assert_close(known[:, :MOVING], fresh[:, :MOVING])
    rest = fresh[:, MOVING:].logsumexp(dim=1)
    torch.testing.assert_close(known[:, MOVING:].logsumexp(dim=1), rest, atol=1e-4, rtol=1e-4)


@pytest.mark.data
def test_real_windows_turned_or_from_ios_are_the_same(model: Model, data: Path) -> None:
    x = read_pocket_pool(data, W, ["sp_sw_har"], hard.imu.CHANNELS)
    starts = at_hops(x, 64)[0][::5]
    windows = x.windows(starts).numpy()
    rotation = Rotation.random(random_state=1).as_matrix().astype(np.float32)
    other = np.einsum("ij,ntcj->ntci", rotation, windows.reshape(-1, 128, 3, 3)).reshape(windows.shape)
    np.testing.assert_allclose(model.predict(other), model.predict(windows), atol=1e-4)


def test_the_phones_own_turning_is_taken_out() -> None:
    """A phone that swings and turns by up to 60 degrees, while nothing moves but it."""
    t = torch.arange(128) / 50
    angles = torch.stack([torch.sin(6 * t), 0.3 * torch.cos(9 * t), 0.5 * torch.sin(4 * t)])
    pose = Rotation.from_rotvec(angles.T.numpy())
    steps = (pose[:-1].inv() * pose[1:]).as_rotvec() * 50  # (127, 3) rad/s, in the phone's own axes
    gyro = torch.from_numpy(np.concatenate([[[0, 0, 0]], steps]).astype(np.float32)).T[None]  # (1, 3, T)
    felt = pose.inv().apply([0.0, 0.6, 0.8]).astype(np.float32)
    level = rotate(turned(gyro / 50), torch.from_numpy(felt.T.copy())[None])
    assert felt.std(axis=0).max() > 0.1
    assert float(level.std(dim=2).max()) < 1e-3


def test_a_gyroscopes_bias_does_not_tilt_the_frame() -> None:
    x = torch.zeros(1, 128, 6)
    x[:, :, 5] = 1.0
    x[:, :, 0] = 0.05  # rad/s: 7 degrees in a window
    acc, _, up = still_frame(x, turning(x, 50.0))
    torch.testing.assert_close(acc, x[:, :, 3:].transpose(1, 2))
    torch.testing.assert_close(up[0, :, 0], torch.tensor([0.0, 0.0, 1.0]))


@pytest.mark.parametrize("still", [0.0, 1.0])
def test_no_signal_and_no_motion_give_numbers(still: float, model: Model) -> None:
    x = torch.zeros(3, 128, 6)
    x[:, :, 4] = still
    numbers = sway(x, *still_frame(x, turning(x, 50.0)))
    assert numbers.shape == (3, SWAY)
    assert len(SWAY_SIGNALS) == SWAY
    assert numbers.isfinite().all()
    padded = np.concatenate([np.zeros((3, 128, 3)), x.numpy()], axis=2).astype(np.float32)
    np.testing.assert_allclose(model.predict(padded).sum(axis=1), 1, atol=1e-5)


def test_other_labels_or_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="6 labels and 9 channels; expected 7 and 6"):
        LstmPocket(6, 9)


def test_the_recognizer_runs_it_with_seven_labels(model: Model) -> None:
    t, samples = SyntheticPhone(1).read(0, 700)
    predictions = hard.Recognizer(model).push("a", t, samples)
    assert len(predictions) == 9
    assert {tuple(p.probabilities) for p in predictions} == {LABELS}
    assert {p.activity for p in predictions} <= set(LABELS)


def test_labels_are_gaits_then_postures() -> None:
    assert len(LABELS) == MOVING + STILL
    assert LABELS[MOVING:] == ("sitting", "standing", "laying")
    assert set(hapt.LABELS) < set(LABELS)


def test_the_committed_model_is_small_and_its_card_counts_right() -> None:
    card = read_card(FOLDER)
    assert (FOLDER / "model.pt").stat().st_size < 1_000_000
    assert tuple(card.labels) == LABELS
    assert card.parameters == sum(p.numel() for p in LstmPocket(len(LABELS)).parameters())
    assert {f.command.split()[1] for f in card.figures} == {
        "tools/train_pocket.py",
        "tools/evaluate.py",
    }


def test_committed_weights_fit_the_network(model: Model) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch.jit is deprecated upstream
        weights = torch.jit.load(FOLDER / "model.pt").state_dict()
    net = Stepping(LstmPocket(len(LABELS)), TEMPERATURE).eval()
    net.load_state_dict(weights)
    windows = phone_windows(3)
    swinging = windows.copy()
    swinging[:, :, 3] += 2 * np.sin(np.arange(128) / 8)  # rad/s: the synthetic phone hardly turns
    assert check_export(net, model, {"synthetic": windows, "swinging": swinging}) < 1e-5


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


def thigh(arm: Tensor) -> Tensor:
    """A window (1, 128, 6) of a phone `arm` [m] (3,) from a resting hip; the thigh swings by 30 degrees."""
    t = torch.arange(128) / 50
    angle = 0.5 * torch.sin(2 * np.pi * 1.2 * t)
    gyro = torch.zeros(1, 128, 3)
    gyro[0, :, 0] = torch.gradient(angle)[0] * 50
    gravity = torch.stack([torch.zeros(128), angle.sin(), angle.cos()], dim=1)
    return torch.cat([gyro, gravity + elsewhere(gyro, arm[None, None])], dim=2)


def test_a_resting_hip_rests_whatever_the_thigh_does() -> None:
    x = thigh(torch.tensor([0.02, 0.05, -0.2]))
    turns = turning(x, 50.0)
    acc, _, _ = still_frame(x, turns)
    left = hip(x, acc, turns, 50.0, 1e-3).std(dim=2).norm() / acc.std(dim=2).norm()
    assert float(left) < 0.25


def test_a_hip_that_does_not_turn_keeps_its_acceleration() -> None:
    x = torch.zeros(2, 128, 6)
    x[:, :, 3:] = torch.randn(2, 128, 3)
    acc = x[:, :, 3:].transpose(1, 2)
    torch.testing.assert_close(hip(x, acc, turning(x, 50.0), 50.0, ARM_RIDGE), acc)


def test_three_equations_are_solved() -> None:
    a = torch.randn(9, 3, 3, generator=torch.Generator().manual_seed(0))
    square, v = a @ a.transpose(1, 2) + torch.eye(3), a[:, 0]
    torch.testing.assert_close(solved(square, v), torch.linalg.solve(square, v))


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


def test_how_strong_a_gait_is_does_not_change_it() -> None:
    t = torch.arange(128) / 50
    moving = torch.stack([0.2 * torch.cos(6 * t), 0.1 * torch.sin(12 * t), 0.3 * torch.cos(12 * t)], dim=1)
    up = torch.tensor([0.0, 0.0, 1.0])
    x = torch.stack([torch.cat([torch.zeros(128, 3), up + gain * moving], dim=1) for gain in (1.0, 2.0)])
    net = LstmPocket(len(LABELS)).eval()
    channels = net.describe(*net.hip_frame(x))[0]
    assert float((channels[1] - channels[0]).abs().mean()) < 0.1 * float(channels[0].abs().mean())


def test_confusion_of_a_small_example() -> None:
    c = Confusion.of(["a", "b", "c"], np.array([0, 0, 1, 1]), np.array([0, 2, 1, 1]))
    assert c.counts == [[1, 0, 1], [0, 2, 0], [0, 0, 0]]
    assert (c.n, c.accuracy, c.recall) == (4, 0.75, {"a": 0.5, "b": 1.0})
    assert msgspec.json.decode(msgspec.json.encode(c), type=Confusion) == c


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


@pytest.mark.data
def test_it_reaches_what_its_card_claims(model: Model, data: Path) -> None:
    figures = [f for f in model.card.figures if "evaluate.py sets" in f.command]
    assert len(figures) == 2
    for figure, turn in zip(figures, (None, 0), strict=True):
        result = evaluate(model, data, "hapt", hapt_test=True, turn=turn, ios=False)
        assert result.n == figure.n
        assert result.accuracy == pytest.approx(figure.value, abs=0.002)  # other CPUs round otherwise
