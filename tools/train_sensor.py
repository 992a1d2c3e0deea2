"""Train a sensor network on HAPT's training people, or cross-validate it over them."""

from __future__ import annotations

import argparse
import copy
import sys
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress
from torch import Tensor
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # `python tools/x.py` and `python -m tools.x`

from hard.card import Figure
from hard.datasets import data_dir
from hard.datasets.hapt import LABELS
from hard.nets.acc import LstmAcc
from hard.nets.posture import SITTING, STANDING, PostureLstm
from hard.types import HardError, Windowing
from tools.pool import KINDS, Pool, read_pool
from tools.presets import PRESETS, Preset, SensorNet
from tools.scores import calibration_error

ROTATION_DEG: Final = 15.0  # standard deviation; 8 gave 97.5 %, 15 98.5 %, 20 98.3 % (--folds 5, 12 epochs)
ACC_ROTATIONS_DEG: Final = (15.0, 4.0)
"""Of each LSTM of lstm-acc: alone they get 94.7 and 94.9 % of left-out people's windows, together 95.1 %."""
GAIN: Final = 0.05  # standard deviation of a factor on acceleration and on the gyroscope
SMOOTHING: Final = 0.1
AVERAGE: Final = 0.998  # decay of the averaged weights, per step
OPINION_EPOCHS: Final = 60
OPINION_BATCH: Final = 64
OPINION_LR: Final = 3e-3
SHARES: Final = (1.0, 1.0, 0.25)  # windows of each of KINDS in an epoch, per official window


def train(pool: Pool, preset: Preset, seed: int, progress: Progress, name: str) -> SensorNet:
    """Train on every window of the pool; returns the averaged weights, in evaluation mode."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    net = preset.build(len(LABELS), len(preset.channels))
    official, labels = pool.official()
    net.fit_scales(pool.windows(official))
    if isinstance(net, PostureLstm):
        net.fit_sway(pool.windows(official), labels)
    if isinstance(net, LstmAcc):
        net.fit_rule(pool.windows(official), labels, pool.bouts(official))
    averaged = copy.deepcopy(net).eval()
    counts = [int(share * len(official)) for share in SHARES]
    steps = preset.epochs * (sum(counts) // preset.batch)
    optimizer = torch.optim.AdamW(net.parameters(), preset.lr, weight_decay=preset.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, preset.lr, steps, pct_start=0.15)
    task = progress.add_task(name, total=steps)
    step = 0
    for _ in range(preset.epochs):
        draws = [(official, labels)] + [pool.draw(kind, counts[kind], rng) for kind in (1, 2)]
        starts, y = torch.cat([d[0] for d in draws]), torch.cat([d[1] for d in draws])
        order = torch.randperm(len(starts))[: steps // preset.epochs * preset.batch]
        for rows in order.view(-1, preset.batch):
            loss = loss_of(net, pool.windows(starts[rows]), y[rows])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(net.parameters(), preset.clip)
            optimizer.step()
            schedule.step()
            step += 1
            average(averaged, net, min(AVERAGE, step / (step + 10)))
            progress.update(task, advance=1, description=f"{name} loss {loss.item():.3f}")
    if isinstance(averaged, PostureLstm):
        train_opinion(averaged, pool, seed, progress, name)
    return averaged


def loss_of(net: SensorNet, x: Tensor, y: Tensor) -> Tensor:
    """Of a batch (n, T, channels), each network of the net with a turn of its own."""
    if isinstance(net, LstmAcc):
        y = y - (y >= STANDING).long()  # sitting and standing are one
        said = [lstm(augment(x, deg)) for lstm, deg in zip(net.lstms, ACC_ROTATIONS_DEG, strict=True)]
    else:
        said = [net.of_lstm(augment(x)) if isinstance(net, PostureLstm) else net(augment(x))]
    return torch.stack([F.cross_entropy(z, y, label_smoothing=SMOOTHING) for z in said]).sum()


def average(averaged: SensorNet, net: SensorNet, decay: float) -> None:
    with torch.no_grad():
        for a, b in zip(averaged.parameters(), net.parameters(), strict=True):
            a.lerp_(b, 1 - decay)
        for mine, its in zip(averaged.buffers(), net.buffers(), strict=True):
            mine.copy_(its)


def train_opinion(net: PostureLstm, pool: Pool, seed: int, progress: Progress, name: str) -> None:
    """Train what a PostureLstm makes of sway, on the upright windows of the pool; the LSTM stays."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    upright = Pool(pool.stream, pool.spans[np.isin(pool.spans[:, 2], (SITTING, STANDING))], pool.window)
    counts = [int(share * len(upright.official()[0])) for share in SHARES]
    per_epoch = sum(counts) // OPINION_BATCH
    steps = OPINION_EPOCHS * per_epoch
    optimizer = torch.optim.AdamW(net.opinion.parameters(), OPINION_LR, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, OPINION_LR, steps, pct_start=0.2)
    task = progress.add_task(f"{name}, sway", total=steps)
    net.opinion.train()
    for _ in range(OPINION_EPOCHS):
        draws = [upright.official()] + [upright.draw(kind, counts[kind], rng) for kind in (1, 2)]
        starts, y = torch.cat([d[0] for d in draws]), torch.cat([d[1] for d in draws])
        standing = (y == STANDING).float() * (1 - SMOOTHING) + SMOOTHING / 2
        for rows in torch.randperm(len(starts))[: per_epoch * OPINION_BATCH].view(per_epoch, -1):
            odds = net.of_sway(augment(upright.windows(starts[rows])))[:, 0]
            loss = F.binary_cross_entropy_with_logits(odds, standing[rows])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            progress.update(task, advance=1, description=f"{name}, sway, loss {loss.item():.3f}")
    net.opinion.eval()


def augment(x: Tensor, rotation_deg: float = ROTATION_DEG) -> Tensor:
    """The same motion of a phone worn a little differently, with another phone's gains.

    x: (n, T, 9), or (n, T, 6) without the gyroscope.
    """
    n = len(x)
    axis = F.normalize(torch.randn(n, 3), dim=1)
    angle = torch.randn(n) * np.radians(rotation_deg)
    a, b, c = (axis * torch.sin(angle / 2)[:, None]).unbind(1)
    w = torch.cos(angle / 2)
    rotation = torch.stack(
        [
            *(1 - 2 * (b * b + c * c), 2 * (a * b - c * w), 2 * (a * c + b * w)),
            *(2 * (a * b + c * w), 1 - 2 * (a * a + c * c), 2 * (b * c - a * w)),
            *(2 * (a * c - b * w), 2 * (b * c + a * w), 1 - 2 * (a * a + b * b)),
        ],
        dim=1,
    ).view(n, 1, 3, 3)
    turned = torch.einsum("ntcj,nkij->ntci", x.view(n, x.shape[1], -1, 3), rotation)
    acc, gyro = (1 + GAIN * torch.randn(2, n, 1, 1)).unbind(0)
    gains = [acc, gyro, acc] if turned.shape[2] == 3 else [acc, acc]
    return torch.cat([part * gain for part, gain in zip(turned.unbind(2), gains, strict=True)], dim=2)


def logits(net: SensorNet, pool: Pool, starts: Tensor) -> Tensor:
    """What the network says of these windows, (n, labels)."""
    with torch.inference_mode():
        return torch.cat([net(pool.windows(starts[i : i + 512])) for i in range(0, len(starts), 512)])


def cross_validate(
    pool: Pool, preset: Preset, folds: int, seed: int, console: Console, out: Path
) -> tuple[float, float, float]:
    """Leave subjects out over the pool's people; writes the networks of the folds.

    Returns, of the left-out people's official windows, the accuracy (mean of folds), the temperature that
    calibrates the probabilities, and the expected calibration error with it.
    """
    people = np.random.default_rng(0).permutation(pool.users)  # the same folds for every seed
    scores, said = [], []
    with Progress(console=console) as progress:
        for fold, left_out in enumerate(np.array_split(people, folds)):
            net = train(pool.of(np.setdiff1d(people, left_out)), preset, seed, progress, f"fold {fold}")
            torch.save({"users": left_out.tolist(), "weights": net.state_dict()}, out / f"fold-{fold}.pt")
            held = pool.of(left_out)
            rng = np.random.default_rng(1)
            sets = [held.official()] + [held.draw(kind, 2000, rng) for kind in (1, 2)]
            results = [(logits(net, held, starts), y) for starts, y in sets]
            said.append(results[0])
            scores.append([float((z.argmax(dim=1) == y).float().mean()) for z, y in results])
            shown = ", ".join(f"{k} {100 * v:.2f} %" for k, v in zip(KINDS, scores[-1], strict=True))
            progress.print(f"fold {fold}, without users {sorted(left_out.tolist())}: {shown}")
    means = np.mean(scores, axis=0)
    z, y = torch.cat([z for z, _ in said]), torch.cat([y for _, y in said])
    temperature = fit_temperature(z, y)
    confidence, answer = torch.softmax(z / temperature, dim=1).max(dim=1)
    error = calibration_error(confidence.numpy(), (answer == y).numpy())
    console.print("mean: " + ", ".join(f"{k} {100 * v:.2f} %" for k, v in zip(KINDS, means, strict=True)))
    console.print(f"temperature {temperature:.2f}: expected calibration error {100 * error:.2f} %")
    return float(means[0]), temperature, error


def fit_temperature(z: Tensor, y: Tensor) -> float:
    """The divisor of the logits (n, labels) with the lowest cross-entropy, in hundredths."""
    return min((t / 100 for t in range(20, 200)), key=lambda t: float(F.cross_entropy(z / t, y)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", choices=sorted(PRESETS), default="lstm-waist")
    parser.add_argument("--data", type=Path, help="data folder (default: HARD_DATA, ../shared/data, data)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="where to write (default: build/PRESET)")
    parser.add_argument("--folds", type=int, help="only cross-validate, over the training people")
    args = parser.parse_args()
    torch.set_num_threads(1)
    console, preset, windowing = Console(), PRESETS[args.preset], Windowing()
    rng = np.random.default_rng(args.seed)
    pool = read_pool(data_dir(args.data), windowing, rng, preset.channels)
    out = args.out or Path("build") / args.preset
    out.mkdir(parents=True, exist_ok=True)
    if args.folds:
        mean, _, error = cross_validate(pool, preset, args.folds, args.seed, console, out)
        command = (
            f"python tools/train_sensor.py --preset {args.preset} --seed {args.seed} --folds {args.folds}"
        )
        people = f"the official windows of left-out training people, {args.folds} folds of {len(pool.users)}"
        figures = [
            Figure("accuracy, mean of folds", round(mean, 4), people, command),
            Figure("expected calibration error, out of fold", round(error, 4), people, command),
        ]
        (out / "folds.json").write_bytes(msgspec.json.encode(figures))
        return
    with Progress(console=console) as progress:
        net = train(pool, preset, args.seed, progress, args.preset)
    torch.save({"preset": args.preset, "seed": args.seed, "weights": net.state_dict()}, out / "checkpoint.pt")
    console.print(f"{out}/checkpoint.pt; next: python tools/export.py {out}/checkpoint.pt")


if __name__ == "__main__":
    try:
        main()
    except HardError as e:
        sys.exit(f"error: {e}")
