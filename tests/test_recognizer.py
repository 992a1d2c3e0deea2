"""The Python door and the models behind it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hard
from conftest import ROOT
from hard.card import SensorCard, find_model, list_models, read_card
from hard.imu import CHANNELS, Imu, Limits
from hard.model import load_model
from hard.personal.gait import Worn
from hard.stats import Counters
from hard.synthetic import SyntheticPhone
from hard.torchscript import computes_bfloat16
from hard.types import Chunk, HardError

MODELS = [path.name for path in list_models() if isinstance(read_card(path), SensorCard)]


def test_example_of_the_readme_runs() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    example = re.search(r"```python\n(import hard\n.*?)```", text, re.S)
    assert example
    assert len(example[1].strip().splitlines()) <= 6
    code = (
        "from hard.synthetic import SyntheticPhone\n"
        "phone = [SyntheticPhone(0).read(i * 25, 25) for i in range(8)]\n" + example[1]
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert len(done.stdout.splitlines()) == 2  # 4 s of samples: two windows


@settings(max_examples=10)
@given(size=st.integers(1, 200))
def test_predictions_do_not_depend_on_how_samples_are_pushed(size: int) -> None:
    t, samples = SyntheticPhone(4, dwell_s=4.0).read(0, 700)
    model = load_model("lstm-waist")
    whole = hard.Recognizer(model).push("a", t, samples)
    parts = hard.Recognizer(model)
    got = [p for i in range(0, 700, size) for p in parts.push("a", t[i : i + size], samples[i : i + size])]
    assert [(p.t_end, p.activity) for p in got] == [(p.t_end, p.activity) for p in whole]
    assert len(whole) == 9


@pytest.mark.parametrize(("t", "samples"), [((3,), (3, 5)), ((3,), (2, 6)), ((3, 1), (3, 6)), ((), (6,))])
def test_other_shapes_are_refused(t: tuple[int, ...], samples: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected t \(n,\) and samples \(n, 6\)"):
        hard.Recognizer("lstm-waist").push("a", np.zeros(t), np.zeros(samples))


def test_a_device_is_turned_by_rows_of_numbers_and_by_nothing_but_a_rotation() -> None:
    recognizer = hard.Recognizer("lstm-waist")
    t, samples = SyntheticPhone(0).read(0, 200)
    plain = recognizer.push("plain", t, samples)
    recognizer.wear("turned", Worn(((0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (1.0, 0.0, 0.0)), 1.0).rotation)
    (again, *_) = recognizer.push("turned", t, samples[:, [2, 0, 1, 5, 3, 4]])
    assert again.probabilities == pytest.approx(plain[0].probabilities, abs=1e-5)
    mirror, half = np.diag([1, 1, -1]), np.eye(3) / 2
    for wrong in (mirror, half, np.eye(2), np.full((3, 3), np.nan), [[1, 0, 0], [0, 1], [0]], "x"):
        with pytest.raises(ValueError, match="expected a rotation"):
            recognizer.wear("turned", wrong)


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=10)
@given(n=st.integers(1, 300), seed=st.integers(0, 2**32 - 1))
def test_probabilities_do_not_depend_on_the_batch(name: str, n: int, seed: int) -> None:
    model = load_model(name)
    shape = (n, model.card.windowing.window, len(CHANNELS))
    x = np.random.default_rng(seed).normal(0, 0.5, shape).astype(np.float32)
    together = model.predict(x)
    assert together.shape == (n, len(model.card.labels))
    np.testing.assert_allclose(together.sum(axis=1), 1.0, atol=1e-5)
    np.testing.assert_allclose(model.predict(x[-1:])[0], together[-1], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_small_and_its_card_complete(name: str) -> None:
    folder = find_model(name)
    card = read_card(folder)
    assert (folder / "model.pt").stat().st_size < 1_000_000
    assert card.name == name
    assert set(card.channels) <= set(CHANNELS)
    assert all(figure.command for figure in card.figures)
    assert card.figures
    assert card.limitations


def test_lstm_acc_does_not_look_at_the_gyroscope() -> None:
    acc, waist = load_model("lstm-acc"), load_model("lstm-waist")
    x = np.random.default_rng(0).normal(0, 0.5, (40, 128, len(CHANNELS))).astype(np.float32)
    still, broken = x.copy(), x.copy()
    still[:, :, 3:6] = 0
    broken[:, :, 3:6] = np.nan
    np.testing.assert_array_equal(acc.predict(x), acc.predict(still))
    np.testing.assert_array_equal(acc.predict(x), acc.predict(broken))
    assert not np.array_equal(waist.predict(x), waist.predict(still))


def test_a_damaged_model_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    shutil.copytree(find_model("lstm-waist"), folder)
    weights = bytearray((folder / "model.pt").read_bytes())
    weights[len(weights) // 2] ^= 1
    (folder / "model.pt").write_bytes(weights)
    with pytest.raises(HardError, match=r"sha256 .* but the card says"):
        load_model(str(folder))


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ("format: torchscript", "format: onnx", "expected torchscript"),
        ("- body_acc_x", "- body_acc_w", "channels: unknown body_acc_w; there is: body_acc_x, "),
        ("- body_acc_x\n", "- body_acc_y\n", r"channels: .*; expected some of .*, in this order"),
        ("- gyro_x\n", "- gyro_y\n- gyro_x\n", r"channels: .*; expected some of .*, in this order"),
        ("- gyro_x\n", "", "does not run"),
        ("- laying\n", "", "6 outputs, but the card has 5 labels"),
        ("summary:", "summery:", "unknown field `summery`"),
        ("hop: 64", "hop: 50", r"window 128 is to be a multiple of hop 50, .* - at `\$.windowing`"),
        ("hop: 64", "hop: 0", "is to be a multiple of hop 0, and that 2"),
        ("rate_hz: 50.0", "rate_hz: 0.0", "cutoff_hz 0.3 .* below half of rate_hz 0,"),
    ],
)
def test_a_card_that_does_not_fit_is_refused(tmp_path: Path, old: str, new: str, error: str) -> None:
    folder = tmp_path / "mine"
    shutil.copytree(find_model("lstm-waist"), folder)
    text = (folder / "card.yaml").read_text("utf-8")
    assert old in text
    (folder / "card.yaml").write_text(text.replace(old, new, 1))
    with pytest.raises(HardError, match=error):
        load_model(str(folder))


def test_a_wrong_model_name_gets_the_nearest() -> None:
    with pytest.raises(HardError, match="did you mean lstm-waist"):
        load_model("lstm-wast")


def test_a_device_without_a_gyroscope_is_labelled_by_its_own_model() -> None:
    t, samples = SyntheticPhone(4, dwell_s=60.0).read(0, 700)
    recognizer = hard.Recognizer("lstm-waist")
    got = recognizer.push("a", t, samples[:, :3])
    assert {p.model for p in got} == {"lstm-acc"}
    assert len(got) == 9
    both = recognizer.push("b", t, samples)
    assert {p.model for p in both} == {"lstm-waist"}
    assert recognizer.devices == 2


def test_a_model_that_needs_a_gyroscope_is_refused_for_devices_without() -> None:
    t, samples = SyntheticPhone(4).read(0, 200)
    recognizer = hard.Recognizer("lstm-waist", acc_model="lstm-waist")
    assert len(recognizer.push("a", t, samples)) == 2
    with pytest.raises(HardError, match=r"acc_model: lstm-waist needs a gyroscope.*such as lstm-acc"):
        recognizer.push("b", t, samples[:, :3])


def test_every_model_may_be_given_by_name() -> None:
    t, samples = SyntheticPhone(4).read(0, 400)
    sideways = samples[:, [1, 2, 0, 4, 5, 3]]
    by_name = hard.Recognizer("lstm-waist", elsewhere_model="lstm-pocket")
    loaded = hard.Recognizer("lstm-waist", elsewhere_model=load_model("lstm-pocket"))
    got = by_name.push("a", t, sideways)
    assert {p.model for p in got} == {"lstm-pocket"}
    assert [p.probabilities for p in got] == [p.probabilities for p in loaded.push("a", t, sideways)]


def test_a_gyroscope_that_comes_later_moves_the_device_to_the_other_model() -> None:
    t, samples = SyntheticPhone(4, dwell_s=60.0).read(0, 1200)
    recognizer = hard.Recognizer("lstm-waist")
    first = recognizer.push("a", t[:600], samples[:600, :3])
    then = recognizer.push("a", t[600:], samples[600:])
    assert [p.model for p in first + then] == ["lstm-acc"] * len(first) + ["lstm-waist"] * len(then)
    assert then[0].t_end - first[-1].t_end > 2.5  # no window spans the change
    assert recognizer.counters.drops() == {"gap": 1}
    assert recognizer.devices == 1


@pytest.mark.skipif(not computes_bfloat16(), reason="this CPU has no bfloat16")
@pytest.mark.parametrize("name", ["lstm-waist", "lstm-acc"])
def test_bfloat16_says_nearly_the_same_in_any_batch(name: str) -> None:
    exact, quick = load_model(name, precision="float32"), load_model(name, precision="bfloat16")
    t, samples = SyntheticPhone(4, dwell_s=5.0).read(0, 3000)
    imu = Imu(exact.card.windowing, Limits(), Counters())
    imu.push(Chunk("a", t, samples, 0.0))
    windows = imu.prepare()
    assert windows is not None
    found = quick.predict(windows.x)
    np.testing.assert_allclose(found, exact.predict(windows.x), rtol=0, atol=0.02)
    assert not np.array_equal(found, exact.predict(windows.x))
    alone = np.concatenate([quick.predict(windows.x[i : i + 1]) for i in range(len(windows.x))])
    np.testing.assert_allclose(alone, found, rtol=0, atol=1e-4)


@pytest.mark.skipif(not computes_bfloat16(), reason="this CPU has no bfloat16")
def test_a_network_that_cannot_do_bfloat16_runs_in_float32_unless_told_not_to(tmp_path: Path) -> None:
    """One whose layers are fed float32, whatever type their weights have."""
    from torch import nn

    from tools.export import export, new_card
    from tools.presets import PRESETS

    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv1d(9, 6, 3)

        def forward(self, x):
            return self.conv(x.transpose(1, 2)).mean(dim=2).softmax(dim=1)

    net = Plain().eval()
    export(
        net,
        new_card("plain", PRESETS["lstm-waist"], net, {}),
        tmp_path / "plain",
        np.zeros((1, 128, 9), "f4"),
    )
    load_model(str(tmp_path / "plain"))
    with pytest.raises(HardError, match=r"does not run in bfloat16; .*engine\.precision"):
        load_model(str(tmp_path / "plain"), precision="bfloat16")
