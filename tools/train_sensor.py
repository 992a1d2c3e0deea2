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
from hard.nets.posture import PostureLstm
from hard.nets.rest import SITTING, STANDING
from hard.types import HardError, Windowing
from tools.options import at_least
from tools.pool import KINDS, Pool, read_pool
from tools.presets import PRESETS, Preset, SensorNet
from tools.scores import calibration_error

ROTATION_DEG: Final = 15.0  # standard deviation; 8 gave 97.5 %, 15 98.5 %, 20 98.3 % (--folds 5, 12 epochs)
ACC_ROTATIONS_DEG: Final = (15.0, 4.0)
"""Of each LSTM of lstm-acc: alone they get 94.7 and 94.9 % of left-out people's windows, together 95.1 %."""
GAIN: Final = 0.05  # standard deviation of a factor on acceleration and on the gyroscope
SMOOTHING: Final = 0.1
AVERAGE: Final = 0.998  # decay of the averaged weights, per step
SHARES: Final = (1.0, 1.0, 0.25)  # windows of each of KINDS in an epoch, per official window


def train(pool: Pool, preset: Preset, seed: int, progress: Progress, name: str) -> SensorNet:
    """Train on every window of the pool; returns the averaged weights, in evaluation mode."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    net = preset.build(len(LABELS), len(preset.channels))
    official, labels = pool.official()
    net.fit_scales(pool.windows(official))
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
    if isinstance(averaged, PostureLstm | LstmAcc):
        fit_rule(averaged, pool, rng)
    return averaged


def fit_rule(net: PostureLstm | LstmAcc, pool: Pool, rng: np.random.Generator) -> None:
    """From the upright windows of the pool, each after those before it in its stretch."""
    upright = of_upright(pool)
    official, labels = upright.official()
    with torch.inference_mode():
        net.rest.fit_sway(net.sway(upright.windows(official)))
        starts, y = upright.draw(1, len(official), rng)
        starts, y = torch.cat([official, starts]), torch.cat([labels, y])
        x = upright.windows(starts)
        seen, _ = net.rest.remember(x, net.sway(x), state_before(net, upright, starts))
        net.rest.fit(net.rest.numbers(seen), (y == STANDING).float(), upright.bouts(starts))


def state_before(net: PostureLstm | LstmAcc, pool: Pool, starts: Tensor) -> Tensor:
    """What the daemon carries to these windows (N,) from those before them in their stretches, (N, state)."""
    state = torch.zeros(len(starts), net.rest.state)
    for at, there in pool.before(starts, Windowing().hop):
        rows = there.nonzero()[:, 0]
        x = pool.windows(at[rows])
        state[rows] = net.rest.remember(x, net.sway(x), state[rows])[1]
    return state


def of_upright(pool: Pool) -> Pool:
    """The part of the pool in which people sit or stand."""
    return Pool(pool.stream, pool.spans[np.isin(pool.spans[:, 2], (SITTING, STANDING))], pool.window)


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
    """What the network says of these windows, (n, labels), each after those before it in its stretch."""
    out = []
    with torch.inference_mode():
        for i in range(0, len(starts), 512):
            part = starts[i : i + 512]
            if isinstance(net, PostureLstm | LstmAcc):
                out.append(net.step(pool.windows(part), state_before(net, pool, part))[0])
            else:
                out.append(net(pool.windows(part)))
    return torch.cat(out)


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
    parser.add_argument("--folds", type=at_least(2), help="only cross-validate, over the training people")
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
