"""What names a camera, and the name it gets."""

from __future__ import annotations

from pathlib import Path

import pytest

from hard.sources.cameras import Kind, explain, parse
from hard.types import HardError


def test_an_index_and_a_stable_name_are_the_same_camera(tmp_path: Path) -> None:
    link = Path("/dev/v4l/by-id/usb-046d_HD_Pro_Webcam_C920_8F2C-video-index0")
    links = {"/dev/video2": link}
    assert parse("2", links=links).device == "046d_HD_Pro_Webcam_C920_8F2C"
    assert parse(" /dev/video2", links=links).device == "046d_HD_Pro_Webcam_C920_8F2C"
    address = parse("0", links=links)
    assert (address.kind, address.place, address.device) == (Kind.DEVICE, "/dev/video0", "video0")
    assert parse("0", "kitchen").device == "kitchen"


def test_a_stream_is_named_by_its_host_and_keeps_its_password() -> None:
    address = parse("rtsp://me:canary@cam-garden.local:8554/live/1?token=canary")
    assert (address.kind, address.device) == (Kind.URL, "cam-garden.local")
    assert str(address) == "rtsp://cam-garden.local:8554/live/1"
    assert "canary" in address.place


def test_a_file_is_named_by_its_stem(tmp_path: Path) -> None:
    path = tmp_path / "my clip (1).mp4"
    path.touch()
    assert (parse(str(path)).kind, parse(str(path)).device) == (Kind.FILE, "my-clip-1")


@pytest.mark.parametrize(
    ("camera", "line"),
    [
        (
            "nothing.mp4",
            "camera nothing.mp4: no such file; expected an index, /dev/..., a URL or a video file",
        ),
        ("/tmp", "a folder"),
        ("ftp://host/x.mp4", "ftp://... is no stream; expected rtsp,"),
        ("http://", "is no stream"),
        ("rtsp://host:port/x", "rtsp://host: Port could not be cast"),
        ("http://me:secret@[::1/x", "camera http://...: Invalid IPv6 URL; expected a URL"),
        ("~nobody-of-this-name/x.mp4", "camera ~nobody-of-this-name/x.mp4: no such file; expected"),
        ("x" * 300 + ".mp4", "file name too long; expected an index"),
        ("/proc/self/mem/x.mp4", "not a directory"),
        ("caf\udce9.mp4", r"camera 'caf\udce9.mp4': not UTF-8; rename it"),
        ("http://host/caf\udce9", "not UTF-8"),
    ],
)
def test_a_mistake_says_what_is_expected(camera: str, line: str) -> None:
    with pytest.raises(HardError) as error:
        parse(camera)
    assert line in str(error.value)
    assert "secret" not in str(error.value)


def test_a_stream_that_is_sent_to_us_is_not_looked_for_elsewhere(port: int) -> None:
    """Nobody listens at the port of a UDP stream: "Connection refused" sent people the wrong way."""
    what = explain(parse(f"udp://127.0.0.1:{port}"))
    assert what.startswith(f"nothing comes to port {port}; does the camera send to this machine")
