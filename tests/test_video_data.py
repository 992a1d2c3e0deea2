"""Frames in, clips out: squeezing, class folders, groups and playing speed."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hard.datasets.video import (
    Item,
    at_rate,
    class_folders,
    evenly,
    image_folders,
    loose_videos,
    pseudo_clips,
    shirt,
    split,
    webcam_clips,
    weizmann,
    windows,
)
from hard.frames import read_image, read_video, squeeze
from hard.types import U8, HardError
from tools.augment import KINDS, augment


def write_video(path: Path, n: int, size: int = 48, rate_hz: float = 25.0, seed: int = 0) -> None:
    """A bright square that crosses a dark scene."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), rate_hz, (size, size))
    for k in range(n):
        frame = np.full((size, size, 3), 10 + seed % 100, np.uint8)
        x = (k * 3 + seed) % (size - 12)
        frame[10:22, x : x + 12] = (0, 0, 255)  # red, as OpenCV orders it
        writer.write(frame)
    writer.release()


@pytest.mark.parametrize("shape", [(480, 640), (720, 1280), (120, 160), (64, 64), (40, 30)])
def test_a_frame_is_squeezed_to_a_square_of_rgb(shape: tuple[int, int]) -> None:
    frame = np.zeros((*shape, 3), np.uint8)
    frame[: shape[0] // 2] = (255, 0, 0)  # blue above
    frame[:, shape[1] // 2 :, 2] = 255  # and red to the right
    small = squeeze(frame, 32)
    assert small.shape == (32, 32, 3)
    assert small.dtype == np.uint8
    assert small.flags.c_contiguous
    assert small[4, 4].tolist() == [0, 0, 255]
    assert small[4, 28].tolist() == [255, 0, 255]
    assert small[28, 28].tolist() == [255, 0, 0]


def test_squeezing_averages_what_it_does_not_skip() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
    assert squeeze(noise, 64).std() < 0.4 * noise.std()


def test_a_squeezed_frame_is_left_alone() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    np.testing.assert_array_equal(squeeze(frame, 64), frame[:, :, ::-1])


def test_a_video_is_read_in_its_own_size_or_squeezed(tmp_path: Path) -> None:
    write_video(tmp_path / "a.avi", 12)
    frames, rate_hz = read_video(tmp_path / "a.avi")
    assert frames.shape == (12, 48, 48, 3)
    assert rate_hz == 25
    assert frames[0, 16, 6].argmax() == 0  # red
    assert read_video(tmp_path / "a.avi", 16)[0].shape == (12, 16, 16, 3)


def test_what_is_no_video_or_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.avi").write_text("nothing")
    (tmp_path / "a.jpg").write_text("nothing")
    with pytest.raises(HardError, match=r"a\.avi: no frames"):
        read_video(tmp_path / "a.avi")
    with pytest.raises(HardError, match=r"a\.jpg: not an image"):
        read_image(tmp_path / "a.jpg", 16)
    (tmp_path / "caf\udce9.avi").touch()  # at such a name OpenCV ends the process
    with pytest.raises(HardError, match="its name is not UTF-8"):
        read_video(tmp_path / "caf\udce9.avi")
    with pytest.raises(HardError, match=r"b\.jpg: no such file"):
        read_image(tmp_path / "b.jpg", 16)


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_groups_come_from_the_names_that_ucf_and_weizmann_give(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "Biking/v_Biking_g01_c01.avi",
        "Biking/v_Biking_g25_c04.avi",
        "bend/bend_s03.avi",
        "boxing/boxing_d11.avi",
        "boxing/another.mp4",
        "boxing/notes.txt",
    )
    found = class_folders(tmp_path)
    assert [(i.label, i.group) for i in found] == [
        ("Biking", "g01"),
        ("Biking", "g25"),
        ("bend", "s03"),
        ("boxing", "boxing/another"),
        ("boxing", "d11"),
    ]
    assert {i.label for i in class_folders(tmp_path, ["bend"])} == {"bend"}
    with pytest.raises(HardError, match="Diving: no videos"):
        class_folders(tmp_path, ["Diving"])
    with pytest.raises(HardError, match="no class folders"):
        class_folders(tmp_path / "bend")


@given(
    groups=st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 25)), min_size=2, max_size=80),
    share=st.floats(0.1, 0.5),
    seed=st.integers(0, 5),
)
def test_a_split_never_has_a_group_on_both_sides(
    groups: list[tuple[str, int]], share: float, seed: int
) -> None:
    items = [Item(Path(f"{k}.avi"), label, f"g{group:02}") for k, (label, group) in enumerate(groups)]
    train, test = split(items, share, seed)
    assert not {i.group for i in train} & {i.group for i in test}
    assert sorted(i.path.name for i in train + test) == sorted(i.path.name for i in items)
    assert test
    assert (train, test) == split(items, share, seed)


def test_images_of_one_class_make_clips_in_turn(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{c}/Image_{k:02}.jpg" for c in ("eating", "sitting") for k in range(23)))
    runs = pseudo_clips(image_folders(tmp_path), 10)
    assert [len(r) for r in runs] == [10, 10, 10, 10]
    assert all(len({i.label for i in r}) == 1 for r in runs)
    assert runs[0][9].path.name == "Image_09.jpg"


@given(n=st.integers(1, 300), frames=st.integers(1, 40))
def test_evenly_spaced_frames_span_the_whole(n: int, frames: int) -> None:
    rows = evenly(n, frames)
    assert len(rows) == frames
    assert (np.diff(rows) >= 0).all()
    assert 0 <= rows[0] <= n / frames
    assert n - 1 - n / frames <= rows[-1] <= n - 1


def film(n: int) -> U8:
    return np.arange(n, dtype=np.uint8)[:, None, None, None].repeat(3, axis=3)


def test_a_camera_of_another_rate_sees_the_same_moments() -> None:
    seen = at_rate(film(101), 25.0, 10.0)[:, 0, 0, 0]
    assert len(seen) == 41
    np.testing.assert_allclose(seen, np.arange(41) * 2.5, atol=0.5)
    np.testing.assert_array_equal(at_rate(film(30), 10.0, 10.0), film(30))


def test_windows_are_whole_and_in_order() -> None:
    assert [w[0, 0, 0, 0] for w in windows(film(25), 20, 2)] == [0, 2, 4]
    assert windows(film(19), 20, 2) == []


def test_augmentation_treats_all_frames_of_a_clip_alike() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (1, 32, 32, 3), np.uint8)
    for _ in range(20):
        out = augment(image.repeat(12, axis=0), 6, KINDS, rng)
        assert out.shape == (6, 32, 32, 3)
        assert (out == out[:1]).all()


def test_without_kinds_a_clip_is_left_alone_and_speed_plays_part_of_it() -> None:
    rng = np.random.default_rng(0)
    np.testing.assert_array_equal(augment(film(20), 20, (), rng), film(20))
    spans = [np.ptp(augment(film(40), 20, ("speed",), rng)[:, 0, 0, 0]) for _ in range(50)]
    assert min(spans) < 28
    assert max(spans) > 35


@pytest.mark.data
def test_the_projects_own_clips_are_complete(data: Path) -> None:
    people = weizmann(data)
    assert len(people) == 28
    assert {i.group for i in people} == {f"s{k:02}" for k in range(1, 8)}
    clips = webcam_clips(data)
    assert len(clips) == 40
    assert [sum(shirt(i.group) == s for i in clips) for s in ("dark", "red")] == [20, 20]
    assert len({i.group for i in loose_videos(data / "clips", "other")}) == 5
