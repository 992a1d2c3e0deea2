"""Video files: read with their times, written at a constant rate."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from hard.footage import Film, check_film, check_output, fit, open_footage
from hard.handoff import Board, Latest
from hard.sinks.display import Display
from hard.types import Frame, HardError


def grey(level: int, width: int = 64, height: int = 48) -> np.ndarray:
    return np.full((height, width, 3), level, np.uint8)


@pytest.mark.parametrize("name", ["a.mp4", "a.avi", "a.mkv", "a.mov"])
def test_what_is_filmed_can_be_read_with_its_times(tmp_path: Path, name: str) -> None:
    film = Film(tmp_path / name, 25.0)
    for k in range(50):
        film.add(grey(5 * k))
    film.close()
    footage = open_footage(tmp_path / name)
    assert footage.rate_hz == pytest.approx(25.0)
    assert footage.duration_s == pytest.approx(2.0, abs=0.1)
    times = []
    while (t := footage.grab()) is not None:
        picture = footage.picture()
        assert picture is not None
        assert picture.mean() == pytest.approx(5 * len(times), abs=4)
        times.append(t)
    footage.close()
    np.testing.assert_allclose(times, np.arange(50) / 25, atol=1e-3)


def test_a_film_keeps_time_whatever_the_rate_of_pictures(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    film = Film(path, 25.0)
    shown = [0.0, 0.01, 0.02, 0.5, 1.0, 1.04, 1.08, 2.0]
    for t in shown:
        film.show(grey(round(100 * t)), 700.0 + t)
    film.close()
    footage = open_footage(path)
    seen = []
    while (t := footage.grab()) is not None:
        picture = footage.picture()
        assert picture is not None
        seen.append((t, picture.mean()))
    footage.close()
    assert seen[-1][0] == pytest.approx(2.0, abs=0.05)
    for t, level in seen:
        newest = max(s for s in shown if s <= t + 1e-3)
        nexts = min((s for s in shown if s >= t - 1e-3), default=2.0)
        assert 100 * newest - 5 <= level <= 100 * nexts + 5


def test_a_film_that_the_disk_did_not_take_is_an_error(tmp_path: Path) -> None:
    film = Film(tmp_path / "a.mp4", 25.0)
    for k in range(50):
        film.add(grey(5 * k))
    assert film._writer is not None
    film._writer.release()
    whole = film.path.read_bytes()
    film.path.write_bytes(whole[: len(whole) // 2])  # as a full disk leaves it
    with pytest.raises(HardError, match="of 50 pictures; is the disk full"):
        film.close()


def test_a_film_ends_whole_before_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It was lost as a whole, which was said only at the end of the run, hours later."""
    view, turns = Latest(), iter(range(400))
    show = Display("cam", view, Board(), window=False, record=tmp_path / "a.mp4", folder=tmp_path)
    monkeypatch.setattr("hard.footage.RESERVE", 0)
    monkeypatch.setattr("hard.sinks.display.CHECK_S", 0.0)

    def ended() -> bool:
        turn = next(turns, None)
        view.put(Frame(grey(90), 0.0, None, time.monotonic(), 25.0))
        if turn == 40:
            monkeypatch.setattr("hard.footage.RESERVE", 1 << 80)  # any disk is nearly full
        return turn is None or bool(caplog.messages)

    caplog.set_level(logging.ERROR)
    show.run(ended, lambda: None, lambda: None)
    assert caplog.messages == [f"{tmp_path / 'a.mp4'}: the disk is nearly full: the film ends here"]
    film = open_footage(tmp_path / "a.mp4")
    assert film.grab() is not None
    film.close()


def test_a_film_without_its_end_is_not_said_to_hold_a_negative_number(tmp_path: Path) -> None:
    film = Film(tmp_path / "a.mkv", 25.0)
    for k in range(50):
        film.add(grey(5 * k))
    assert film._writer is not None
    film._writer.release()
    whole = film.path.read_bytes()
    # as a full disk leaves it: what is noted last, the duration, is not there
    at = whole.index(bytes.fromhex("4489"))
    film.path.write_bytes(whole[:at] + bytes.fromhex("ec89") + bytes(9) + whole[at + 11 : len(whole) // 2])
    with pytest.raises(HardError, match=r"holds \S+( a part)? of 50 pictures; is the disk full") as error:
        film.close()
    assert "-" not in str(error.value).removeprefix(str(film.path))


def test_a_film_is_not_written_over_its_source(tmp_path: Path) -> None:
    source, link = tmp_path / "a.mp4", tmp_path / "b.mp4"
    source.write_bytes(b"x")
    link.hardlink_to(source)
    check_output("--record", tmp_path / "new.mp4", source)
    for out in (source, link, tmp_path / ".." / tmp_path.name / "a.mp4"):
        with pytest.raises(HardError, match=r"--record .*: that is the video itself"):
            check_output("--record", out, source)


def test_a_name_that_opencv_cannot_take_is_refused() -> None:
    for opening in (open_footage, lambda path: Film(path, 25.0)):
        with pytest.raises(HardError, match=r"caf\\udce9.*: its name is not UTF-8; rename it"):
            opening(Path("caf\udce9.mp4"))


def test_a_picture_of_another_size_is_fitted_in(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    film = Film(path, 25.0)
    film.add(grey(200, 64, 48))
    film.add(grey(200, 200, 48))
    film.close()
    capture = cv2.VideoCapture(str(path))
    assert capture.read()[1].shape == (48, 64, 3)
    assert capture.read()[1].shape == (48, 64, 3)
    capture.release()
    wide = fit(grey(200, 200, 48), (64, 48))
    assert wide[0].max() == 0
    assert wide[24].min() == 200


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("absent.mp4", None, "no such file"),
        (
            "junk.mp4",
            b"\0\1\2" * 1000,
            "not a video that OpenCV can read; ffmpeg -i junk.mp4 out.mp4 may help",
        ),
        ("empty.avi", b"", "not a video that OpenCV can read"),
        ("photo.mp4", "png", "a still image"),
        ("photo.jpg", "jpg", "a still image"),
    ],
)
def test_what_is_no_video_is_said(tmp_path: Path, name: str, content: bytes | str | None, line: str) -> None:
    path = tmp_path / name
    if isinstance(content, str):
        path.write_bytes(cv2.imencode(f".{content}", grey(9))[1].tobytes())
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(HardError, match=line):
        open_footage(path)


def test_a_folder_is_no_video(tmp_path: Path) -> None:
    with pytest.raises(HardError, match="a folder"):
        open_footage(tmp_path)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("out.gif", "expected .mp4, .m4v"),
        ("no/such/out.mp4", "no folder"),
        ("folder.mp4", "a folder; name a file in it"),
    ],
)
def test_a_film_that_cannot_be_is_refused_at_once(tmp_path: Path, name: str, line: str) -> None:
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(HardError, match=line):
        Film(tmp_path / name, 25.0)
    with pytest.raises(HardError, match=line):
        check_film(tmp_path / name)


def test_a_film_where_this_user_may_not_write_is_refused_at_once() -> None:
    here, there = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            if os.geteuid() == 0:
                os.setuid(65534)
            Film(Path("/out.mp4"), 25.0)
        except HardError as e:
            os.write(there, str(e).encode())
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    os.close(there)
    assert os.read(here, 200) == b"/out.mp4: this user may not write there; name a file in another folder"


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi"])
@pytest.mark.parametrize("rate_hz", [1.0, 23.976, 29.97003, 59.94006, 66.6667, 119.953, 240.123, 959.7])
def test_a_film_has_about_any_rate_that_a_phone_films_at(tmp_path: Path, name: str, rate_hz: float) -> None:
    """MPEG-4 holds rates as fractions of small numbers: 66.6667 Hz is none, 66.67 Hz is."""
    film = Film(tmp_path / name, rate_hz)
    for k in range(30):
        film.show(grey(5 * k), 700.0 + k / rate_hz)
    film.close()
    footage = open_footage(tmp_path / name)
    assert footage.rate_hz == pytest.approx(rate_hz, rel=1e-3)
    times = []
    while (t := footage.grab()) is not None:
        times.append(t)
    footage.close()
    np.testing.assert_allclose(times, np.arange(30) / rate_hz, atol=2e-3)
