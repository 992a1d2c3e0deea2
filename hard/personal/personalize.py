"""`hard personalize`: recordings of one person -> a head for their device, if it is better than none."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from hard.imu import Imu, Limits
from hard.model import Model, load_model
from hard.personal.adapter import LEAST, RIDGE, Adapter, fit
from hard.personal.profiles import Calibration, Head, now
from hard.personal.record import read_calibration, recordings
from hard.recall import Recall
from hard.recognizer import Recognizer, require_no_need_of_gyroscope, turned
from hard.recordings import Recording, read_recording
from hard.settings import EngineSettings, ImuSettings
from hard.stats import Counters
from hard.types import F32, F64, HardError

BLOCKS: Final = 5  # of a recording, each left out once
LEAST_S: Final = 10.0  # of an activity
PHASES: Final = 2  # windows begin at every hop / PHASES


class Labelled(msgspec.Struct, frozen=True):
    """Windows of labelled recordings and what the model says of them."""

    x: F32  # (N, window, 9)
    y: NDArray[np.intp]  # (N,) indices into the model's labels
    start: F64  # (N,) place in time of the window's first and
    end: F64  # last sample, 0 to 1 of its recording
    probabilities: F32  # (N, labels)


class Track(msgspec.Struct, frozen=True):
    """A recording, what its person does in it, and how they wore the phone."""

    label: str
    recording: Recording
    rotation: F64 | None = None  # (3, 3); None: not calibrated


def personalize(
    device: str,
    folder: Path,
    settings: ImuSettings,
    calibration: Calibration | None,
    engine: EngineSettings = EngineSettings(),  # noqa: B008  # it is frozen
) -> Head:
    """A head from the recordings in a folder; HardError where they do not suffice or it is not better.

    Each recording is turned by the calibration kept with it; where there is none, by the one given.
    """
    found = recordings(folder)
    if not found:
        raise HardError(
            f"{folder}: no recordings; make them with `hard record --device {device} --label sitting`"
        )
    worn = [read_calibration(path) or calibration for _, path in found]
    if any(worn) != all(worn):
        raise HardError(
            f"{folder}: some recordings were made with a calibration, some without; remove the latter "
            f"(*.csv without a *.json), or `hard calibrate {device}`, worn as in those"
        )
    tracks = [
        Track(label, read_recording(path, "m/s2", "rad/s"), None if c is None else np.array(c.rotation))
        for (label, path), c in zip(found, worn, strict=True)
    ]
    model = _model_of(tracks, settings, engine)
    seconds = _seconds(tracks, model.card.labels, device)
    data = labelled(model, tracks)
    head = make_head(device, model, data, seconds, all(worn))
    before, after = compare(model, data, head)
    if (after.right, -after.loss) <= (before.right, -before.loss):
        raise HardError(
            f"a head is no better on parts of the recordings left out: right {before}, with it {after}; "
            "nothing was changed. Record the activities that are taken for one another, as you do them"
        )
    return msgspec.structs.replace(head, before=round(before.right, 4), after=round(after.right, 4))


def _model_of(tracks: Sequence[Track], settings: ImuSettings, engine: EngineSettings) -> Model:
    """The one that the daemon would take: by the gyroscope, a calibration, and how the phone was carried."""
    gyro = all(track.recording.samples[:, 3:].any() for track in tracks)
    name = settings.model if gyro else settings.acc_model
    model = load_model(name, engine.runtime, engine.precision)
    if not gyro:
        require_no_need_of_gyroscope(model)
    if settings.elsewhere_model is None or tracks[0].rotation is not None:
        return model
    elsewhere = load_model(settings.elsewhere_model, engine.runtime, engine.precision)
    recognizer = Recognizer(model, acc_model=model, elsewhere_model=elsewhere)
    won, began_s = 0, 0.0
    for track in sorted(
        tracks, key=_movement, reverse=True
    ):  # walking first: it tells how the rest was carried
        t = track.recording.t - track.recording.t[0] + began_s
        predictions = recognizer.push("", t, track.recording.samples)
        won += sum(1 if p.model == model.card.name else -1 for p in predictions)
        began_s = float(t[-1]) + 1.0
    return model if won >= 0 else elsewhere


def _movement(track: Track) -> float:
    return float(np.linalg.norm(track.recording.samples[:, :3], axis=1).std())


class Score(msgspec.Struct, frozen=True):
    """How good probabilities are."""

    right: float  # share of the windows
    loss: float  # mean negative log probability of the truth

    def __str__(self) -> str:
        return f"{100 * self.right:.1f} % (log loss {self.loss:.3f})"


def labelled(model: Model, tracks: Sequence[Track]) -> Labelled:
    """The windows of recordings as the daemon would see them, at PHASES times its rate."""
    w = model.card.windowing
    x, said, y, start, end = [], [], [], [], []
    for track in tracks:
        recording = track.recording
        length_s = float(recording.t[-1] - recording.t[0])
        for phase in range(PHASES):
            first = int(np.searchsorted(recording.t, recording.t[0] + phase * w.hop / PHASES / w.rate_hz))
            whole = recording.chunk()
            chunk = msgspec.structs.replace(whole, t=whole.t[first:], samples=whole.samples[first:])
            imu = Imu(w, Limits(), Counters())
            imu.push(chunk if track.rotation is None else turned(chunk, track.rotation))
            windows = imu.prepare()
            if windows is None:
                continue
            x.append(windows.x)
            said.append(Recall().predict(model, windows, range(len(windows.x))))
            y += [model.card.labels.index(track.label)] * len(windows.x)
            at = (windows.t_end - recording.t[0]) / length_s
            start.append(at - w.window / w.rate_hz / length_s)
            end.append(at)
    if not x:
        raise HardError(
            f"no recording holds a window of {w.window / w.rate_hz:.2f} s without a gap; record anew"
        )
    stacked, probabilities = np.concatenate(x), np.concatenate(said)
    return Labelled(stacked, np.array(y), np.concatenate(start), np.concatenate(end), probabilities)


def make_head(device: str, model: Model, data: Labelled, seconds: dict[str, float], calibrated: bool) -> Head:
    """Fit a head to all of these windows."""
    card = model.card
    chosen = np.unique(data.y)
    ridge = RIDGE[calibrated]
    mean, scale, weights = fit(data.probabilities[:, chosen], data.x, np.searchsorted(chosen, data.y), ridge)
    return Head(
        device=device,
        made=now(),
        model=card.name,
        sha256=card.sha256,
        calibrated=calibrated,
        labels=tuple(card.labels[i] for i in chosen),
        mean=tuple(mean.round(5).tolist()),
        scale=tuple(scale.round(5).tolist()),
        weights=tuple(tuple(row) for row in weights.round(4).tolist()),
        seconds=seconds,
        before=0.0,
        after=0.0,
    )


def compare(model: Model, data: Labelled, head: Head) -> tuple[Score, Score]:
    """The model alone, and with heads fitted without what they are judged on, block by block in time."""
    after = data.probabilities.copy()
    for block in range(BLOCKS):
        low, high = block / BLOCKS, (block + 1) / BLOCKS
        held = (data.end > low) & (data.end <= high)
        rest = _part(data, (data.end <= low) | (data.start >= high))
        if held.any() and len(np.unique(rest.y)) > 1:
            other = make_head("", model, rest, {}, head.calibrated)
            after[held] = Adapter(other, model.card.labels).apply(data.probabilities[held], data.x[held])
    return score(data.probabilities, data.y), score(after, data.y)


def score(probabilities: F32, y: NDArray[np.intp]) -> Score:
    """Of probabilities (N, labels) for the truth (N,)."""
    truth = np.maximum(probabilities[np.arange(len(y)), y], LEAST)
    return Score(float((probabilities.argmax(axis=1) == y).mean()), -float(np.log(truth).mean()))


def _part(data: Labelled, rows: NDArray[np.bool_]) -> Labelled:
    return Labelled(data.x[rows], data.y[rows], data.start[rows], data.end[rows], data.probabilities[rows])


def _seconds(tracks: Sequence[Track], labels: Sequence[str], device: str) -> dict[str, float]:
    """Recorded seconds by activity; HardError where the model does not know one, or there is too little."""
    out: dict[str, float] = {}
    for track in tracks:
        label, t = track.label, track.recording.t
        if label not in labels:
            near = difflib.get_close_matches(label, labels, n=1)
            hint = f"did you mean {near[0]}?" if near else f"it knows {', '.join(labels)}"
            raise HardError(f"the model knows no activity {label!r}; {hint} Rename or remove the recording")
        out[label] = round(out.get(label, 0.0) + float(t[-1] - t[0]), 1)
    short = {label: s for label, s in out.items() if s < LEAST_S}
    if short or len(out) < 2:
        what = ", ".join(f"{label} {s:g} s" for label, s in out.items())
        raise HardError(
            f"recorded: {what}; expected {LEAST_S:g} s or more each of two activities or more: "
            f"hard record --device {device} --label LABEL"
        )
    return out
