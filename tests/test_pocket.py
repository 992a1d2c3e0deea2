"""lstm-pocket: however the phone is turned, the answer is the same; rest is remembered, and nothing else."""

from __future__ import annotations

import warnings
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from torch import Tensor

import hard
from hard.card import read_card
from hard.datasets import CHECKOUT, hapt
from hard.model import Model, load_model
from hard.nets.hip import hip, solved
from hard.nets.level import SWAY, SWAY_SIGNALS, rotate, still_frame, sway, turned, turning
from hard.nets.pocket import ARM_RIDGE, GAIT_FADE, MOVED_G, MOVING, STILL, LstmPocket
from hard.nets.rest import FADE
from hard.synthetic import SyntheticPhone
from hard.types import F32, Windowing
from tools.confusion import Confusion
from tools.evaluate_sets import evaluate
from tools.export import Stepping, check_export
from tools.pocket_pool import (
    LABELS,
    TEMPERATURE,
    at_hops,
    read_pocket_pool,
)
from tools.stretches import in_stretches
from tools.train_pocket import elsewhere

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
    state = torch.zeros(1, net.rest_state)
    for i in range(n):
        seen, state = net.remember(x[i : i + 1], numbers[i : i + 1], net.moved(x[i : i + 1]), state)
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
        after = net.step(x, before)[1]
        assert not after[:, : net.rest_state].any()
        before[:, net.rest_state :] = 0
        torch.testing.assert_close(net.step(x, before)[0], net(x))


def walks(n: int, seed: int = 0) -> Tensor:
    """Windows (n, 128, 6) of a body that moves."""
    x = at_rest(n, 0.01, seed)
    phase = torch.rand(n, 1, generator=torch.Generator().manual_seed(seed + 1)) * 6
    x[:, :, 4] += 0.5 * torch.sin(torch.arange(128) * 0.25 + phase)
    return x


@given(n=st.integers(1, 6), seed=st.integers(0, 1000))
def test_a_gait_is_told_by_the_fading_mean_of_what_was_said_of_it(n: int, seed: int) -> None:
    torch.manual_seed(seed)
    net = LstmPocket(len(LABELS)).eval()
    x, state = walks(n, seed), torch.zeros(1, net.state)
    with torch.no_grad():
        for i in range(n):
            said, state = net.step(x[i : i + 1], state)
        alone = torch.log_softmax(net.gaits(*net.hip_frame(x)), dim=1)  # (n, MOVING + 1)
    weight = GAIT_FADE ** torch.arange(n - 1, -1, -1.0)[:, None]
    mean = (weight * alone).sum(dim=0) / weight.sum()
    torch.testing.assert_close(said[0, :MOVING], mean[:MOVING], atol=1e-5, rtol=1e-4)
    assert not state[:, : net.rest_state].any()


def test_rest_ends_what_is_known_of_a_gait() -> None:
    net = LstmPocket(len(LABELS)).eval()
    before = torch.rand(1, net.state)
    with torch.no_grad():
        walked = net.step(walks(1), before)[1]
        assert walked[:, net.rest_state :].any()
        assert not net.step(at_rest(1, 0.003), walked)[1][:, net.rest_state :].any()


def test_a_gait_is_told_without_what_was_known_of_rest() -> None:
    net = LstmPocket(len(LABELS)).eval()
    x = torch.from_numpy(phone_windows(5)[:, :, 3:])
    before = torch.zeros(len(x), net.state)
    before[:, : net.rest_state] = torch.rand(len(x), net.rest_state)
    with torch.no_grad():
        fresh, known = net(x), net.step(x, before)[0]
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
def test_it_reaches_what_its_card_claims(model: Model, data: Path) -> None:
    figures = [f for f in model.card.figures if "evaluate.py sets" in f.command]
    assert len(figures) == 2
    for figure, turn in zip(figures, (None, 0), strict=True):
        result = evaluate(model, data, "hapt", hapt_test=True, turn=turn, ios=False)
        assert result.n == figure.n
        assert result.accuracy == pytest.approx(figure.value, abs=0.002)  # other CPUs round otherwise
