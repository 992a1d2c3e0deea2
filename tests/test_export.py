"""What is exported is what was trained; what is claimed is what the daemon's loader measures."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hard.card import read_card
from hard.datasets import CHECKOUT
from hard.datasets.hapt import LABELS, Official
from hard.imu import CHANNELS
from hard.model import load_model
from hard.nets.lstm import Lstm
from hard.types import F32, HardError
from tools.evaluate import evaluate, score
from tools.export import (
    Probabilities,
    check_export,
    export,
    load_weights,
    new_card,
    read_checkpoint,
    with_probabilities,
)
from tools.presets import PRESETS, SHIPPED
from tools.scores import calibration_error

COMMITTED = {name: CHECKOUT / "models" / name for name in SHIPPED}


class Treacherous(nn.Module):
    """Says something else once it is scripted, by a little more than is allowed."""

    def __init__(self, net: nn.Module, error: float) -> None:
        super().__init__()
        self.net = net
        self.error = error

    def forward(self, x: Tensor) -> Tensor:
        if torch.jit.is_scripting():
            return self.net(x) + self.error
        return self.net(x)


def small(channels: int) -> Probabilities:
    torch.manual_seed(0)
    return Probabilities(Lstm(len(LABELS), channels, width=16, hidden=16)).eval()


@pytest.fixture
def net() -> Probabilities:
    return small(len(CHANNELS))


def windows(n: int) -> F32:
    return np.random.default_rng(1).normal(0, 0.3, (n, 128, 9)).astype(np.float32)


def test_an_exported_network_loads_and_says_what_the_trained_one_says(net: nn.Module, tmp_path: Path) -> None:
    preset = PRESETS["lstm-waist"]
    written = export(net, new_card("small", preset, net, {}), tmp_path / "small", windows(20))
    model = load_model(str(tmp_path / "small"), precision="float32")
    assert model.card.sha256 == written.sha256
    x = windows(37)
    with torch.no_grad():
        np.testing.assert_allclose(model.predict(x), net(torch.from_numpy(x)).numpy(), atol=1e-5)
    np.testing.assert_allclose(model.predict(x).sum(axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("chosen", [list(range(9)), [0, 1, 2, 6, 7, 8], [2, 4, 6, 7, 8]], ids=str)
def test_a_network_gets_its_cards_channels(chosen: list[int], tmp_path: Path) -> None:
    net = small(len(chosen))
    preset = msgspec.structs.replace(PRESETS["lstm-acc"], channels=tuple(CHANNELS[i] for i in chosen))
    export(net, new_card("few", preset, net, {}), tmp_path / "few", windows(20))
    x = windows(37)
    with torch.no_grad():
        expected = net(torch.from_numpy(x[:, :, chosen])).numpy()
    np.testing.assert_allclose(
        load_model(str(tmp_path / "few"), precision="float32").predict(x), expected, rtol=0, atol=1e-5
    )


def test_an_export_that_differs_is_refused_and_leaves_nothing(net: nn.Module, tmp_path: Path) -> None:
    bad = Treacherous(net, 3e-5).eval()
    card = new_card("bad", PRESETS["lstm-waist"], bad, {})
    with pytest.raises(HardError, match=r"differs .* by 3e-05 on random windows"):
        export(bad, card, tmp_path / "bad", windows(20))
    assert not (tmp_path / "bad").exists()


def test_an_export_that_differs_on_real_windows_alone_is_refused(net: nn.Module, tmp_path: Path) -> None:
    real = windows(20)
    real[3, 0, 0] = np.nan
    card = new_card("bad", PRESETS["lstm-waist"], net, {})
    with pytest.raises(HardError, match=r"by nan on real windows"):
        export(net, card, tmp_path / "bad", real)
    assert not (tmp_path / "bad").exists()


def test_scores_of_a_small_example() -> None:
    y = np.array([0, 0, 0, 1, 2, 3, 4, 5])
    predicted = np.eye(6, dtype=np.float32)[[0, 0, 1, 1, 2, 3, 4, 4]]
    certain = np.array([True, True, True, True, False, False, False, False])
    nowhere = np.zeros(8, np.int64)
    official = Official(nowhere, nowhere, y, nowhere, certain)
    result = score("m", official, predicted, predicted, steady=np.array([0, 0, 0, 0, 2, 3, -1, 4]))
    assert result.accuracy == 6 / 8
    assert (result.n, result.n_count_matched, result.accuracy_count_matched) == (8, 4, 3 / 4)
    assert (result.accuracy_steady, result.accuracy_steady_count_matched) == (5 / 8, 3 / 4)
    assert result.confusion[0] == [2, 1, 0, 0, 0, 0]
    walking, laying = result.per_class["walking"], result.per_class["laying"]
    assert (walking.precision, walking.recall, walking.n) == (1.0, 2 / 3, 3)
    assert walking.f1 == pytest.approx(0.8)
    assert (laying.precision, laying.recall, laying.f1) == (0.0, 0.0, 0.0)
    assert result.macro_f1 == pytest.approx((0.8 + 2 / 3 + 1 + 1 + 2 / 3 + 0) / 6)


def test_calibration_error_of_a_small_example() -> None:
    confidence = np.array([0.95, 0.95, 0.95, 0.95, 0.5, 0.5], np.float32)
    right = np.array([True, True, True, False, False, True])
    assert calibration_error(confidence, right) == pytest.approx(4 / 6 * 0.2)
    assert calibration_error(np.ones(3, np.float32), np.ones(3, bool)) == 0


def test_a_temperature_sharpens_and_keeps_the_order(net: Probabilities) -> None:
    x = torch.from_numpy(windows(20))
    with torch.no_grad():
        plain, sharp = net(x), Probabilities(net.net, 0.5).eval()(x)
    torch.testing.assert_close(sharp, F.normalize(plain**2, p=1, dim=1))


@pytest.mark.parametrize("how", [["tools/evaluate.py"], ["-m", "tools.evaluate"]])
def test_evaluate_without_data_says_so_in_one_line(how: list[str], tmp_path: Path) -> None:
    command = [sys.executable, *how, "sensor", "--data", str(tmp_path / "nowhere")]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=120)
    assert done.returncode != 0
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "nowhere" in done.stderr


@pytest.mark.parametrize("kind", ["text", "torchscript", "another's", "nothing"])
def test_a_file_that_is_no_checkpoint_is_refused_with_the_tool_that_makes_one(
    kind: str, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    if kind == "torchscript":
        path.write_bytes((COMMITTED["lstm-acc"] / "model.pt").read_bytes())
    elif kind == "another's":
        torch.save({"seed": 0, "weights": {}}, path)
    else:
        path.write_text("not a checkpoint" if kind == "text" else "")
    with pytest.raises(HardError, match=r"file: not a checkpoint of tools/train_sensor\.py; train one"):
        read_checkpoint(path, "tools/train_sensor.py", "preset")


def test_weights_of_another_network_are_refused(net: Probabilities, tmp_path: Path) -> None:
    path = tmp_path / "file"
    torch.save({"seed": 0, "weights": small(6).state_dict()}, path)
    with pytest.raises(HardError, match="file: weights of another network; train it anew"):
        load_weights(net, read_checkpoint(path, "tools/train_pocket.py"), path)


@pytest.mark.parametrize("name", COMMITTED)
def test_a_committed_model_is_small_and_its_card_counts_right(name: str) -> None:
    card, preset = read_card(COMMITTED[name]), PRESETS[name]
    assert (COMMITTED[name] / "model.pt").stat().st_size < 1_000_000
    assert tuple(card.channels) == preset.channels
    net = preset.build(len(card.labels), len(card.channels))
    assert card.parameters == sum(p.numel() for p in net.parameters())
    assert tuple(card.labels) == LABELS


@pytest.mark.parametrize("name", COMMITTED)
def test_committed_weights_fit_the_network_that_their_preset_builds(name: str) -> None:
    preset = PRESETS[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch.jit is deprecated upstream
        weights = torch.jit.load(COMMITTED[name] / "model.pt").state_dict()
    net = with_probabilities(preset.build(len(LABELS), len(preset.channels)), preset.temperature).eval()
    net.load_state_dict(weights)
    assert (
        check_export(net, load_model(str(COMMITTED[name]), precision="float32"), {"random": windows(50)})
        < 1e-5
    )


@pytest.mark.data
@pytest.mark.parametrize(("name", "least"), [("lstm-waist", 0.98), ("lstm-acc", 0.93)])
def test_a_committed_model_reaches_what_its_card_claims(data: Path, name: str, least: float) -> None:
    result = evaluate(load_model(str(COMMITTED[name])), data)
    assert result.n == 2947
    assert result.accuracy >= least
    claimed = next(f for f in read_card(COMMITTED[name]).figures if f.metric == "accuracy" and f.n == 2947)
    assert result.accuracy == pytest.approx(claimed.value, abs=0.001)  # other CPUs round otherwise


@pytest.mark.data
def test_evaluate_prints_one_json_object(data: Path) -> None:
    command = [sys.executable, "tools/evaluate.py", "sensor", "--data", str(data), "--json"]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=True, timeout=120)
    result = json.loads(done.stdout)
    assert {"model", "n", "accuracy", "macro_f1", "labels", "confusion", "per_class"} <= set(result)
    assert sum(map(sum, result["confusion"])) == result["n"] == 2947
