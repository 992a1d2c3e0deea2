"""The same model by ONNX Runtime: the same answers, without torch in memory, and errors that name the fix."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from conftest import ROOT, Hard
from hard.card import SensorCard, find_model, list_models, read_card
from hard.imu import Imu, Limits
from hard.model import load_model
from hard.personal.record import folder_of, write
from hard.recordings import Recording
from hard.stats import Counters
from hard.synthetic import SyntheticPhone
from hard.types import F32, Chunk, HardError


def exported() -> list[str]:
    cards = [read_card(folder) for folder in list_models()]
    return [card.name for card in cards if isinstance(card, SensorCard) and card.onnx_sha256]


@pytest.fixture(scope="module")
def windows() -> F32:
    """Windows of six people who do all there is."""
    card = read_card(find_model("lstm-waist"))
    assert isinstance(card, SensorCard)
    imu = Imu(card.windowing, Limits(), Counters())
    for seed in range(6):
        imu.push(Chunk(str(seed), *SyntheticPhone(seed).read(0, 9000), 0.0))
    made = imu.prepare()
    assert made is not None
    return made.x


@pytest.mark.parametrize("name", exported())
def test_both_engines_say_the_same(name: str, windows: F32) -> None:
    ours, theirs = load_model(name, "torch", "float32"), load_model(name, "onnx")
    np.testing.assert_allclose(theirs.predict(windows), ours.predict(windows), rtol=0, atol=1e-4)
    alone = np.concatenate([theirs.predict(windows[i : i + 1]) for i in range(0, len(windows), 50)])
    np.testing.assert_allclose(alone, theirs.predict(windows)[::50], rtol=0, atol=1e-4)


def test_the_default_models_are_exported() -> None:
    assert "lstm-waist" in exported()


def test_torch_is_not_imported() -> None:
    code = (
        "import sys, numpy as np; from hard.recognizer import Recognizer; from hard.model import load_model\n"
        "r = Recognizer(load_model('lstm-waist', 'onnx'))\n"
        "t = np.arange(200) / 50; x = np.tile([0, 0, 9.8, 0, 0, 0], (200, 1))\n"
        "assert len(r.push('a', t, x)) == 2; print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_daemon_runs_on_it(hard: Hard, port: int) -> None:
    done = hard.run(
        "run", "--simulate", "2", "--for", "8",
        HARD__ENGINE__RUNTIME="onnx", HARD__EMBEDDED__PORT=str(port),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "synthetic-1 walking" in done.stderr


@pytest.mark.parametrize("command", ["classify", "personalize"])
def test_offline_commands_do_without_torch_too(hard: Hard, tmp_path: Path, command: str) -> None:
    """What they say is what they say with it."""
    folder, argument = folder_of(tmp_path / "state", "alice"), "alice"
    for seed, label in enumerate(("sitting", "walking")):
        t, samples = SyntheticPhone(seed, dwell_s=1e9).read(0, 800)
        write(folder / f"{label}-20261120T050000Z.csv", Recording("alice", t, samples))
        argument = str(folder / f"{label}-20261120T050000Z.csv") if command == "classify" else argument
    absent = tmp_path / "lib/torch.py"
    absent.parent.mkdir()
    absent.write_text("raise ModuleNotFoundError(name='torch')")
    with_torch = hard.run(command, argument)
    lib = f"{absent.parent}:{hard.env.get('PYTHONPATH', '')}"
    without = hard.run(command, argument, HARD__ENGINE__RUNTIME="onnx", PYTHONPATH=lib)
    assert without.returncode == with_torch.returncode, without.stderr
    figures = re.compile(r"\d\.\d+")
    assert figures.sub("", without.stdout) == figures.sub("", with_torch.stdout)
    assert figures.sub("", without.stderr) == figures.sub("", with_torch.stderr)
    assert (without.stdout + without.stderr).count("\n") >= (10 if command == "classify" else 1)


def test_a_machine_without_onnx_runtime_is_told_what_to_install(hard: Hard, tmp_path: Path) -> None:
    (tmp_path / "onnxruntime.py").write_text("raise ModuleNotFoundError(name='onnxruntime')")
    lib = f"{tmp_path}:{hard.env.get('PYTHONPATH', '')}"
    done = hard.run("check", HARD__ENGINE__RUNTIME="onnx", PYTHONPATH=lib)
    assert "imu.model: engine.runtime onnx needs onnxruntime\n" in done.stdout
    assert done.stdout.count("-> pip install 'hard[onnx]'") == 3


def copy(tmp_path: Path, **changes: object) -> Path:
    folder = tmp_path / "lstm-waist"
    shutil.copytree(find_model("lstm-waist"), folder)
    card = yaml.safe_load((folder / "card.yaml").read_text("utf-8")) | changes
    (folder / "card.yaml").write_text(yaml.safe_dump(card), "utf-8")
    return folder


def test_a_model_without_a_graph_says_how_to_make_one(tmp_path: Path) -> None:
    folder = copy(tmp_path, onnx_sha256=None)
    with pytest.raises(HardError, match=r"has no model\.onnx; tools/export_onnx\.py writes one"):
        load_model(str(folder), "onnx")


@pytest.mark.parametrize("kept", [0, 1000, -1])
def test_a_damaged_graph_is_refused(tmp_path: Path, kept: int) -> None:
    folder = copy(tmp_path)
    graph = (folder / "model.onnx").read_bytes()
    (folder / "model.onnx").write_bytes(graph[:kept])
    with pytest.raises(HardError, match="sha256"):
        load_model(str(folder), "onnx")


def test_a_file_that_is_no_graph_is_refused(tmp_path: Path) -> None:
    folder = copy(tmp_path, onnx_sha256="e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
    (folder / "model.onnx").write_bytes(b"")
    with pytest.raises(HardError, match=r"model\.onnx: does not run"):
        load_model(str(folder), "onnx")
