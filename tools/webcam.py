"""Training of the shipped webcam model: composed clips without end, averaged weights.

Folds leave out people, a shirt and films at once: each fold's clips were in nobody's training.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import torch
from rich.progress import Progress
from torch import Tensor
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from hard.datasets.video import (
    ACTIVITIES,
    OTHER,
    Item,
    image_folders,
    loose_videos,
    shirt,
    webcam_clips,
    weizmann,
)
from hard.frames import read_image, read_video
from hard.nets.webcam import WebcamLrcn
from hard.types import F32, U8, Clip
from tools.cutout import Person, before_a_wall, before_one_camera
from tools.others import Props, Studio
from tools.scores import Scores, scores
from tools.video_score import Film, PartScore, films, score_films

STEPS: Final = 1500  # of the shipped weights
FOLD_STEPS: Final = 1400  # of each fold's
BATCH: Final = 24
LR: Final = 4e-3
AVERAGE: Final = 0.995  # decay of the averaged weights, per step
SMOOTHING: Final = 0.05
STOCK: Final = 480  # clips, 0.25 MB each
OTHER_SHARE: Final = 0.3  # of the clips composed
LABELS: Final = (*ACTIVITIES, OTHER)
CLIP: Final = Clip()
PROP_SIZE: Final = 96  # pixels, of stills and films that clips are composed of
HELD_OUT: Final = ("s07", "d20")  # a person and a clip that the shipped weights have not seen
FOLDS: Final = (
    ("s01", "s02", "s03", "dark", "laboratory", "mmaction2_test_video_structuralize"),
    ("s04", "s05", "red", "arm wrestling", "pool"),
    ("s06", "s07", "one-by-one-person-detection"),
)
"""What each fold leaves out: every person of Weizmann, each shirt and every film once."""


class Stock:
    """Composed clips, each shown a few times: composing one costs as much as training on it."""

    def __init__(self, studio: Studio, seed: int) -> None:
        self._studio = studio
        self._rng = np.random.default_rng(seed)
        self._clips: list[tuple[U8, int]] = []

    def batch(self, n: int) -> tuple[Tensor, Tensor]:
        """(n, frames, size, size, 3) uint8 RGB and labels (n,): a third new, the rest of the last STOCK."""
        new = n if len(self._clips) < STOCK else n // 3
        self._clips = [*self._clips[-STOCK + new :], *(self._studio.draw() for _ in range(new))]
        rows = self._rng.permutation(len(self._clips) - new)[: n - new]
        chosen = [self._clips[i] for i in rows] + self._clips[-new:]
        labels = torch.tensor([label for _, label in chosen])
        return torch.from_numpy(np.stack([clip for clip, _ in chosen])), labels


def train(
    props: Props, steps: int, seed: int, device: torch.device, progress: Progress, name: str
) -> WebcamLrcn:
    """Train on `steps` batches of clips, composed meanwhile; returns the averaged weights, on the CPU."""
    torch.manual_seed(seed)
    stock = Stock(Studio(props, LABELS, CLIP, OTHER_SHARE, seed), seed)
    net = WebcamLrcn(len(LABELS)).train().to(device)
    averaged = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(AVERAGE), use_buffers=True)  # type: ignore[no-untyped-call]
    optimizer = torch.optim.AdamW(net.parameters(), LR, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LR, steps, pct_start=0.15)
    task = progress.add_task(name, total=steps)
    running = 2.0
    for _ in range(steps):
        clips, labels = stock.batch(BATCH)
        with torch.autocast(device.type, torch.bfloat16):
            logits = net(clips.to(device))
            loss = F.cross_entropy(logits, labels.to(device), label_smoothing=SMOOTHING)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        averaged.update_parameters(net)
        running += 0.02 * (loss.item() - running)
        progress.update(task, advance=1, description=f"{name} loss {running:.3f}")
    found = averaged.module
    assert isinstance(found, WebcamLrcn)
    return found.cpu().eval()


class Sources(msgspec.Struct, frozen=True):
    """Everything there is to learn from and to be tested on."""

    people: list[Person]
    stills: U8  # (n, size, size, 3) RGB
    footage: list[tuple[Item, U8, float]]  # of people who do other things

    def props(self, without: Sequence[str]) -> Props:
        """What is left without these people, shirts, clips and films."""
        left = [p for p in self.people if not set(without) & names(p.group)]
        shown = [(f, rate_hz) for item, f, rate_hz in self.footage if item.group not in without]
        walls = {p.group: p.background for p in left}
        return Props(left, self.stills, shown, list(walls.values()))


def names(group: str) -> set[str]:
    """What a fold may call a clip by: its person, or its number and its shirt."""
    return {group, shirt(group)} if group.startswith("d") else {group}


def read_sources(data: Path, progress: Progress) -> Sources:
    task = progress.add_task("cutting people out", total=3)
    people = before_a_wall(weizmann(data)) + before_one_camera(webcam_clips(data))
    progress.advance(task)
    stills = np.stack([read_image(i.path, PROP_SIZE) for i in image_folders(data / "har_stills_15")])
    progress.advance(task)
    footage = [(i, *read_video(i.path, PROP_SIZE)) for i in loose_videos(data / "clips", OTHER)]
    progress.advance(task)
    return Sources(people, stills, footage)


class Eager:
    """A network in training's form with a daemon model's two methods."""

    def __init__(self, net: WebcamLrcn) -> None:
        self.net = net.eval()

    def encode(self, frames: U8) -> F32:
        with torch.inference_mode():
            found: F32 = self.net.encode(torch.from_numpy(frames)).numpy()
        return found

    def classify(self, embeddings: F32) -> F32:
        with torch.inference_mode():
            found: F32 = self.net.classify(torch.from_numpy(embeddings)).numpy()
        return found


def test_films(data: Path) -> dict[str, list[Film]]:
    """The untouched clips, by source."""
    return {
        "weizmann": films(weizmann(data), CLIP),
        "webcam_clips": films(webcam_clips(data), CLIP),
        "clips": films(loose_videos(data / "clips", OTHER), CLIP),
    }


def score_held_out(
    net: WebcamLrcn, shown: dict[str, list[Film]], without: Sequence[str]
) -> dict[str, PartScore]:
    """How a network does on the clips of these people, shirts and films, source by source."""
    found = {}
    for source, all_films in shown.items():
        own = [f for f in all_films if set(without) & names(f.item.group)]
        if any(len(f.frames) >= CLIP.frames for f in own):
            found[source] = score_films(Eager(net), own, LABELS, CLIP)
    return found


def joined(parts: Sequence[Scores]) -> Scores:
    """The figures over all folds' examples together."""
    matrix = np.sum([p.confusion for p in parts], axis=0)
    y, said = np.nonzero(matrix)
    counts = matrix[y, said]
    return scores(np.repeat(y, counts), np.repeat(said, counts), LABELS)
