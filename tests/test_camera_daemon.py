"""The daemon with a camera that fails and comes back, as its subscribers see it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import Hard, free_port, listening, wait_for
from mjpeg import MjpegCamera
from test_daemon import Subscriber

START_S = 60.0


@pytest.fixture
def camera() -> Iterator[MjpegCamera]:
    made = MjpegCamera(free_port())
    yield made
    made.stop()


def test_an_outage_is_told_and_labels_come_again(
    hard: Hard, port: int, camera: MjpegCamera, video_model: Path
) -> None:
    """The stream refuses at first, then sends, stops for five seconds, and returns in another size."""
    process = hard.start(
        "run", "--source", "webcam", "--camera", camera.url, HARD__VIDEO__MODEL=str(video_model),
        HARD__EMBEDDED__PORT=str(port), HARD__SOURCES__WEBCAM__DEVICE="door", HARD__OUTPUT__STALE_S="2",
        HARD__SOURCES__WEBCAM__TIMEOUT_S="1", HARD__VIDEO__MIN_CONFIDENCE="0",
    )  # fmt: skip
    wait_for(lambda: listening(port) or process.poll() is not None, START_S, "the embedded broker")
    seen = Subscriber(port, "hard/door/+")
    try:
        assert process.stderr
        assert any("Connection refused; trying again" in line for line in process.stderr)
        camera.start()
        wait_for(lambda: len(seen.labels("door")) >= 3, START_S, "labels")
        assert all(label["gaps"] == 0 for label in seen.labels("door"))
        camera.flowing.clear()
        wait_for(lambda: seen.labels("door")[-1]["reason"] == "stale", START_S, "the silence")
        told = len(seen.labels("door"))
        camera.size = (640, 480)
        camera.flowing.set()
        wait_for(lambda: len(seen.labels("door")) >= told + 3, START_S, "labels again")
        after = seen.labels("door")[told:]
        assert {label["gaps"] for label in after} == {1}
        assert "unknown" not in {label["activity"] for label in after}
    finally:
        seen.broker.stop()
    process.terminate()
    _, err = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "camera_outages 2" in err
