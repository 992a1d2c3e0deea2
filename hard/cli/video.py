"""hard classify for a video: what is done in it, over time."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from hard.cli.options import json_line
from hard.opencv import need_opencv
from hard.types import U8, Event, Frame, HardError, Label

if TYPE_CHECKING:
    from hard.footage import Footage
    from hard.settings import Settings

PICTURES: Final = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif"}
VIDEOS: Final = {
    ".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ts", ".wmv", ".flv", ".3gp", ".ogv",
    ".mjpg", ".mjpeg",
}  # fmt: skip
RECORDINGS: Final = {".csv", ".txt", ".gz", ".json", ".zip"}


class Part(msgspec.Struct):
    """A stretch of a video with one steady activity."""

    begin_s: float
    activity: str
    confidences: list[float]


def is_video(path: Path) -> bool:
    """Whether a file is one of pictures: by its ending, else by bytes that no recording of motion has."""
    ending = path.suffix.lower()
    if ending in VIDEOS | PICTURES:
        return True
    if ending in RECORDINGS or not os.path.isfile(path):
        return False
    from hard.recordings.files import GZIP_MAGIC, ZIP_MAGIC

    with path.open("rb") as file:
        head = file.read(4096)
    return b"\0" in head and not head.startswith((*ZIP_MAGIC, GZIP_MAGIC))


def classify_video(
    path: Path, model: str | None, settings: Settings, as_json: bool, annotate: Path | None
) -> int:
    """Print what is done in a video: a line a stretch, or with `as_json` a line a label as the daemon's."""
    need_opencv()
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from hard.footage import check_output, open_footage

    if annotate is not None:
        check_output("--annotate", annotate, path)
    footage = open_footage(path)
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.percentage:3.0f} %"),
        TimeRemainingColumn(),
    )
    try:
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
            task = bar.add_task(path.name, total=footage.duration_s)
            look = Look(footage, path.stem, model or settings.video.model, settings, annotate)
            for t, label in look:
                bar.update(task, completed=t)
                if label is not None and as_json:
                    print(json_line(label, dated=False))
        if not as_json:
            ends = [part.begin_s for part in look.parts[1:]] + [look.t]
            for part, end_s in zip(look.parts, ends, strict=False):
                print(_text_line(part, end_s))
        sys.stdout.flush()
    except BrokenPipeError:  # as in `hard classify ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    finally:
        footage.close()
    if footage.is_short(look.t):
        print(f"{path}: ends at {look.t:.1f} of {footage.duration_s:.1f} s; is it damaged?", file=sys.stderr)
    if not look.parts:
        clip = look.clip
        raise HardError(
            f"{path}: {look.frames} frame(s) in {max(look.t, 0.0):.2f} s hold no complete clip of "
            f"{(clip.frames - 1) / clip.rate_hz:.2f} s"
        )
    return 0


class Look:
    """Goes through a video as the daemon would, but as fast as it can; the labels' times are the video's."""

    def __init__(
        self, footage: Footage, device: str, model: str, settings: Settings, annotate: Path | None
    ) -> None:
        from hard.footage import Film
        from hard.history import History
        from hard.model import load_video_model
        from hard.smoothing import Smoother
        from hard.video import VideoRecognizer

        v = settings.video
        self._footage = footage
        self._device = device
        self._film = Film(annotate, footage.rate_hz) if annotate else None
        loaded = load_video_model(model)
        self.clip = loaded.card.clip
        self._recognizer = VideoRecognizer(
            device, loaded, every=v.every_frames, max_gap_s=v.max_gap_s, min_rate_hz=v.min_rate_hz
        )
        self._history = History(Smoother(v.smoothing()))
        self.parts: list[Part] = []
        self.frames = 0
        self.t = -1.0

    def __iter__(self) -> Iterator[tuple[float, Label | None]]:
        """Each frame's time, in seconds, and the label that comes with it, if any."""
        from hard.video import Grid

        grid = Grid(self.clip.rate_hz)
        newest: Label | None = None
        try:
            while (t := self._footage.grab()) is not None:
                self.t, self.frames = t, self.frames + 1
                place = grid.place(t)
                label = None
                if place is not None or self._film:
                    pixels = self._footage.picture()
                    if pixels is None:
                        continue
                    label = self._label(Frame(pixels, t, place, t, self._footage.rate_hz))
                    newest = label or newest
                    if self._film:
                        self._draw(pixels, newest)
                yield t, label
        finally:
            if self._film:
                self._film.close()

    def _label(self, frame: Frame) -> Label | None:
        if frame.place is None:
            return None
        began_s = time.monotonic()
        prediction = self._recognizer.push(frame)
        if prediction is None:
            return None
        events: list[Event] = []
        spent_s = time.monotonic() - began_s
        label = self._history.label(prediction, frame.t + spent_s, frame.t + spent_s, events)
        if not self.parts or self.parts[-1].activity != label.activity:
            middle_s = frame.t - (self.clip.frames - 1) / self.clip.rate_hz / 2  # of the clip that says so
            self.parts.append(Part(middle_s if self.parts else 0.0, label.activity, []))
        self.parts[-1].confidences.append(label.confidence)
        return label

    def _draw(self, pixels: U8, label: Label | None) -> None:
        from hard.overlay import Caption, draw

        assert self._film
        self._film.show(draw(pixels, Caption(self._device, label, rate_hz=self._footage.rate_hz)), self.t)


def _text_line(part: Part, end_s: float) -> str:
    mean = sum(part.confidences) / len(part.confidences)
    return f"{part.begin_s:8.2f} - {end_s:.2f} s  {part.activity:<19} {mean:.2f}"
