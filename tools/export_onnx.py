"""Write a sensor model's weights as model.onnx beside its model.pt, for engine.runtime: onnx.

python tools/export_onnx.py lstm-waist
"""

from __future__ import annotations

import argparse
import hashlib
import io
import logging
import sys
import warnings
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import torch
from rich.console import Console
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # `python tools/x.py` and `python -m tools.x`

from hard.card import SensorCard, find_model, read_card
from hard.datasets import data_dir
from hard.datasets.hapt import official_windows
from hard.imu import CHANNELS
from hard.model import load_model
from hard.types import F32, HardError
from tools.export import rebuild, twice, write_card

TOLERANCE: Final = 1e-4  # of a probability
OPSET: Final = 18


def to_onnx(net: nn.Module, window: int, channels: int, state: int = 0) -> bytes:
    """The graph of a network, for any number of windows, without names of files and lines."""
    import onnx  # with onnxscript, of the dev extra

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    sizes = {"x": (2, window, channels)} | ({"state": (2, state)} if state else {})
    outputs = ["probabilities", "after"] if state else ["probabilities"]
    many = {name: {0: torch.export.Dim("n", min=1, max=4096)} for name in sizes}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations inside of the exporter
        program = torch.onnx.export(
            net, tuple(torch.zeros(size) for size in sizes.values()), input_names=list(sizes),
            output_names=outputs, opset_version=OPSET, dynamo=True, dynamic_shapes=many, external_data=False,
            verbose=False,
            optimize=False,  # its optimiser takes + 1e-8 for nothing, and drops it; ONNX Runtime has its own
        )  # fmt: skip
    assert program is not None
    model = program.model_proto
    for part in (model, model.graph, *model.graph.node, *model.graph.input, *model.graph.output,
                 *model.graph.value_info, *model.graph.initializer, *model.functions):  # fmt: skip
        part.doc_string = ""
        del part.metadata_props[:]
    out = io.BytesIO()
    onnx.save(model, out)
    return out.getvalue()


def sensor_card(folder: Path) -> SensorCard:
    card = read_card(folder)
    if not isinstance(card, SensorCard):
        raise HardError(f"{folder}: a model of video; only models of motion are exported")
    return card


def export_onnx(folder: Path, real: F32) -> SensorCard:
    """Write model.onnx and its sha256 in the card; raises HardError where it differs from torch."""
    card = sensor_card(folder)
    graph = to_onnx(rebuild(folder, card), card.windowing.window, len(card.channels), card.state)
    card = msgspec.structs.replace(card, onnx_sha256=hashlib.sha256(graph).hexdigest())
    (folder / "model.onnx").write_bytes(graph)
    write_card(folder, card)
    found = difference(folder, real)
    if not found <= TOLERANCE:  # also for NaN
        raise HardError(f"{folder}: ONNX Runtime differs from torch by {found:.2g} (limit {TOLERANCE:g})")
    Console().print(f"{folder}/model.onnx: {len(graph):,} bytes; differs from torch by at most {found:.1g}")
    return card


def difference(folder: Path, real: F32) -> float:
    """The largest difference between the two engines' probabilities, on real windows and on noise."""
    noise = np.random.default_rng(0).normal(0, 1, (256, real.shape[1], len(CHANNELS))).astype(np.float32)
    models = [load_model(str(folder), "torch", "float32"), load_model(str(folder), "onnx")]
    outputs = [np.concatenate([twice(m, real), twice(m, noise)]) for m in models]
    return float(np.abs(outputs[0] - outputs[1]).max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+", metavar="MODEL", help="name or folder")
    parser.add_argument("--data", type=Path, help="data folder (default: HARD_DATA, ../shared/data, data)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    for name in args.models:
        folder = find_model(name)
        card = sensor_card(folder)
        real, _ = official_windows(data_dir(args.data), "train", card.windowing)
        export_onnx(folder, real[::8])


if __name__ == "__main__":
    try:
        main()
    except HardError as e:
        sys.exit(f"error: {e}")
