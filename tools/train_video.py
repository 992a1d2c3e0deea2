"""Train a video network on class folders of clips or stills, or the webcam model on composed clips."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import cv2
import msgspec
import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # `python tools/x.py` and `python -m tools.x`

from hard.datasets import data_dir
from hard.types import HardError
from tools import plots, webcam
from tools.augment import KINDS
from tools.clips import ClipSet, batches, divide, examples, read
from tools.fit import class_weights, fit, predict
from tools.options import at_least
from tools.scores import Scores, scores, show
from tools.video_presets import PRESETS, VideoPreset


class Report(msgspec.Struct, frozen=True):
    """What a training run reached on its test clips; report.json."""

    command: str
    parameters: int
    epochs: int
    test: Scores
    sources: dict[str, Scores]  # the same by folder of origin, where there are several


def train_fixed(args: argparse.Namespace, console: Console) -> None:
    """Train one of the presets on class folders, report on the test groups, plot."""
    preset = PRESETS[args.preset]
    if args.augment is not None:
        preset = msgspec.structs.replace(preset, augmentation=tuple(args.augment))
    if args.epochs:
        schedule = msgspec.structs.replace(preset.schedule, epochs=args.epochs)
        preset = msgspec.structs.replace(preset, schedule=schedule)
    torch.manual_seed(args.seed)
    found = examples(data_dir(args.data), args.classes, preset.frames)
    labels = sorted({e.label for e in found})
    parts = divide(found, preset, args.test_groups, args.seed)
    console.print(
        f"{len(labels)} classes; {', '.join(str(len(p)) for p in parts)} clips to train, validate, test"
    )
    device = device_of(args)
    net = preset.build(len(labels)).to(device)
    rng = np.random.default_rng(args.seed)
    with Progress(console=console) as progress:
        train, validation, test = (read(p, labels, preset, progress) for p in parts)
        history = fit(
            net,
            lambda: batches(train, preset, rng),
            lambda: batches(validation, preset),
            preset.schedule,
            class_weights(train.y, len(labels)),
            progress,
            args.preset,
            args.bfloat16,
        )
    said = decide(net, test, preset)
    several = sorted(set(test.sources.tolist())) if len(set(test.sources.tolist())) > 1 else []
    report = Report(
        command=" ".join(["python tools/train_video.py", *sys.argv[1:]]),
        parameters=sum(p.numel() for p in net.parameters()),
        epochs=len(history.loss),
        test=scores(test.y, said, labels),
        sources={s: scores(test.y[test.sources == s], said[test.sources == s], labels) for s in several},
    )
    torch.save(
        {"preset": args.preset, "labels": labels, "weights": net.cpu().state_dict()},
        args.out / "checkpoint.pt",
    )
    (args.out / "report.json").write_bytes(msgspec.json.format(msgspec.json.encode(report)))
    plots.curves(args.out / "curves.png", msgspec.structs.asdict(history), args.preset)
    plots.confusion(args.out / "confusion.png", report.test.confusion, labels, f"{args.preset}, test")
    show(report.test, f"{args.preset}, test clips", console)
    for source, part in report.sources.items():
        console.print(f"{source}: {100 * part.accuracy:.1f} % of {part.n}")


def device_of(args: argparse.Namespace) -> torch.device:
    name = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.zeros(0, device=name).device
    except (RuntimeError, AssertionError) as e:  # AssertionError: PyTorch was built without it
        raise HardError(f"--device {name}: {str(e).splitlines()[0]}; cpu is always there") from None


def decide(
    net: torch.nn.Module, test: ClipSet, preset: VideoPreset
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """(N,) the most likely label of each clip; by frame, of the mean of its frames' probabilities."""
    logits, _ = predict(net, lambda: batches(test, preset))
    p = torch.softmax(logits, dim=1).view(len(test.y), -1, logits.shape[1]).mean(dim=1)
    found: np.ndarray[tuple[int], np.dtype[np.int64]] = p.argmax(dim=1).numpy()
    return found


def train_webcam(args: argparse.Namespace, console: Console) -> None:
    """Train on everything but HELD_OUT, or one network a fold."""
    torch.set_num_threads(1)  # small layers: a second thread waits more than it helps
    cv2.setNumThreads(1)
    data, device = data_dir(args.data), device_of(args)
    with Progress(console=console) as progress:
        sources = webcam.read_sources(data, progress)
        shown = webcam.test_films(data)
        if not args.folds:
            net = webcam.train(
                sources.props(webcam.HELD_OUT), args.steps, args.seed, device, progress, "webcam"
            )
            saved = {"preset": "webcam", "seed": args.seed, "steps": args.steps, "weights": net.state_dict()}
            torch.save(saved, args.out / "checkpoint.pt")
            found = [webcam.score_held_out(net, shown, webcam.HELD_OUT)]
        else:
            found = []
            for k, without in enumerate(webcam.FOLDS):
                net = webcam.train(
                    sources.props(without), args.steps, args.seed, device, progress, f"fold {k}"
                )
                found.append(webcam.score_held_out(net, shown, without))
                for source, part in found[-1].items():
                    progress.print(
                        f"fold {k}, {source}: {100 * part.clips.accuracy:.1f} % of {part.clips.n} clips, "
                        f"{100 * part.windows.accuracy:.1f} % of {part.windows.n} windows"
                    )
    total = {
        f"{source}, {unit}": webcam.joined([getattr(f[source], unit) for f in found if source in f])
        for source in shown
        if any(source in f for f in found)
        for unit in ("clips", "windows")
    }
    name = "folds" if args.folds else "held_out"
    (args.out / f"{name}.json").write_bytes(msgspec.json.format(msgspec.json.encode(total)))
    for title, result in total.items():
        show(result, f"held out: {title}", console)
        plots.confusion(
            args.out / f"{name}_{title.replace(', ', '_')}.png", result.confusion, result.labels, title
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", choices=[*sorted(PRESETS), "webcam"], default="webcam")
    parser.add_argument(
        "--data", type=Path, help="folder of class folders (default: HARD_DATA, ../shared/data)"
    )
    parser.add_argument("--classes", nargs="+", default=[], help="only these class folders")
    parser.add_argument("--test-groups", nargs="+", default=[], help="groups to test on, such as g21 s07 red")
    parser.add_argument("--augment", nargs="*", choices=KINDS, help="instead of the preset's own")
    parser.add_argument("--epochs", type=at_least(1), help="instead of the preset's own")
    parser.add_argument(
        "--steps",
        type=at_least(1),
        help=f"of webcam (default: {webcam.STEPS}, of a fold {webcam.FOLD_STEPS})",
    )
    parser.add_argument("--folds", action="store_true", help="webcam: cross-validate, write no checkpoint")
    parser.add_argument("--bfloat16", action="store_true", help="half the time on CPUs that know it")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", help="cpu or cuda (default: cuda where there is one)")
    parser.add_argument("--out", type=Path, help="where to write (default: build/PRESET)")
    args = parser.parse_args()
    args.steps = args.steps or (webcam.FOLD_STEPS if args.folds else webcam.STEPS)
    args.out = args.out or Path("build") / args.preset
    args.out.mkdir(parents=True, exist_ok=True)
    plots.require()
    (train_webcam if args.preset == "webcam" else train_fixed)(args, Console())


if __name__ == "__main__":
    try:
        main()
    except HardError as e:
        sys.exit(f"error: {e}")
