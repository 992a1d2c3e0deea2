"""Checkpoint of the webcam preset -> models/lrcn-webcam, refused where the exported network differs."""

from __future__ import annotations

import argparse
import hashlib
import sys
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import torch
from rich.console import Console

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # `python tools/x.py` and `python -m tools.x`

from hard.card import Figure, VideoCard
from hard.datasets import data_dir
from hard.datasets.video import webcam_clips, weizmann
from hard.frames import read_video
from hard.model import load_video_model
from hard.nets.webcam import WebcamLrcn
from hard.torchscript import TorchScriptVideoModel
from hard.types import U8, HardError
from tools.export import TOLERANCE, load_weights, read_checkpoint, script, write_model
from tools.scores import Scores
from tools.webcam import CLIP, FOLDS, HELD_OUT, LABELS

NAME: Final = "lrcn-webcam"
SOURCES: Final = {
    "weizmann": "Weizmann, people left out",
    "webcam_clips": "webcam clips, the shirt left out",
    "clips": "films of other things, left out",
}
HELD: Final = {"weizmann": f"Weizmann, {HELD_OUT[0]}", "webcam_clips": f"webcam clips, {HELD_OUT[1]}"}
UNITS: Final = {"clips": "whole clips", "windows": "windows of 20 frames"}


def check_export(net: WebcamLrcn, model: TorchScriptVideoModel, batches: dict[str, U8]) -> float:
    """The largest difference of a probability between whole clips through the network, and the daemon's way.

    batches: (N, frames, size, size, 3) uint8 RGB, each with the name of its kind. The daemon encodes every
    frame by itself and classifies what it kept. Raises HardError beyond TOLERANCE.
    """
    worst = 0.0
    for name, clips in batches.items():
        with torch.no_grad():
            whole = torch.softmax(net(torch.from_numpy(clips)), dim=1).numpy()
        kept = [np.concatenate([model.encode(frame[None]) for frame in clip]) for clip in clips]
        difference = float(np.abs(whole - model.classify(np.stack(kept))).max())
        if not difference <= TOLERANCE:  # also for NaN
            raise HardError(
                f"the exported network differs from the trained one by {difference:.2g} on {name} clips "
                f"(limit {TOLERANCE:g}); nothing was written"
            )
        worst = max(worst, difference)
    return worst


def export(net: WebcamLrcn, card: VideoCard, folder: Path, real: U8) -> VideoCard:
    """Script a network, compare the two, write both files; returns the card."""
    net = net.eval()
    weights = script(net)
    card = msgspec.structs.replace(card, sha256=hashlib.sha256(weights).hexdigest())
    random = np.random.default_rng(0).integers(0, 256, (4, *real.shape[1:]), np.uint8)
    check_export(net, TorchScriptVideoModel(card, weights), {"random": random, "real": real})
    write_model(folder, card, weights)
    return card


def new_card(net: WebcamLrcn, training: dict[str, str], figures: list[Figure]) -> VideoCard:
    """The shipped model's card, without sha256."""
    return VideoCard(
        name=NAME,
        summary="Six activities before a webcam, and `other`: convolutions on what moves, an LSTM over 2 s",
        labels=list(LABELS),
        sha256="",
        clip=CLIP,
        parameters=sum(p.numel() for p in net.parameters()),
        input="encode: (N, 64, 64, 3) uint8 RGB, a camera's frame by hard.frames.squeeze",
        output="classify: (N, 7) float32: probabilities in the order of labels",
        training={
            "data": "weizmann (people s01-s06) and webcam_clips (all clips but d20), their people cut out; "
            "har_stills_15 and clips for backgrounds and for `other`",
            "held out": f"{', '.join(HELD_OUT)}: the shipped weights have not seen them",
            "augmentation": "composed clips: people before other backgrounds, of any size, side, speed and "
            "phase; light, colours, noise, blur, compression, a touched camera",
            "other": "films of other things, people frozen or passing, photographs moved and bent, "
            "things that move, empty rooms",
        }
        | training,
        figures=figures,
        intended_use=(
            "One person before one camera that does not move, head and arms in the picture, the height of "
            "half the picture or more"
        ),
        limitations=[
            "boxing and handclapping were learned from one man in one room, the other four from seven people "
            "outdoors: both far from all that a camera may see",
            "few motions that are none of the six were there to learn `other` from: gestures with the arms "
            "may be taken for waving, clapping or boxing",
            "a camera that is carried about, and several people at once, were no part of the training",
            "whoever stands still, or has left, is `other`; what is not one of the six is `other` too",
            "probabilities were trained with label smoothing and are not calibrated",
        ],
        licence=(
            "weights: MIT. Data: Weizmann (L. Gorelick, M. Blank, E. Shechtman, M. Irani, R. Basri: Actions "
            "as Space-Time Shapes, TPAMI 29 (2007)), webcam clips and stills without a stated licence, not "
            "redistributed; clips of mmaction2 (Apache-2.0) and Intel's sample videos (CC BY 4.0)"
        ),
    )


def figures(folder: Path) -> list[Figure]:
    """What the folds reached, and the checkpoint on what it has not seen, from the JSON beside it."""
    found = []
    commands = {
        "folds.json": "python tools/train_video.py --preset webcam --folds",
        "held_out.json": "python tools/evaluate.py video --groups " + " ".join(HELD_OUT),
    }
    for name, command in commands.items():
        if not (folder / name).exists():
            raise HardError(f"{folder / name}: missing; {command} makes it")
        total = msgspec.json.decode((folder / name).read_bytes(), type=dict[str, Scores])
        for title, result in total.items():
            source, unit = title.split(", ")
            folds = f"{SOURCES[source]}; {len(FOLDS)} folds together"
            data = f"{UNITS[unit]}: {folds if name == 'folds.json' else f'{HELD[source]}, these weights'}"
            if source == "clips":
                found.append(Figure("wrong labels", round(1 - result.accuracy, 4), data, command, result.n))
            else:
                found.append(Figure("accuracy", round(result.accuracy, 4), data, command, result.n))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path, help="checkpoint.pt of tools/train_video.py --preset webcam")
    parser.add_argument("--data", type=Path, help="data folder (default: HARD_DATA, ../shared/data, data)")
    parser.add_argument("--out", type=Path, help=f"model folder (default: models/{NAME})")
    args = parser.parse_args()
    torch.set_num_threads(1)
    saved = read_checkpoint(args.checkpoint, "tools/train_video.py --preset webcam", "steps")
    net = WebcamLrcn(len(LABELS))
    load_weights(net, saved, args.checkpoint)
    data = data_dir(args.data)
    items = (weizmann(data) + webcam_clips(data))[::9]
    real = np.stack([read_video(i.path, CLIP.size)[0][: CLIP.frames] for i in items])
    command = f"python tools/train_video.py --preset webcam --seed {saved['seed']} --steps {saved['steps']}"
    training = {"command": f"{command}; then python tools/export_video.py build/webcam/checkpoint.pt"}
    folder = args.out or Path("models") / NAME
    card = export(net, new_card(net, training, figures(args.checkpoint.parent)), folder, real)
    load_video_model(str(folder))
    Console().print(f"{folder}: {card.parameters:,} parameters, sha256 {card.sha256[:12]}")


if __name__ == "__main__":
    try:
        main()
    except HardError as e:
        sys.exit(f"error: {e}")
