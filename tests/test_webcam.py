"""A camera that ends, refuses, stops, freezes and changes its size: real files and a local HTTP stream."""

from __future__ import annotations

import functools
import http.server
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest

from conftest import wait_for
from hard.handoff import Latest
from hard.settings import WebcamSettings
from hard.sources import webcam
from hard.sources.cameras import parse
from hard.sources.webcam import Desk, WebcamSource
from hard.stats import Counters
from hard.types import Frame, HardError
from mjpeg import MjpegCamera

Start = Callable[..., "Camera"]


class Camera:
    """A source under test, and everything that it delivers."""

    def __init__(self, settings: WebcamSettings) -> None:
        self.counters = Counters()
        self.samples, self.view = Latest(), Latest()
        address = parse(settings.camera, settings.device)
        self.source = WebcamSource(address, settings, 10.0, self.samples, self.view, self.counters)
        self.source.start()

    def next(self, timeout_s: float = 10.0) -> Frame:
        """The next frame that the model would get."""
        frame = self.samples.take(timeout_s)
        assert frame is not None, f"no frame within {timeout_s} s"
        return frame

    def until_end(self) -> list[Frame]:
        frames = []
        while (frame := self.samples.take(0.5)) or not self.source.ended.is_set():
            frames += [frame] if frame else []
        return frames


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Start a source whose back-off does not keep a test waiting."""
    monkeypatch.setattr(webcam, "BACKOFF_S", (0.1, 0.4))
    made: list[Camera] = []

    def make(camera: object, **settings: object) -> Camera:
        made.append(Camera(msgspec.convert({"camera": str(camera), **settings}, WebcamSettings)))
        return made[-1]

    yield make
    for camera in made:
        began_s = time.monotonic()
        camera.source.stop()
        camera.source.stop()
        assert time.monotonic() - began_s < 2.0


@pytest.fixture
def server(port: int) -> Iterator[MjpegCamera]:
    camera = MjpegCamera(port)
    yield camera
    camera.stop()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """One second at 30 frames/s; the brightness of a frame tells its number."""
    return film(tmp_path / "clip.avi", 30)


def film(path: Path, frames: int, same: bool = False) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 30.0, (64, 48))
    for k in range(frames):
        writer.write(np.full((48, 64, 3), 20 if same else 20 + 6 * k, np.uint8))
    writer.release()
    return path


def number(frame: Frame) -> float:
    return (float(frame.pixels.mean()) - 20) / 6


def test_a_file_is_played_once_in_real_time_and_ends(start: Start, file: Path) -> None:
    began_s = time.monotonic()
    camera = start(file)
    frames = camera.until_end()
    assert camera.source.ended.is_set()
    assert time.monotonic() - began_s >= 0.9
    assert camera.counters["frames"] == 30
    for frame in frames:
        assert frame.place is not None
        assert number(frame) == pytest.approx(frame.t * 30, abs=0.3)
        assert frame.arrival_s - began_s >= frame.t - 0.01
    replaced = camera.counters["frame_replaced"]
    assert len(frames) + replaced == 10
    assert camera.counters["camera_outages"] == 0


def test_a_file_that_is_looped_goes_on_in_time(start: Start, file: Path) -> None:
    camera = start(file, loop=True)
    frames = [camera.next() for _ in range(25)]
    assert not camera.source.ended.is_set()
    assert frames[-1].t > 2.0
    steps = np.diff([frame.t for frame in frames])
    assert steps.min() > 0.0
    for frame in frames:
        assert number(frame) == pytest.approx(frame.t * 30 % 30, abs=0.4)


def test_a_camera_that_is_unplugged_is_no_standstill() -> None:
    """It is tried again after 2, 4, ... 30 s: health.stuck_s may be less than that."""
    camera = Camera(WebcamSettings(camera="/dev/video99"))
    wait_for(lambda: camera.source.turns >= 20, timeout_s=6.0, what="turns while it waits")
    assert camera.counters["camera_outages"] == 1
    camera.source.stop()


def test_time_goes_on_when_a_film_begins_anew() -> None:
    """A looped film on a server that was away: its own time is 0 again."""
    desk = Desk(10.0, Latest(), None, Counters())
    first = [desk.wants(t / 25)[1] for t in range(500)]
    again = [desk.wants(t / 25)[1] for t in range(500)]
    places = [place for place in (*first, *again) if place is not None]
    assert places == sorted(set(places))
    assert len([place for place in again if place is not None]) >= 190


def test_a_film_with_frames_far_apart_is_played_to_its_end(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "slow.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 1.0, (64, 48))
    for k in range(3):
        writer.write(np.full((48, 64, 3), 80 * k, np.uint8))
    writer.release()
    camera = start(path, timeout_s=0.5)
    assert camera.source.ended.wait(15)
    assert camera.counters["frames"] == 3


def test_a_still_video_file_is_not_a_frozen_camera(start: Start, tmp_path: Path) -> None:
    camera = start(film(tmp_path / "still.avi", 45, same=True), frozen_s=1.0)
    assert len(camera.until_end()) + camera.counters["frame_replaced"] == 15
    assert camera.counters["camera_outages"] == 0


def test_a_file_on_a_web_server_is_played_in_real_time(start: Start, port: int, file: Path) -> None:
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=file.parent)
    with http.server.ThreadingHTTPServer(("127.0.0.1", port), handler) as web:
        threading.Thread(target=web.serve_forever, args=(0.05,), daemon=True).start()
        began_s = time.monotonic()
        camera = start(f"http://127.0.0.1:{port}/clip.avi")
        camera.until_end()
        assert camera.counters["frames"] == 30
        assert time.monotonic() - began_s >= 0.9
        web.shutdown()


@pytest.mark.parametrize("loop", [False, True])
def test_a_film_that_breaks_off_is_told_once(
    start: Start, tmp_path: Path, caplog: pytest.LogCaptureFixture, loop: bool
) -> None:
    path = film(tmp_path / "clip.avi", 60, same=True)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    camera = start(path, loop=loop)
    wait_for(lambda: camera.counters["frames"] > 70 if loop else camera.source.ended.is_set(), what="the end")
    said = [message for message in caplog.messages if "ends at" in message]
    assert len(said) == 1
    assert "of 2.0 s; is it damaged, or its server gone?" in said[0]


def test_a_stream_comes_with_time_and_rate(start: Start, server: MjpegCamera) -> None:
    server.start()
    camera = start(server.url)
    frames = [camera.next() for _ in range(15)]
    assert frames[-1].pixels.shape == (240, 320, 3)
    places = [frame.place or 0 for frame in frames]
    assert places == sorted(set(places))
    assert 5 < frames[-1].rate_hz < 30
    assert camera.view.take(5.0) is not None


def test_a_stream_that_refuses_is_tried_until_it_answers(
    start: Start, server: MjpegCamera, port: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    camera = start(server.url)
    wait_for(lambda: caplog.messages, what="the complaint")
    assert caplog.messages == [
        f"127.0.0.1: {server.url}: port {port}: Connection refused; trying again every 0.1 to 0.4 s"
    ]
    server.start()
    camera.next()
    wait_for(lambda: len(caplog.messages) == 2, what="the relief")
    assert caplog.messages[1] == f"127.0.0.1: {server.url} is back"


def test_a_stream_that_stops_for_five_seconds_comes_back(
    start: Start, server: MjpegCamera, caplog: pytest.LogCaptureFixture
) -> None:
    server.start()
    camera = start(server.url, timeout_s=1.0)
    before = [camera.next() for _ in range(3)][-1]
    server.flowing.clear()
    stopped_s = time.monotonic()
    wait_for(lambda: caplog.messages, what="the complaint")
    assert time.monotonic() - stopped_s < 4
    assert "no picture" in caplog.messages[0] or "no more pictures" in caplog.messages[0]
    wait_for(lambda: time.monotonic() - stopped_s > 5, what="five seconds")
    while camera.samples.take(0.2):
        """What was under way when it stopped."""
    server.flowing.set()
    after = camera.next()
    assert after.t - before.t == pytest.approx(after.arrival_s - before.arrival_s, abs=0.01)
    assert after.t - before.t > 4.5
    assert camera.counters["camera_outages"] == 1
    assert len(caplog.messages) <= 2


def test_a_stream_that_ends_is_opened_again(start: Start, server: MjpegCamera) -> None:
    server.start()
    camera = start(server.url)
    camera.next()
    server.stop()
    wait_for(lambda: camera.counters["camera_outages"] == 1, what="the outage")
    server.start()
    while camera.samples.take(0.2):
        """What was under way when it ended."""
    camera.next()


def test_a_camera_that_lies_is_found_out(
    start: Start, server: MjpegCamera, caplog: pytest.LogCaptureFixture
) -> None:
    """read() is true, and the frame is the old one: as some drivers do when the cable is pulled."""
    server.start()
    camera = start(server.url, frozen_s=1.0)
    camera.next()
    server.same = True
    wait_for(lambda: caplog.messages, what="the complaint")
    assert "the same picture for 1 s; trying again" in caplog.messages[0]
    server.same = False
    caplog.set_level(logging.INFO)
    wait_for(lambda: "is back" in caplog.messages[-1], what="the relief")
    assert camera.counters["camera_outages"] == 1


def test_a_stream_of_a_still_picture_may_be_allowed(start: Start, server: MjpegCamera) -> None:
    server.same = True
    server.start()
    camera = start(server.url, frozen_s=None)
    assert all(camera.next() for _ in range(20))
    assert camera.counters["camera_outages"] == 0
    server.stop()
    wait_for(camera.source.problem, what="the outage")
    server.start()
    wait_for(lambda: camera.source.problem() is None, what="the relief")
    assert camera.counters["camera_outages"] == 1


def test_a_size_that_changes_in_the_middle_does_no_harm(start: Start, server: MjpegCamera) -> None:
    server.start()
    camera = start(server.url)
    camera.next()
    server.size = (640, 480)
    sent = server.sent
    while server.sent < sent + 20:
        assert camera.next().pixels.shape in ((240, 320, 3), (480, 640, 3))
    server.stop()
    server.start()
    wait_for(lambda: camera.next().pixels.shape == (480, 640, 3), what="the new size")


def test_torn_pictures_are_no_outage(start: Start, server: MjpegCamera) -> None:
    server.torn = True
    server.start()
    camera = start(server.url)
    assert all(camera.next() for _ in range(15))
    assert camera.counters["camera_outages"] == 0


def test_a_slow_reader_never_gets_an_old_frame(start: Start, server: MjpegCamera) -> None:
    server.start()
    camera = start(server.url)
    camera.next()
    wait_for(lambda: camera.counters["frame_replaced"] >= 5, what="replaced frames")
    assert time.monotonic() - camera.next().arrival_s < 0.5


def test_a_camera_that_is_not_there_is_waited_for(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    start("/dev/video97")
    wait_for(lambda: caplog.messages, what="the complaint")
    assert "/dev/video97: is not there; plug it in, or see `hard devices`" in caplog.messages[0]


def test_a_file_that_is_no_video_is_refused(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "x.mp4"
    path.write_bytes(b"not a video")
    with pytest.raises(HardError, match="not a video that OpenCV can read"):
        start(path)


def test_a_stream_that_never_answers_is_given_up_by_the_clock(
    start: Start, port: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(webcam, "OPEN_S", 1.0)
    with socket.create_server(("127.0.0.1", port)):
        began_s = time.monotonic()
        camera = start(f"http://127.0.0.1:{port}/x")
        wait_for(lambda: caplog.messages, what="the complaint")
        assert time.monotonic() - began_s < 5
        assert camera.counters["frames"] == 0
