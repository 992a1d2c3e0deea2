"""hard classify for videos: what is done in them, over time."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from conftest import ROOT, Hard
from hard.footage import open_footage
from hard.model import load_video_model
from hard.types import Frame
from hard.video import Grid, VideoRecognizer
from random_lrcn import LABELS


def film(path: Path, pictures: list[np.ndarray], rate_hz: float = 25.0) -> Path:
    height, width = pictures[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), rate_hz, (width, height))
    for picture in pictures:
        writer.write(picture)
    writer.release()
    return path


def noise(n: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [np.kron(rng.integers(0, 255, (12, 16, 3)), np.ones((8, 8, 1))).astype(np.uint8) for _ in range(n)]


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Four seconds."""
    return film(tmp_path / "clip.avi", noise(100))


def test_json_lines_are_the_recognizer_s(hard: Hard, clip: Path, video_model: Path) -> None:
    done = hard.run("classify", str(clip), "--json", "--model", str(video_model))
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    recognizer = VideoRecognizer("clip", load_video_model(str(video_model)))
    footage, grid, expected = open_footage(clip), Grid(10.0), []
    while (t := footage.grab()) is not None:
        place, pixels = grid.place(t), footage.picture()
        assert pixels is not None
        p = recognizer.push(Frame(pixels, t, place, t, 25.0)) if place is not None else None
        expected += [p] if p else []
    footage.close()
    assert [line["t_end"] for line in lines] == [pytest.approx(p.t_end) for p in expected]
    assert [line["raw"]["activity"] for line in lines] == [p.activity for p in expected]
    for line, p in zip(lines, expected, strict=True):
        assert line["probabilities"] == pytest.approx(p.probabilities, abs=1e-4)  # four digits, as live
        assert set(line["probabilities"]) == set(LABELS)
    assert len(lines) == 5


def test_text_tells_what_is_done_when(hard: Hard, clip: Path, video_model: Path) -> None:
    done = hard.run(
        "classify", str(clip), "--model", str(video_model), HARD__VIDEO__MIN_CONFIDENCE="0"
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    first, last = done.stdout.splitlines()[0].split(), done.stdout.splitlines()[-1].split()
    assert first[0] == "0.00"
    assert last[2:4] == ["3.96", "s"]
    assert last[4] in LABELS


@pytest.mark.data
def test_several_actions_in_one_video_are_told_apart(hard: Hard, data: Path, tmp_path: Path) -> None:
    """Weizmann's s07, whom the model has not seen: three actions of about 7 s each."""
    pictures, ends = [], []
    for activity in ("bend", "jumping_jack", "wave_two_hands"):
        for _ in range(3):
            footage = open_footage(data / f"weizmann/{activity}/{activity}_s07.avi")
            while footage.grab() is not None:
                pictures.append(footage.picture())
            footage.close()
        ends.append(len(pictures) / 25)
    video = film(tmp_path / "three.avi", pictures)
    done = hard.run("classify", str(video))
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()]
    assert [row[4] for row in rows] == ["bend", "jumping_jack", "wave_two_hands"]
    for row, end in zip(rows, ends, strict=True):
        assert float(row[2]) == pytest.approx(end, abs=1.5)


def test_a_video_is_saved_with_its_labels(hard: Hard, clip: Path, video_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    done = hard.run("classify", str(clip), "--model", str(video_model), "--annotate", str(out))
    assert done.returncode == 0, done.stderr
    before, after = open_footage(clip), open_footage(out)
    assert after.duration_s == pytest.approx(before.duration_s, abs=0.05)
    assert after.rate_hz == before.rate_hz
    after.grab()
    picture = after.picture()
    assert picture is not None
    assert picture.shape == (480, 640, 3)
    before.close()
    after.close()


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("photo.jpg", "photo.jpg: a still image; an activity can only be told from a video"),
        ("photo.mp4", "photo.mp4: a still image"),
        ("junk.mp4", "junk.mp4: not a video that OpenCV can read"),
        ("junk.dat", "junk.dat: not a video that OpenCV can read"),
        ("absent.mp4", "absent.mp4: no such file"),
        ("one.avi", "one.avi: 1 frame(s) in 0.00 s hold no complete clip of 1.90 s"),
        ("short.avi", "short.avi: 25 frame(s) in 0.96 s hold no complete clip of 1.90 s"),
    ],
)
def test_what_is_no_video_gets_one_clear_line(
    hard: Hard, tmp_path: Path, video_model: Path, name: str, line: str
) -> None:
    path = tmp_path / name
    if name.startswith("photo"):
        path.write_bytes(cv2.imencode(".jpg", noise(1)[0])[1].tobytes())
    elif name.startswith("junk"):
        path.write_bytes(bytes(range(256)) * 20)
    elif name.endswith(".avi"):
        film(path, noise(1 if name == "one.avi" else 25))
    done = hard.run("classify", str(path), "--model", str(video_model))
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("hard: ")
    assert line in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("name", ["{GUID}.avi", "take {1}.avi", "[red]x.avi"])
def test_any_name_is_shown_beside_the_bar(tmp_path: Path, clip: Path, video_model: Path, name: str) -> None:
    """The bar, which is for terminals only, took a name for a format and for markup."""
    video = clip.rename(tmp_path / name)
    here, there = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "hard", "classify", str(video), "--model", str(video_model)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=there, env=os.environ | {"TERM": "xterm"},
    )  # fmt: skip
    os.close(there)
    shown = b""
    with contextlib.suppress(OSError):  # the terminal's end
        while part := os.read(here, 65536):
            shown += part
    os.close(here)
    process.communicate()
    assert process.returncode == 0, shown.decode()
    assert name in shown.decode()


def test_a_damaged_video_is_labelled_as_far_as_it_goes(hard: Hard, clip: Path, video_model: Path) -> None:
    data = clip.read_bytes()
    clip.write_bytes(data[: len(data) * 3 // 4])
    done = hard.run("classify", str(clip), "--model", str(video_model))
    assert done.returncode == 0, done.stderr
    assert "clip.avi: ends at" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["x.csv", "--annotate", "out.mp4"], "--annotate needs a video"),
        (["clip.mp4", "--annotate", "clip.mp4"], "that is the video itself"),
        (["clip.mp4", "--annotate", "out.gif"], "clip.mp4: no such file"),
        (["README.md"], "expected t,ax,ay,az,gx,gy,gz"),
    ],
)
def test_a_mistake_gets_one_clear_line(hard: Hard, arguments: list[str], line: str) -> None:
    done = hard.run("classify", *arguments)
    assert done.returncode != 0
    assert line in done.stderr
    assert len(done.stderr.splitlines()) == 1
