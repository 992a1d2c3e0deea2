"""The real window on a real (virtual) screen: what is seen, the keys, the film; and where there is none."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from conftest import ROOT, Hard, listening, wait_for
from hard.overlay import BOLD, WHITE, Pen, shown
from test_daemon import Subscriber

START_S = 60.0


@pytest.fixture
def walk(tmp_path: Path) -> Path:
    """Two and a half seconds of something bright that goes round."""
    path = tmp_path / "round.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25.0, (640, 480))
    for k in range(63):
        image = np.full((480, 640, 3), 60, np.uint8)
        x, y = round(320 + 150 * np.cos(k / 8)), round(220 + 90 * np.sin(k / 8))
        cv2.circle(image, (x, y), 40, (40, 160, 250), -1)
        writer.write(image)
    writer.release()
    return path


class Window:
    """The daemon's window, as somebody at the screen has it."""

    def __init__(self, screen: str, name: str, process: subprocess.Popen[str]) -> None:
        self._env = {"DISPLAY": screen, "PATH": "/usr/bin:/bin:/usr/local/bin"}
        self._screen = screen
        by_s = time.monotonic() + START_S
        found = ""
        while not found and process.poll() is None and time.monotonic() < by_s:
            found = self._ask("xdotool", "search", "--name", name)
        if not found:
            process.send_signal(signal.SIGABRT)  # where it stands: PYTHONFAULTHANDLER
            pytest.fail(f"no window within {START_S:g} s: {process.communicate(timeout=20)[1]}")
        self._window = found.split()[0]
        self._ask("xdotool", "windowfocus", "--sync", self._window)

    def press(self, key: str) -> None:
        self._ask("xdotool", "key", key)

    def look(self) -> np.ndarray:
        """What is on the whole screen."""
        png = subprocess.run(
            ["import", "-window", "root", "png:-"], env=self._env, capture_output=True, check=True, timeout=20
        ).stdout
        return np.asarray(cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR))

    def _ask(self, *command: str) -> str:
        done = subprocess.run(command, env=self._env, capture_output=True, text=True, check=False, timeout=20)
        return done.stdout


def reads(image: np.ndarray, activity: str) -> bool:
    """Whether an activity stands there in the size of the main label; anywhere in the picture."""
    canvas = np.zeros((480, 640, 3), np.uint8)
    pen = Pen(canvas)
    pen.text((10, 50), shown(activity), 24, WHITE, BOLD)
    rows, columns = np.nonzero(canvas.max(axis=2))
    word = canvas[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    return bool(cv2.matchTemplate(image, word, cv2.TM_CCOEFF_NORMED).max() > 0.85)


def newest(seen: Subscriber, device: str) -> str:
    return str(seen.labels(device)[-1]["activity"])


@pytest.fixture
def run_window(hard: Hard, screen: str, port: int) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    def run(*arguments: str, **env: str) -> subprocess.Popen[str]:
        process = hard.start(
            "run", "--source", "webcam", *arguments, DISPLAY=screen, HARD__EMBEDDED__PORT=str(port),
            PYTHONFAULTHANDLER="1", **env,
        )  # fmt: skip
        wait_for(lambda: listening(port) or process.poll() is not None, START_S, "the embedded broker")
        return process

    return run


@pytest.mark.xvfb
def test_the_window_shows_labels_takes_keys_and_is_filmed(
    run_window, screen: str, port: int, walk: Path, video_model: Path, tmp_path: Path
) -> None:
    film = tmp_path / "out.mp4"
    process = run_window(
        "--source", "mqtt", "--simulate", "1", "--camera", str(walk), "--loop", "--overlay",
        "--record", str(film),
        HARD__VIDEO__MODEL=str(video_model), HARD__VIDEO__MIN_CONFIDENCE="0",
    )  # fmt: skip
    seen = Subscriber(port, "hard/+/activity")
    try:
        window = Window(screen, "round", process)
        label = wait_for(lambda: seen.labels("round"), START_S, "a label")[-1]
        assert label["model"]["name"] == "random-lrcn"
        assert label["rate_hz"] == pytest.approx(25, abs=3)
        wait_for(lambda: seen.labels("synthetic-1"), START_S, "a phone's label")
        wait_for(lambda: reads(window.look(), newest(seen, "round")), 20, "the label on the screen")
        window.press("s")
        assert process.stderr
        saved = next(line for line in process.stderr if "saved " in line)
        path = Path(re.search(r"saved (.*\.png)", saved)[1])
        picture = cv2.imread(str(path))
        path.unlink()
        assert picture.shape == (480, 640, 3)
        assert picture[120:180, 60:100].std() < 5  # the scene
        assert picture[14:42, 420:626].max() > 200  # the phone's panel
        window.press("f")
        window.press("q")
        _, err = process.communicate(timeout=20)
        assert process.returncode == 0, err
        assert re.search(rf"filmed [\d.]+ s: {film}", err)
    finally:
        seen.broker.stop()
    capture = cv2.VideoCapture(str(film))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) > 20
    assert capture.read()[1].shape == (480, 640, 3)
    capture.release()


@pytest.mark.xvfb
@pytest.mark.data
@pytest.mark.parametrize("activity", ["jumping_jack", "wave_two_hands"])
def test_a_person_the_model_has_not_seen_is_labelled_right_on_the_screen(
    run_window, screen: str, data: Path, activity: str
) -> None:
    clip = data / f"weizmann/{activity}/{activity}_s07.avi"
    process = run_window("--camera", str(clip), "--loop", "--overlay")
    window = Window(screen, clip.stem, process)
    wait_for(lambda: reads(window.look(), activity), START_S, f"{activity} on the screen")
    assert not reads(window.look(), "boxing")
    window.press("Escape")
    process.communicate(timeout=20)
    assert process.returncode == 0


@pytest.mark.xvfb
def test_a_picture_is_saved_in_a_folder_whose_name_is_not_utf8(
    hard: Hard, screen: str, port: int, walk: Path, video_model: Path, tmp_path: Path
) -> None:
    """OpenCV ended the process, and the line about it, in the last lines that are kept, what came after."""
    folder = tmp_path / "caf\udce9"
    folder.mkdir()
    process = subprocess.Popen(
        [*hard.command, "run", "--source", "webcam", "--camera", str(walk), "--loop", "--overlay"],
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=hard.env | {"DISPLAY": screen, "HARD__EMBEDDED__PORT": str(port),
                        "HARD__VIDEO__MODEL": str(video_model), "PYTHONFAULTHANDLER": "1"},
    )  # fmt: skip
    try:
        window = Window(screen, "round", process)
        window.press("s")
        wait_for(lambda: list(folder.glob("round-*.png")) or process.poll() is not None, what="the picture")
        window.press("q")
        _, err = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 0, err
    [path] = folder.glob("*.png")
    assert cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR).shape == (480, 640, 3)


@pytest.mark.xvfb
def test_a_window_that_is_shut_ends_the_show(screen: str) -> None:
    """Where somebody clicks its cross, OpenCV has no window any more, and says so by an exception."""
    show_and_shut(screen, "")


@pytest.mark.xvfb
def test_a_screen_without_other_clients_stays_until_the_window_is_there(fickle_screen: str) -> None:
    show_and_shut(fickle_screen, "display.need_window()")


def show_and_shut(screen: str, first: str) -> None:
    code = f"""
import cv2, pathlib, threading
from hard.handoff import Board, Latest
from hard.sinks import display
end = threading.Event()
{first}
show = display.Display("cam", Latest(), Board(), window=True, record=None, folder=pathlib.Path())
show.run(end.is_set, cv2.destroyAllWindows, end.set)
print("ended")
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"DISPLAY": screen}, cwd=ROOT, capture_output=True,
        text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.stdout == "ended\n", done.stderr


def test_without_a_screen_one_line_says_what_to_do(hard: Hard, walk: Path) -> None:
    for display, what in (("", "DISPLAY is not set"), (":876", "nothing answers at DISPLAY=:876")):
        done = hard.run("run", "--source", "webcam", "--camera", str(walk), "--overlay", DISPLAY=display)
        assert done.returncode == 1
        assert done.stderr.startswith(
            f"hard: no screen for a window ({what}); without --overlay labels go out"
        )
        assert len(done.stderr.splitlines()) == 1


def test_a_film_that_cannot_be_is_said_before_anything_starts(hard: Hard, tmp_path: Path) -> None:
    """It was said at the camera's first picture, which may be hours away."""
    done = hard.run("run", "--source", "webcam", "--camera", "97", "--record", str(tmp_path), "--for", "2")
    assert done.returncode == 1
    assert done.stderr.startswith(f"hard: {tmp_path}: cannot write this kind of video; expected .mp4")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.alone
def test_a_file_is_labelled_filmed_and_over_without_a_screen(
    hard: Hard, port: int, walk: Path, video_model: Path, tmp_path: Path
) -> None:
    film = tmp_path / "out.mp4"
    process = hard.start(
        "run", "--source", "webcam", "--camera", str(walk), "--record", str(film),
        HARD__VIDEO__MODEL=str(video_model), HARD__EMBEDDED__PORT=str(port), DISPLAY="",
    )  # fmt: skip
    wait_for(lambda: listening(port) or process.poll() is not None, START_S, "the embedded broker")
    seen = Subscriber(port, "hard/#")
    out, err = process.communicate(timeout=60)
    seen.broker.stop()
    assert process.returncode == 0, err
    assert f"camera round: {walk}" in out
    assert "has been played" in err
    labels = seen.labels("round")
    assert labels
    assert [label["seq"] for label in labels] == list(range(1, len(labels) + 1))
    assert json.loads(seen.last("hard/round/totals") or b"{}")["device"] == "round"
    capture = cv2.VideoCapture(str(film))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) > 20
    capture.release()
