"""Training features are serving features, pools hold what they say, and the loop learns."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.progress import Progress

from hard.datasets import CHECKOUT, data_dir, features
from hard.datasets.hapt import (
    LABELS,
    TEST_USERS,
    TRAIN_USERS,
    Official,
    official_windows,
    read_official,
    read_sessions,
)
from hard.imu import Imu, Limits
from hard.model import load_model
from hard.nets.acc import LstmAcc
from hard.nets.lstm import Lstm
from hard.nets.posture import PostureLstm
from hard.recordings import Recording
from hard.stats import Counters
from hard.types import F32, Chunk, HardError, Windowing
from tools.pool import KINDS, Pool, read_pool
from tools.presets import PRESETS, Preset
from tools.stretches import steady_at_ends
from tools.train_sensor import augment, fit_temperature, logits, train

W = Windowing()
WITHOUT_GYRO = [0, 1, 2, 6, 7, 8]


def serve(recording: Recording, sizes: list[int]) -> F32:
    """The windows that the daemon makes of a recording that arrives in messages of these sizes, in turn."""
    imu = Imu(W, Limits(), Counters())
    windows: list[F32] = []
    at, turn = 0, 0
    while at < len(recording.t):
        size = sizes[turn % len(sizes)]
        imu.push(Chunk("phone", recording.t[at : at + size], recording.samples[at : at + size], 0.0))
        due = imu.prepare()
        windows += [] if due is None else list(due.x)
        at, turn = at + size, turn + 1
    return np.stack(windows)


def walk(n: int, seed: int = 0) -> Recording:
    rng = np.random.default_rng(seed)
    samples = rng.normal(0, 2, (n, 6)).astype(np.float32) + np.array([9.8, 0, 0, 0, 0, 0], np.float32)
    return Recording("walk", np.arange(n) / 50.0, samples)


def at_hops(stream: F32) -> F32:
    return np.stack([stream[s : s + W.window] for s in range(0, len(stream) - W.window + 1, W.hop)])


@pytest.mark.data
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["train_sensor.py", "--folds", "1"], "argument --folds: '1'; expected a whole number from 2 on"),
        (["train_pocket.py", "--steps", "0"], "argument --steps: '0'; expected a whole number from 1 on"),
        (["train_video.py", "--epochs", "x"], "argument --epochs: 'x'; expected a whole number from 1 on"),
    ],
)
def test_counts_that_cannot_be_are_refused(arguments: list[str], expected: str) -> None:
    command = [sys.executable, f"tools/{arguments[0]}", *arguments[1:]]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert expected in done.stderr


def test_training_features_are_serving_features_to_the_last_bit(data: Path) -> None:
    session = read_sessions(data, frozenset({1}))[0]
    served = serve(session.recording, [7, 50, 1, 200])
    assert len(served) > 100
    np.testing.assert_array_equal(at_hops(features([session.recording], W)[0]), served)


@given(n=st.integers(128, 700), sizes=st.lists(st.integers(1, 300), min_size=1, max_size=5))
@settings(deadline=None)
def test_training_features_are_serving_features_for_any_length_and_message_size(
    n: int, sizes: list[int]
) -> None:
    recording = walk(n)
    np.testing.assert_array_equal(at_hops(features([recording], W)[0]), serve(recording, sizes))


@given(n=st.integers(1, 400))
@settings(deadline=None)
def test_features_do_not_look_ahead(n: int) -> None:
    whole, part = walk(500), walk(500)
    part = Recording("part", part.t[:n], part.samples[:n])
    long, short = features([whole, part], W)
    assert short.shape == (n, 9)
    np.testing.assert_array_equal(short, long[:n])


def test_a_recording_with_a_gap_is_refused_by_name() -> None:
    broken = walk(600)
    t = broken.t.copy()
    t[300:] += 2.0
    with pytest.raises(HardError, match=r"^walk: a gap"):
        features([Recording("walk", t, broken.samples)], W)


def test_data_is_found_by_name_then_environment(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    assert data_dir(tmp_path, {"HARD_DATA": str(other)}) == tmp_path
    assert data_dir(None, {"HARD_DATA": str(other)}) == other
    with pytest.raises(HardError, match=r"nowhere\).*--data or HARD_DATA"):
        data_dir(None, {"HARD_DATA": str(tmp_path / "nowhere")})


@pytest.mark.data
def test_official_test_windows_are_complete_and_in_published_order(data: Path) -> None:
    x, official = official_windows(data, "test", W)
    assert x.shape == (2947, 128, 9)
    assert set(official.user.tolist()) == TEST_USERS
    assert set(read_official(data, "train").user.tolist()) == TRAIN_USERS
    up = x[:, :, 6].mean(axis=1)  # g along the axis that points up at the waist
    assert (up[official.y == LABELS.index("standing")] > 0.8).all()
    assert (np.abs(up[official.y == LABELS.index("laying")]) < 0.7).all()


@pytest.mark.data
def test_steady_labels_of_stretches_know_nothing_of_what_was_before(data: Path) -> None:
    model = load_model("lstm-waist")
    every = read_official(data, "train")
    some = np.isin(every.exp, np.unique(every.exp)[:3])
    official = Official(**{name: getattr(every, name)[some] for name in Official.__struct_fields__})
    said = steady_at_ends(model, data, official)
    assert (said == official.y).mean() > 0.9
    laying = official.y == LABELS.index("laying")
    alone = Official(**{name: getattr(official, name)[laying] for name in Official.__struct_fields__})
    np.testing.assert_array_equal(steady_at_ends(model, data, alone), said[laying])
    raw = model.predict(official_windows(data, "train", W)[0][some]).argmax(axis=1)
    first = np.flatnonzero(np.diff(official.y, prepend=-1))  # of a stretch: no earlier window speaks for it
    aligned = [i for i in first if said[i] >= 0]
    assert (said[aligned] == raw[aligned]).mean() > 0.9


@pytest.mark.data
def test_the_pool_holds_labelled_windows_of_training_people_only(data: Path) -> None:
    pool = read_pool(data, W, np.random.default_rng(0))
    assert len(pool.users) == 21
    assert not TEST_USERS & set(pool.users.tolist())
    x, official = official_windows(data, "train", W)
    starts, y = pool.official()
    np.testing.assert_array_equal(y.numpy(), official.y)
    np.testing.assert_array_equal(pool.windows(starts[::50]).numpy(), x[::50])
    for kind in range(len(KINDS)):
        starts, y = pool.draw(kind, 500, np.random.default_rng(1))
        up = pool.windows(starts)[:, :, 6].mean(dim=1)
        assert (up[y == LABELS.index("laying")] < 0.7).all()
        assert (up[y == LABELS.index("standing")] > 0.7).all()
    bare = read_pool(data, W, np.random.default_rng(0), PRESETS["lstm-acc"].channels)
    starts, y = bare.official()
    np.testing.assert_array_equal(y.numpy(), official.y)
    np.testing.assert_array_equal(bare.windows(starts[::50]).numpy(), x[::50][:, :, WITHOUT_GYRO])
    part = pool.of(np.array([1, 3]))
    assert part.users.tolist() == [1, 3]


def test_draws_stay_inside_their_spans() -> None:
    spans = np.array([[10, 5, 0, 1, 1], [100, 1, 2, 1, 1], [300, 9, 4, 1, 2]])
    pool = Pool(torch.zeros(500, 9), spans, W.window)
    starts, y = pool.draw(1, 400, np.random.default_rng(0))
    assert set(starts[y == 0].tolist()) == {10, 11, 12, 13, 14}
    assert set(starts[y == 2].tolist()) == {100}
    assert set(y.tolist()) == {0, 2}


def test_a_bout_is_the_stretch_in_which_a_windows_middle_lies() -> None:
    spans = np.array(
        [[300, 9, 3, 1, 1], [100, 50, 4, 1, 1], [90, 1, 4, 1, 0], [110, 1, 4, 1, 0], [310, 1, 3, 1, 0]]
    )
    pool = Pool(torch.zeros(500, 6), spans, W.window)
    bouts = pool.bouts(pool.official()[0])
    assert bouts[0] == bouts[1] != bouts[2]


def test_augmentation_turns_and_scales_a_window_as_one_body() -> None:
    torch.manual_seed(0)
    body = torch.randn(32, W.window, 3)
    gravity = torch.randn(32, 1, 3)
    x = torch.cat([body, torch.randn(32, W.window, 3), body + gravity], dim=2)
    out = augment(x)
    assert not torch.allclose(out, x, atol=0.01)
    left = out[:, :, 6:9] - out[:, :, 0:3]  # gravity, still constant in each window
    torch.testing.assert_close(left, left[:, :1].expand_as(left), atol=1e-5, rtol=0)
    for channels in (slice(0, 3), slice(3, 6), slice(6, 9)):
        gain = out[:, :, channels].norm(dim=2) / x[:, :, channels].norm(dim=2)
        torch.testing.assert_close(gain, gain[:, :1].expand_as(gain), atol=1e-4, rtol=0)
        assert ((gain > 0.7) & (gain < 1.3)).all()


def test_augmentation_is_the_same_motion_without_the_gyroscope() -> None:
    x = torch.randn(16, W.window, 9)
    torch.manual_seed(0)
    whole = augment(x)
    torch.manual_seed(0)
    torch.testing.assert_close(augment(x[:, :, WITHOUT_GYRO]), whole[:, :, WITHOUT_GYRO])


def tremor_pool() -> Pool:
    """Six classes that differ only in the size of their motion, from 1 mg to 0.3 g."""
    torch.manual_seed(0)
    size = torch.logspace(-3, -0.5, len(LABELS)).repeat_interleave(2000)[:, None]
    stream = torch.randn(len(size), 9) * size + torch.tensor([0.0] * 6 + [1.0, 0, 0])
    spans = [(2000 * y + start, 1, y, 1, 0) for y in range(len(LABELS)) for start in range(0, 1800, 30)]
    spans += [(2000 * y, 1800, y, 1, kind) for y in range(len(LABELS)) for kind in (1, 2)]
    return Pool(stream, np.array(spans, np.int64), W.window)


def small_preset(name: str, epochs: int) -> Preset:
    build = partial({"lstm-waist": PostureLstm, "lstm-acc": LstmAcc}[name], width=8, hidden=8)
    return msgspec.structs.replace(PRESETS[name], build=build, epochs=epochs, batch=32)


@pytest.mark.parametrize(("name", "channels"), [("lstm-waist", list(range(9))), ("lstm-acc", WITHOUT_GYRO)])
def test_training_learns_motions_of_a_thousandth_of_g(name: str, channels: list[int]) -> None:
    whole = tremor_pool()
    pool = Pool(whole.stream[:, channels], whole.spans, whole.window)
    with Progress(disable=True) as progress:
        net = train(pool, small_preset(name, 24), 0, progress, "test")
    starts, y = pool.draw(1, 600, np.random.default_rng(9))
    assert (logits(net, pool, starts).argmax(dim=1) == y).float().mean() > 0.95


def test_the_lstm_learns_as_if_there_were_no_sway() -> None:
    presets = [
        msgspec.structs.replace(
            PRESETS["lstm-waist"], build=partial(net, width=8, hidden=8), epochs=1, batch=32
        )
        for net in (Lstm, PostureLstm)
    ]
    with Progress(disable=True) as progress:
        alone, both = (train(tremor_pool(), p, 0, progress, "test").state_dict() for p in presets)
    assert all(torch.equal(alone[name], both[name]) for name in alone)


def test_the_temperature_undoes_a_scale() -> None:
    torch.manual_seed(0)
    z = torch.randn(20_000, 6)
    y = torch.distributions.Categorical(logits=z).sample()
    assert fit_temperature(z * 1.5, y) == pytest.approx(1.5, abs=0.05)
    assert fit_temperature(z * 0.6, y) == pytest.approx(0.6, abs=0.02)


def test_the_same_seed_gives_the_same_weights() -> None:
    pool = tremor_pool()
    with Progress(disable=True) as progress:
        a, b, c = (
            train(pool, small_preset("lstm-waist", 1), seed, progress, "test").state_dict()
            for seed in (1, 1, 2)
        )
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not torch.equal(a["head.weight"], c["head.weight"])
