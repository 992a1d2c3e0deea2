"""The training loop of networks that learn from a fixed set: early stopping, best weights back."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import Progress
from torch import Tensor, nn
from torch.nn import functional as F

Batches = Callable[[], Iterator[tuple[Tensor, Tensor]]]  # one epoch: inputs in [0, 1], labels


class Schedule(msgspec.Struct, frozen=True):
    """How long, and by which steps."""

    epochs: int
    batch: int
    lr: float = 1e-3
    patience: int | None = None  # epochs without a lower validation loss; None: no early stopping
    one_cycle: bool = False  # the rate rises and falls; else it is constant
    weight_decay: float = 0.0
    smoothing: float = 0.0
    mix: bool = False  # parts of images from others, as CutMix does (Yun et al. 2019, arXiv 1905.04899)


class History(msgspec.Struct):
    """What each epoch reached; filled by one thread."""

    loss: list[float] = []
    accuracy: list[float] = []
    validation_loss: list[float] = []
    validation_accuracy: list[float] = []


def fit(
    net: nn.Module,
    train: Batches,
    validation: Batches,
    schedule: Schedule,
    weights: Tensor,
    progress: Progress,
    name: str,
    bfloat16: bool = False,
) -> History:
    """Train in place by Adam; on return the network has the weights of its lowest validation loss.

    weights: (labels,), what an example of each class counts.
    """
    device = next(net.parameters()).device
    weights = weights.to(device)
    optimizer = torch.optim.AdamW(net.parameters(), schedule.lr, weight_decay=schedule.weight_decay)
    turns = sum(1 for _ in train()) * schedule.epochs if schedule.one_cycle else 1
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, schedule.lr, turns) if schedule.one_cycle else None
    history, best, kept, since = History(), math.inf, copy.deepcopy(net.state_dict()), 0
    task = progress.add_task(name, total=schedule.epochs)
    for _ in range(schedule.epochs):
        net.train()
        loss_sum, right, seen = 0.0, 0, 0
        for x, y in train():
            x, y = x.to(device), y.to(device)
            x, other, share = cut_mix(x, y) if schedule.mix else (x, y, 1.0)
            with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
                logits = net(x)
                parts = [
                    F.cross_entropy(logits, k, weights, label_smoothing=schedule.smoothing)
                    for k in (y, other)
                ]
                loss = share * parts[0] + (1 - share) * parts[1]
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            if cycle:
                cycle.step()
            loss_sum += loss.item() * len(y)
            right += int((logits.argmax(dim=1) == y).sum())
            seen += len(y)
        found, truth = predict(net, validation)
        lost = float(F.cross_entropy(found, truth, weights.cpu()))
        history.loss.append(loss_sum / seen)
        history.accuracy.append(right / seen)
        history.validation_loss.append(lost)
        history.validation_accuracy.append(float((found.argmax(dim=1) == truth).float().mean()))
        progress.update(
            task,
            advance=1,
            description=f"{name} {loss_sum / seen:.3f}, {history.validation_accuracy[-1]:.1%}",
        )
        if lost < best:
            best, kept, since = lost, copy.deepcopy(net.state_dict()), 0
        else:
            since += 1
        if schedule.patience is not None and since >= schedule.patience:
            break
    net.load_state_dict(kept)
    return history


def cut_mix(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, float]:
    """Images (..., h, w) with a rectangle each from another, the labels of the others, and the own share."""
    h, w = x.shape[-2:]
    edge = (1 - float(torch.rand(()))) ** 0.5
    tall, wide = int(h * edge), int(w * edge)
    top = int(torch.randint(h - tall + 1, ()))
    left = int(torch.randint(w - wide + 1, ()))
    order = torch.randperm(len(x), device=x.device)
    mixed = x.clone()
    mixed[..., top : top + tall, left : left + wide] = x[order][..., top : top + tall, left : left + wide]
    return mixed, y[order], 1 - tall * wide / (h * w)


def predict(net: nn.Module, batches: Batches) -> tuple[Tensor, Tensor]:
    """Logits (N, labels) in evaluation mode, and labels (N,), both on the CPU."""
    device = next(net.parameters()).device
    net.eval()
    with torch.inference_mode():
        pairs = [(net(x.to(device)).cpu(), y) for x, y in batches()]
    return torch.cat([a for a, _ in pairs]), torch.cat([b for _, b in pairs])


def class_weights(y: NDArray[np.int64], labels: int) -> Tensor:
    """(labels,) so that every class counts alike, 1 on average over the examples."""
    counts = np.bincount(y, minlength=labels)
    return torch.from_numpy((len(y) / (labels * np.maximum(counts, 1))).astype(np.float32))
