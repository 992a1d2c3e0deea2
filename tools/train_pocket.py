"""Train lstm-pocket on three data sets, or measure it on people or on a whole data set left out."""

from __future__ import annotations

import argparse
import copy
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress
from torch import Tensor
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # `python tools/x.py` and `python -m tools.x`

from hard.card import Figure
from hard.datasets import data_dir
from hard.imu import CHANNELS, in_turns
from hard.nets.pocket import MOVING, RATE_HZ, LstmPocket
from hard.types import G, HardError, Windowing
from tools.confusion import Confusion, show
from tools.options import at_least
from tools.pocket_pool import (
    AVERAGING_S,
    LABELS,
    PERSON,
    SETS,
    TEMPERATURE,
    at_hops,
    draw,
    draw_runs,
    read_pocket_pool,
)
from tools.pocket_style import Styles, coloured
from tools.pool import Pool
from tools.scores import calibration_error
from tools.stretches import smoothed
from tools.train_sensor import fit_temperature

STEPS: Final = 1800
BATCH: Final = 128
LR: Final = 3e-3
SMOOTHING: Final = 0.1
AVERAGE: Final = 0.995  # decay of the averaged weights, per step
WARP: Final = 0.12  # log standard deviation of the speed of the motion
GAIN: Final = 0.15  # log standard deviation of a factor on what moves, and on the gyroscope
LEVER: Final = 0.1  # m, standard deviation of each coordinate of where else on the limb the phone may be
POSTURE_STEPS: Final = 1500
POSTURE_BATCH: Final = 512
POSTURE_LR: Final = 5e-3
POSTURE_RUNS: Final = 8000  # of windows of people at rest
POSTURE_HOPS: Final = 6  # in a run at most: with 12, or 24, too much is learnt by heart


def train(pool: Pool, seed: int, steps: int, progress: Progress, name: str) -> LstmPocket:
    """Train on every stretch of the pool; returns the averaged weights, in evaluation mode."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    net = LstmPocket(len(LABELS)).eval()
    net.fit_scales(pool.windows(draw(pool.spans, 4000, rng)[0]))
    train_postures(net, pool, rng)
    styles = Styles(pool, rng)
    averaged = copy.deepcopy(net)
    optimizer = torch.optim.AdamW(net.parameters(), LR, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LR, steps, pct_start=0.15)
    task = progress.add_task(name, total=steps)
    net.train()
    for step in range(1, steps + 1):
        starts, y, kind = draw(pool.spans, BATCH, rng)
        acc, gyro, up = net.hip_frame(styles(augment(pool, starts), y, kind, rng))
        logits = net.gaits(coloured(acc), gyro, up)
        loss = F.cross_entropy(logits, y.clamp(max=MOVING), label_smoothing=SMOOTHING)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        average(averaged, net, min(AVERAGE, step / (step + 10)))
        progress.update(task, advance=1, description=f"{name} loss {loss.item():.3f}")
    return averaged


def average(averaged: LstmPocket, net: LstmPocket, decay: float) -> None:
    with torch.no_grad():
        for a, b in zip(averaged.parameters(), net.parameters(), strict=True):
            a.lerp_(b, 1 - decay)


def train_postures(net: LstmPocket, pool: Pool, rng: np.random.Generator) -> None:
    """The layers that tell the postures, from people at rest: what is seen of them since a random moment."""
    spans = pool.spans[pool.spans[:, 2] >= MOVING]
    starts, there, labels = draw_runs(spans, POSTURE_RUNS, POSTURE_HOPS, Windowing().hop, rng)
    net.fit_sway(pool.windows(starts[there]))
    state = torch.zeros(len(starts), net.rest_state)
    parts = []
    for k in range(int(there.sum(dim=1).max())):
        rows = there[:, k].nonzero()[:, 0]
        x = pool.windows(starts[rows, k])
        seen, state[rows] = net.remember(x, net.sway(x), net.moved(x), state[rows])
        parts.append((seen, labels[rows] - MOVING))
    seen, y = (torch.cat(part) for part in zip(*parts, strict=True))
    parameters = net.posture.parameters()
    optimizer = torch.optim.AdamW(parameters, POSTURE_LR, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, POSTURE_LR, POSTURE_STEPS)
    net.train()
    for _ in range(POSTURE_STEPS):
        rows = torch.randint(len(y), (POSTURE_BATCH,))
        loss = F.cross_entropy(net.postures(seen[rows]), y[rows], label_smoothing=SMOOTHING / 2)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    net.eval()


def augment(pool: Pool, starts: Tensor) -> Tensor:
    """The windows, (n, T, 6), of people who move faster or slower and stronger, by phones a little elsewhere.

    Two places on a rigid limb feel what the gyroscope says they do: a' = a + dw/dt x r + w x (w x r), so that
    a pocket's phone may be nearer to the hip. Gaits of MotionSense without training on it, in short runs:
    61 -> 64 % of windows.
    """
    n, length = len(starts), pool.window
    speed = torch.exp(WARP * torch.randn(n)).clamp(0.75, 1.3)
    at = (torch.arange(length) - (length - 1) / 2) * speed[:, None] + (length - 1) / 2 + starts[:, None]
    at = at.clamp(0, len(pool.stream) - 2)
    before = at.floor().long()
    part = (at - before)[:, :, None].float()
    x = pool.stream[before] * (1 - part) + pool.stream[before + 1] * part
    gyro = x[:, :, :3] * speed[:, None, None]
    acc = x[:, :, 3:] + elsewhere(gyro, LEVER * torch.randn(n, 1, 3))
    gain, turn = torch.exp(GAIN * torch.randn(2, n, 1, 1)).unbind(0)
    rest = acc.mean(dim=1, keepdim=True)
    return torch.cat([gyro * turn, rest + (acc - rest) * gain], dim=2)


def elsewhere(gyro: Tensor, r: Tensor) -> Tensor:
    """Acceleration [g] (n, T, 3) that a limb's turning [rad/s] adds at r [m] (n, 1, 3) from the phone."""
    turning = torch.gradient(gyro, dim=1)[0] * RATE_HZ
    r = r.expand_as(gyro)
    inward = torch.linalg.cross(gyro, torch.linalg.cross(gyro, r, dim=2), dim=2)
    out: Tensor = (torch.linalg.cross(turning, r, dim=2) + inward) / G
    return out


class Results(msgspec.Struct, frozen=True):
    """What was said of windows left out, each after those before it in its stretch."""

    truth: NDArray[np.int64]  # (N,)
    kind: NDArray[np.int64]  # (N,) index of SETS
    logits: Tensor  # (N, labels)
    alone: NDArray[np.int64]  # (N,) what is said where nothing before is known
    steady: NDArray[np.int64]  # (N,) of the daemon's smoother, -1: `unknown`; see stretches.py

    @staticmethod
    def of(parts: Sequence[Results]) -> Results:
        truth, kind, alone, steady = (
            np.concatenate([getattr(p, name) for p in parts]) for name in ("truth", "kind", "alone", "steady")
        )
        return Results(truth, kind, torch.cat([p.logits for p in parts]), alone, steady)


class Pools(msgspec.Struct, frozen=True):
    """The same windows as the network sees them, and their body acceleration [g]."""

    seen: Pool
    body: Pool

    def at(self, spans: NDArray[np.bool_]) -> Pools:
        seen, body = (Pool(p.stream, p.spans[spans], p.window) for p in (self.seen, self.body))
        return Pools(seen, body)


def test(net: LstmPocket, held: Pools) -> Results:
    """Every window a hop apart."""
    w = Windowing()
    starts, spans = at_hops(held.seen, w.hop)
    said = torch.empty(len(starts), len(LABELS))
    state = torch.zeros(len(held.seen.spans), net.state)
    alone, movement = [], []
    with torch.inference_mode():
        for rows in in_turns(spans.tolist()):
            of = spans[rows]
            said[rows], state[of] = net.step(held.seen.windows(starts[rows]), state[of])
        for i in range(0, len(starts), 256):
            part = starts[i : i + 256]
            alone.append(net(held.seen.windows(part)).argmax(dim=1))
            movement.append(held.body.windows(part).square().mean(dim=1).sum(dim=1).sqrt())
    probabilities = torch.softmax(said / TEMPERATURE, dim=1).numpy()
    movement_g = torch.cat(movement).numpy()
    steady = smoothed(spans, LABELS, probabilities, movement_g, w.hop / w.rate_hz, AVERAGING_S)
    truth, kind = held.seen.spans[spans][:, [2, 4]].T
    return Results(truth, kind, said, torch.cat(alone).numpy(), steady)


def leave_people_out(pools: Pools, folds: int, seed: int, steps: int, progress: Progress) -> Results:
    """Every window, by a network that never saw its person.

    A fold leaves out people of all the sets at once.
    """
    pool = pools.seen
    people = np.random.default_rng(0).permutation(pool.users)  # the same folds for every seed
    parts = []
    for fold in range(folds):
        left_out = np.concatenate([people[people // PERSON == k][fold::folds] for k in range(len(SETS))])
        net = train(pool.of(np.setdiff1d(people, left_out)), seed, steps, progress, f"fold {fold}")
        parts.append(test(net, pools.at(np.isin(pool.spans[:, 3], left_out))))
    return Results.of(parts)


def leave_set_out(pools: Pools, left_out: int, seed: int, steps: int, progress: Progress) -> Results:
    """The same of one set's windows, by a network that saw the others; activities that only it has are not
    counted."""
    spans = pools.seen.spans
    rest = pools.at(spans[:, 4] != left_out).seen
    known = np.isin(spans[:, 2], rest.spans[:, 2])
    net = train(rest, seed, steps, progress, f"without {SETS[left_out]}")
    return test(net, pools.at((spans[:, 4] == left_out) & known))


def report(results: Results, what: str, command: str, console: Console) -> list[Figure]:
    """Show a confusion matrix of every set, and return as figures the accuracies and how far the
    probabilities at TEMPERATURE are from them."""
    best = fit_temperature(results.logits, torch.from_numpy(results.truth))
    console.print(f"best temperature: {best:.2f}; exported with {TEMPERATURE:.2f}")
    confidence, said = (
        part.numpy() for part in torch.softmax(results.logits / TEMPERATURE, dim=1).max(dim=1)
    )
    figures = []
    for k in np.unique(results.kind):
        of, where = results.kind == k, f"{SETS[k]}, {what}"
        matrix = Confusion.of(LABELS, results.truth[of], said[of])
        show(where, matrix, console)
        alone, steady = (float((r[of] == results.truth[of]).mean()) for r in (results.alone, results.steady))
        console.print(f"every window by itself, nothing known from before: {100 * alone:.2f} %")
        console.print(f"steady labels, every stretch a recording of its own: {100 * steady:.1f} %")
        error = calibration_error(confidence[of], said[of] == results.truth[of])
        figures.append(Figure("accuracy", round(matrix.accuracy, 4), where, command, matrix.n))
        figures.append(Figure("accuracy of steady labels", round(steady, 4), where, command, matrix.n))
        figures.append(Figure("expected calibration error", round(error, 4), where, command, matrix.n))
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="data folder (default: HARD_DATA, ../shared/data, data)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=at_least(1), default=STEPS)
    parser.add_argument("--out", type=Path, default=Path("build/lstm-pocket"), help="default: %(default)s")
    parser.add_argument("--leave-out", choices=("subjects", *SETS), help="only measure, on what is left out")
    parser.add_argument(
        "--folds", type=at_least(2), default=4, help="of --leave-out subjects (default: %(default)s)"
    )
    args = parser.parse_args()
    torch.set_num_threads(1)
    console = Console()
    data = data_dir(args.data)
    pool = read_pocket_pool(data, Windowing(), SETS)
    args.out.mkdir(parents=True, exist_ok=True)
    with Progress(console=console) as progress:
        if args.leave_out is None:
            net = train(pool, args.seed, args.steps, progress, "lstm-pocket")
            saved = {"seed": args.seed, "steps": args.steps, "weights": net.state_dict()}
            torch.save(saved, args.out / "checkpoint.pt")
            console.print(f"{args.out}/checkpoint.pt; next: python tools/export_pocket.py")
            return
        pools = Pools(pool, read_pocket_pool(data, Windowing(), SETS, CHANNELS[:3]))
        if args.leave_out == "subjects":
            results = leave_people_out(pools, args.folds, args.seed, args.steps, progress)
            what = f"people left out, {args.folds} folds"
        else:
            left_out = SETS.index(args.leave_out)
            results = leave_set_out(pools, left_out, args.seed, args.steps, progress)
            what = "trained without this set: the activities it shares with the others"
    command = f"python tools/train_pocket.py --leave-out {args.leave_out} --seed {args.seed}"
    found = report(results, what, command, console)
    (args.out / f"{args.leave_out}.json").write_bytes(msgspec.json.encode(found))


if __name__ == "__main__":
    try:
        main()
    except HardError as e:
        sys.exit(f"error: {e}")
