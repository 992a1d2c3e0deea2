"""Checkpoint -> models/<name>/model.pt and card.yaml, refused where the exported network differs.

A model's folder instead of a checkpoint exports its own weights again, after its network's code was changed.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import pickle
import sys
import warnings
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import torch
import yaml
from rich.console import Console
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # `python tools/x.py` and `python -m tools.x`

from hard.card import Figure, SensorCard, VideoCard, read_card
from hard.datasets import data_dir
from hard.datasets.hapt import LABELS, official_windows
from hard.imu import CHANNELS
from hard.model import Model, columns, load_model
from hard.nets.acc import LstmAcc
from hard.nets.pocket import LstmPocket
from hard.nets.posture import PostureLstm
from hard.torchscript import TorchScriptModel
from hard.types import F32, HardError, Windowing
from tools.evaluate import evaluate
from tools.pocket_pool import TEMPERATURE
from tools.presets import PRESETS, Preset

UNITS: Final = {
    "body_acc_x": "body acc xyz [g]",
    "gyro_x": "gyroscope xyz [rad/s]",
    "total_acc_x": "total acc xyz [g]",
}
TOLERANCE: Final = 1e-5  # of a probability, between the trained network and what the daemon will run


AGAIN_TOLERANCE: Final = 5e-5  # single precision alone moves lstm-pocket's by 2.2e-5


class Probabilities(nn.Module):
    """A network that returns logits -> one that returns probabilities, (N, T, channels) -> (N, labels)."""

    def __init__(self, net: nn.Module, temperature: float = 1.0) -> None:
        super().__init__()
        self.net = net
        self.temperature = temperature

    def forward(self, x: Tensor) -> Tensor:
        return torch.softmax(self.net(x) / self.temperature, dim=1)


class Stepping(nn.Module):
    """The same of a network with a state: (N, T, channels), (N, state) -> (N, labels), (N, state)."""

    def __init__(self, net: PostureLstm | LstmAcc | LstmPocket, temperature: float = 1.0) -> None:
        super().__init__()
        self.net = net
        self.state = net.state if isinstance(net, LstmPocket) else net.rest.state
        self.temperature = temperature

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        logits, after = self.net.step(x, state)
        return torch.softmax(logits / self.temperature, dim=1), after


def with_probabilities(net: nn.Module, temperature: float) -> nn.Module:
    """What is exported of a network."""
    if isinstance(net, PostureLstm | LstmAcc):
        return Stepping(net, temperature)
    return Probabilities(net, temperature)


def script(net: nn.Module) -> bytes:
    """The TorchScript file of a network in evaluation mode."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*torch.jit.*", DeprecationWarning)  # deprecated upstream
        torch.jit.save(torch.jit.script(net.eval()), buffer)
    return buffer.getvalue()


def check_export(
    net: nn.Module, model: TorchScriptModel, batches: dict[str, F32], tolerance: float = TOLERANCE
) -> float:
    """The largest difference between a network and its export; raises HardError beyond the tolerance.

    batches: (N, window, 9), all of `imu.CHANNELS`, each with the name of its kind.
    """
    worst = 0.0
    chosen = columns(model.card.channels)
    for name, x in batches.items():
        difference = float(np.abs(said(net, x[:, :, chosen], model.card.state) - twice(model, x)).max())
        if not difference <= tolerance:  # also for NaN
            raise HardError(
                f"the exported network differs from the trained one by {difference:.2g} on {name} windows "
                f"(limit {tolerance:g}); nothing was written"
            )
        worst = max(worst, difference)
    return worst


def said(net: nn.Module, x: F32, state: int) -> F32:
    """Probabilities of a network; where it has a state, of every window after itself, too."""
    windows = torch.from_numpy(x)
    with torch.no_grad():
        if not state:
            return np.asarray(net(windows).numpy(), np.float32)
        first, after = net(windows, torch.zeros(len(x), state))
        return np.asarray(torch.cat([first, net(windows, after)[0]]).numpy(), np.float32)


def twice(model: Model, x: F32) -> F32:
    """The same of a loaded model."""
    first, after = model.step(x, np.zeros((len(x), model.card.state), np.float32))
    return np.concatenate([first, model.step(x, after)[0]]) if model.card.state else first


def write_model(folder: Path, card: SensorCard | VideoCard, weights: bytes) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.pt").write_bytes(weights)
    write_card(folder, card)


def write_card(folder: Path, card: SensorCard | VideoCard) -> None:
    text = yaml.safe_dump(msgspec.to_builtins(card), sort_keys=False, allow_unicode=True, width=110)
    (folder / "card.yaml").write_text(text, "utf-8")


def export(
    net: nn.Module, card: SensorCard, folder: Path, real: F32, tolerance: float = TOLERANCE
) -> SensorCard:
    """Script a network that returns probabilities, compare the two, write both files; returns the card."""
    weights = script(net)
    card = msgspec.structs.replace(card, sha256=hashlib.sha256(weights).hexdigest())
    rng = np.random.default_rng(0)
    random = rng.normal(0, 1, (256, card.windowing.window, len(CHANNELS))).astype(np.float32)
    exported = TorchScriptModel(card, weights, "float32")
    check_export(net, exported, {"random": random, "real": real}, tolerance)
    write_model(folder, card, weights)
    return card


def new_card(name: str, preset: Preset, net: nn.Module, training: dict[str, str]) -> SensorCard:
    """A preset's card, without figures and sha256."""
    units = [text for name, text in UNITS.items() if name in preset.channels]
    state = net.state if isinstance(net, Stepping) else 0
    before, after = state_texts(state) if state else ("", "")
    return SensorCard(
        name=name,
        summary=preset.summary,
        labels=list(LABELS),
        channels=list(preset.channels),
        sha256="",
        windowing=Windowing(),
        parameters=sum(p.numel() for p in net.parameters()),
        input=f"(N, 128, {len(preset.channels)}) float32: {', '.join(units)}{before}",
        output=f"(N, 6) float32: probabilities in the order of labels{after}",
        training=preset.training | training,
        figures=[],
        intended_use=preset.intended_use,
        limitations=preset.limitations,
        licence=preset.licence,
        motion_range=preset.motion_range,
        worn=preset.worn,
        state=state,
    )


def state_texts(state: int) -> tuple[str, str]:
    """What a card says of so many numbers, as input and as output."""
    before = f"; (N, {state}) float32: the state after each device's window before, zeros at first"
    return before, f"; (N, {state}) float32: the state after this window"


def figures(name: str, folder: Path, data: Path) -> list[Figure]:
    """What the written model reaches on the official test windows, through the daemon's own loader."""
    result = evaluate(load_model(str(folder)), data)
    command = f"python tools/evaluate.py sensor --model {name}"
    place = "UCI HAR official test windows (9 people unseen in training), from raw HAPT recordings"
    certain = f"{place}; only those whose place is certain"
    alone = f"{place}; the daemon's label at each window's end, every stretch a recording of its own"
    return [
        Figure("accuracy", round(result.accuracy, 4), place, command, result.n),
        Figure("macro F1", round(result.macro_f1, 4), place, command, result.n),
        Figure("expected calibration error", round(result.calibration_error, 4), place, command, result.n),
        Figure("accuracy", round(result.accuracy_count_matched, 4), certain, command, result.n_count_matched),
        Figure("accuracy of steady labels", round(result.accuracy_steady, 4), alone, command, result.n),
    ]


def rebuild(folder: Path, card: SensorCard) -> nn.Module:
    """The network of a model's card, with the weights of its model.pt, giving probabilities."""
    net: nn.Module
    if card.name == "lstm-pocket":
        net = Stepping(LstmPocket(len(card.labels), len(card.channels)), TEMPERATURE)
    elif card.name in PRESETS:
        preset = PRESETS[card.name]
        net = with_probabilities(preset.build(len(card.labels), len(card.channels)), preset.temperature)
    else:
        known = ", ".join(sorted([*PRESETS, "lstm-pocket"]))
        raise HardError(f"{card.name}: no such preset; there is: {known}")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*torch.jit.*", DeprecationWarning)  # deprecated upstream
        saved = torch.jit.load(folder / "model.pt", map_location="cpu")  # type: ignore[no-untyped-call]
    net.load_state_dict(saved.state_dict())
    return net.eval()


def read_checkpoint(path: Path, tool: str, *keys: str) -> dict[str, Any]:
    """What this training tool has written, with `keys` in it; raises HardError for anything else."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*TorchScript archive", UserWarning)  # which it refuses then
            saved = torch.load(path, weights_only=True)
    except OSError as e:
        raise HardError(f"{path}: {e.strerror}; train it with {tool}") from None
    except (RuntimeError, pickle.UnpicklingError, EOFError):
        saved = None
    if not isinstance(saved, dict) or not {*keys, "seed", "weights"} <= saved.keys():
        raise HardError(f"{path}: not a checkpoint of {tool}; train one with it")
    return saved


def load_weights(net: nn.Module, saved: dict[str, Any], path: Path) -> None:
    """HardError where they are another network's."""
    try:
        net.load_state_dict(saved["weights"])
    except RuntimeError:
        raise HardError(f"{path}: weights of another network; train it anew") from None


def again(folder: Path, data: Path) -> SensorCard:
    """Export a model's own weights; what its card says of training and of folds stays."""
    card = read_card(folder)
    if not isinstance(card, SensorCard):
        raise HardError(f"{folder}: a model of video; only models of motion are exported again")
    real, _ = official_windows(data, "train", card.windowing)
    card = export(rebuild(folder, card), card, folder, real[::8], AGAIN_TOLERANCE)
    if card.name in PRESETS:
        found = figures(card.name, folder, data)
        commands = {figure.command for figure in found}
        found += [f for f in card.figures if f.command not in commands]
        card = msgspec.structs.replace(card, figures=found)
    write_card(folder, card)
    return card


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "checkpoint", type=Path, help="checkpoint.pt of tools/train_sensor.py, or a model's folder"
    )
    parser.add_argument("--data", type=Path, help="data folder (default: HARD_DATA, ../shared/data, data)")
    parser.add_argument("--out", type=Path, help="model folder (default: models/PRESET)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    data = data_dir(args.data)
    if args.checkpoint.is_dir():
        card = again(args.checkpoint, data)
        Console().print(f"{args.checkpoint}: sha256 {card.sha256[:12]}; next: tools/export_onnx.py")
        return
    saved = read_checkpoint(args.checkpoint, "tools/train_sensor.py", "preset")
    name = saved["preset"]
    if name not in PRESETS:
        raise HardError(f"{args.checkpoint}: of preset {name!r}; tools/export_video.py exports webcam's")
    preset = PRESETS[name]
    net = preset.build(len(LABELS), len(preset.channels))
    load_weights(net, saved, args.checkpoint)
    folder = args.out or Path("models") / name
    command = f"python tools/train_sensor.py --preset {name} --seed {saved['seed']}"
    training = {"command": f"{command}; then python tools/export.py build/{name}/checkpoint.pt"}
    exported = with_probabilities(net, preset.temperature)
    card = new_card(name, preset, exported, training)
    real, _ = official_windows(data, "train", card.windowing)
    card = export(exported, card, folder, real[::8])
    found = figures(name, folder, data)
    folds = args.checkpoint.with_name("folds.json")
    if folds.exists():
        found += msgspec.json.decode(folds.read_bytes(), type=list[Figure])
    write_card(folder, msgspec.structs.replace(card, figures=found))
    Console().print(f"{folder}: {card.parameters:,} parameters, sha256 {card.sha256[:12]}")


if __name__ == "__main__":
    try:
        main()
    except HardError as e:
        sys.exit(f"error: {e}")
