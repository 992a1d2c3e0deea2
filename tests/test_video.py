"""Frames to predictions: the grid in time, the ring, and the equality with the whole clip."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hard.frames import squeeze
from hard.model import load_video_model
from hard.stats import Counters, Drop
from hard.types import Clip, Frame
from hard.video import Grid, Ring, VideoRecognizer
from random_lrcn import RandomLrcn

RATES = (15.0, 24.0, 25.0, 29.97, 30.0, 60.0, 120.0)


def scene(t: float) -> np.ndarray:
    """What any camera would see at a moment: something bright that goes round."""
    image = np.full((48, 64, 3), 40, np.uint8)
    x, y = int(32 + 20 * np.cos(3 * t)), int(24 + 15 * np.sin(3 * t))
    image[y - 4 : y + 4, x - 4 : x + 4] = (30, 120, 250)
    return image


def filmed(rate_hz: float, seconds: float) -> list[Frame]:
    """The frames of a camera that have a place on a 10 Hz grid."""
    grid = Grid(10.0)
    frames = []
    for t in np.arange(int(seconds * rate_hz)) / rate_hz:
        place = grid.place(t)
        if place is not None:
            frames.append(Frame(scene(t), float(t), place, 100.0 + t, rate_hz))
    return frames


@given(
    rate_hz=st.floats(15.0, 240.0),
    phase=st.floats(0.0, 1000.0),
    jitter=st.lists(st.floats(-0.1, 0.1), min_size=1, max_size=20),
)
def test_every_place_gets_a_frame_within_a_period_of_the_camera(
    rate_hz: float, phase: float, jitter: list[float]
) -> None:
    grid = Grid(10.0)
    times = [phase + (k + jitter[k % len(jitter)]) / rate_hz for k in range(int(3 * rate_hz))]
    filled = [(place, t) for t in times if (place := grid.place(t)) is not None]
    places = [place for place, _ in filled]
    assert places == list(range(places[0], places[-1] + 1))
    assert max(abs(t - times[0] - place / 10.0) for place, t in filled) <= 1.5 / rate_hz + 1e-6


@pytest.mark.parametrize("rate_hz", RATES)
def test_within_a_clip_frames_are_where_they_belong(rate_hz: float) -> None:
    """To a camera's period; over minutes the grid may go with a camera of 29.97 frames/s."""
    frames = filmed(rate_hz, 60.0)
    assert [f.place for f in frames] == list(range(len(frames)))
    off = np.array([f.t - f.place / 10.0 for f in frames])
    assert max(np.ptp(off[k : k + 20]) for k in range(len(off))) <= 1.0 / rate_hz + 1e-6


@pytest.mark.parametrize("rate_hz", [9.8, 10.0, 10.2])
def test_of_a_camera_as_fast_as_the_grid_no_frame_is_lost(rate_hz: float) -> None:
    """In the dark webcams slow down to 10 frames/s; found by jitter at an unlucky phase."""
    rng = np.random.default_rng(0)
    grid = Grid(10.0)
    times = 1.0703125 + np.arange(600) / rate_hz + rng.uniform(-0.01, 0.01, 600)
    filled = sum(grid.place(t) is not None for t in times)
    assert filled >= 600 * min(1.0, 10.0 / rate_hz) - 3


def test_a_camera_slower_than_the_grid_fills_every_place_it_can() -> None:
    assert [f.place for f in filmed(5.0, 1.0)] == [0, 2, 4, 6, 8]


def predictions(recognizer: VideoRecognizer, frames: list[Frame]) -> list[tuple[int, dict[str, float]]]:
    out = []
    for frame in frames:
        p = recognizer.push(frame)
        if p is not None:
            assert frame.place is not None
            out.append((frame.place, p.probabilities))
    return out


@pytest.mark.parametrize("rate_hz", RATES)
def test_the_camera_s_rate_does_not_change_what_is_seen(video_model: Path, rate_hz: float) -> None:
    """Same places, and nearly the same answer: the frames differ by less than the camera's period."""
    model = load_video_model(str(video_model))
    expected = predictions(VideoRecognizer("a", model), filmed(100.0, 6.0))
    got = predictions(VideoRecognizer("a", model), filmed(rate_hz, 6.0))
    assert [place for place, _ in got] == [place for place, _ in expected]
    for (_, a), (_, b) in zip(got, expected, strict=True):
        assert max(abs(a[name] - b[name]) for name in a) < 0.05


@pytest.mark.parametrize("name", ["random", "lrcn-webcam"])
def test_cached_embeddings_equal_the_whole_clip(video_model: Path, name: str) -> None:
    model = load_video_model(str(video_model) if name == "random" else name)
    frames = filmed(30.0, 6.0)
    clip = model.card.clip
    small = np.stack([squeeze(f.pixels, clip.size) for f in frames])
    got = predictions(VideoRecognizer("a", model, every=1), frames)
    assert len(got) == len(frames) - clip.frames + 1
    for k, (place, shares) in enumerate(got):
        assert place == k + clip.frames - 1
        whole = model.classify(model.encode(small[k : k + clip.frames])[None])[0]
        assert max(abs(a - b) for a, b in zip(shares.values(), whole, strict=True)) < 1e-5


def test_the_exported_steps_equal_the_network_s_forward(video_model: Path) -> None:
    model = load_video_model(str(video_model))
    clips = np.random.default_rng(0).integers(0, 256, (2, 20, 64, 64, 3), np.uint8)
    with torch.inference_mode():
        expected = RandomLrcn().eval()(torch.from_numpy(clips)).numpy()
    cached = model.encode(clips.reshape(-1, 64, 64, 3)).reshape(2, 20, -1)
    np.testing.assert_allclose(model.classify(cached), expected, atol=1e-5)


def test_a_clip_is_due_every_few_places() -> None:
    ring = Ring(Clip(frames=4), every=3)
    due = [k for k in range(12) if ring.push(np.full(2, k, np.float32), k)]
    assert due == [3, 6, 9]
    np.testing.assert_array_equal(ring.clip()[0, :, 0], [8, 9, 10, 11])


def test_a_place_without_a_frame_gets_the_next_one() -> None:
    ring = Ring(Clip(frames=4))
    for k in (0, 1, 4):
        ring.push(np.full(1, k, np.float32), k)
    np.testing.assert_array_equal(ring.clip()[0, :, 0], [1, 4, 4, 4])


def test_a_clip_never_spans_a_long_gap() -> None:
    ring = Ring(Clip(frames=4), max_gap_s=0.5)
    for k in (0, 1, 2, 3):
        ring.push(np.full(1, k, np.float32), k)
    assert not ring.push(np.zeros(1, np.float32), 9)
    assert ring.gaps == 1
    assert [k for k in (10, 11, 12, 13) if ring.push(np.zeros(1, np.float32), k)] == [12, 13]


def test_a_gap_is_counted_and_a_slow_camera_is_unknown(video_model: Path) -> None:
    counters = Counters()
    model = load_video_model(str(video_model))
    recognizer = VideoRecognizer("a", model, min_rate_hz=5.0, counters=counters)
    frames = filmed(30.0, 3.0)
    assert predictions(recognizer, frames)
    later = [Frame(f.pixels, f.t + 9, (f.place or 0) + 90, f.arrival_s + 9, 3.0) for f in frames]
    slow = [p for f in later if (p := recognizer.push(f))]
    assert counters[Drop.GAP] == 1
    assert {(p.activity, p.reason, p.gaps) for p in slow} == {("unknown", "rate 3.0 Hz is below 5 Hz", 1)}
