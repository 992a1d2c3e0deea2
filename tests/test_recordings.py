"""Readers: units, signs, and errors with file, line and fix."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import numpy as np
import pytest

from hard.recordings import read_recording
from hard.types import G, HardError


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_a_hapt_pair_is_found_from_either_half_plain_or_compressed(tmp_path: Path) -> None:
    (tmp_path / "acc_exp01_user07.txt").write_text("1 0 0\n0 1 0\n")
    (tmp_path / "gyro_exp01_user07.txt.gz").write_bytes(gzip.compress(b"0.1 0.2 0.3\n0.4 0.5 0.6\n"))
    for name in ("acc_exp01_user07.txt", "gyro_exp01_user07.txt.gz"):
        recording = read_recording(tmp_path / name)
        assert recording.name == "exp01_user07"
        assert recording.t.tolist() == [0.0, 0.02]
        np.testing.assert_allclose(
            recording.samples, [[G, 0, 0, 0.1, 0.2, 0.3], [0, G, 0, 0.4, 0.5, 0.6]], rtol=1e-6
        )


def test_motionsense_is_turned_into_the_android_sign(tmp_path: Path) -> None:
    header = (
        ",attitude.roll,attitude.pitch,attitude.yaw,gravity.x,gravity.y,gravity.z,rotationRate.x,rotationRate.y,"
        "rotationRate.z,userAcceleration.x,userAcceleration.y,userAcceleration.z\n"
    )
    folder = tmp_path / "wlk_7"
    folder.mkdir()
    recording = read_recording(write(folder / "sub_1.csv", header + "0,0,0,0,0,-1,0,1,2,3,0.5,0,0\n"))
    assert recording.name == "wlk_7_sub_1"
    np.testing.assert_allclose(recording.samples, [[-0.5 * G, G, 0, 1, 2, 3]], rtol=1e-6)


def test_plain_csv_in_its_units(tmp_path: Path) -> None:
    file = write(tmp_path / "me.csv", "t,ax,ay,az,gx,gy,gz\n0.5,0,0,1,180,0,0\n0.52,0,0,1,0,0,0\n")
    recording = read_recording(file, "g", "deg/s")
    assert recording.t.tolist() == [0.5, 0.52]
    np.testing.assert_allclose(recording.samples[0], [0, 0, G, np.pi, 0, 0], rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "text", "error"),
    [
        ("a.csv", "", r"\(an empty file\).*expected t,ax,ay,az,gx,gy,gz"),
        ("a.csv", "t,ax,ay\n1,2,3\n", "header 't,ax,ay'; expected t,ax,ay,az,gx,gy,gz"),
        ("a.csv", "t,ax,ay,az,gx,gy,gz\n", "no samples"),
        (
            "a.csv",
            "t,ax,ay,az,gx,gy,gz\n0,1,2,3,4,5,6\n1,1,2,x,4,5,6\n",
            "could not convert string 'x'.* line 3",
        ),
        ("a.csv", "t,ax,ay,az,gx,gy,gz\n0,1,2,3,4,5,6\n1,1,2\n", "columns changed from 7 to 3 in line 3"),
        ("acc_exp01_user01.txt", "1 2 3\n", "gyro_exp01_user01.txt: no such file"),
    ],
)
def test_a_bad_file_gets_its_line_and_the_fix(tmp_path: Path, name: str, text: str, error: str) -> None:
    with pytest.raises(HardError, match=re.escape(str(tmp_path)) + ".*" + error):
        read_recording(write(tmp_path / name, text))


def test_a_missing_file_gets_the_nearest(tmp_path: Path) -> None:
    write(tmp_path / "walk.csv", "")
    with pytest.raises(HardError, match=r"wlak\.csv: no such file; did you mean walk\.csv\?"):
        read_recording(tmp_path / "wlak.csv")


def test_a_binary_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(HardError, match="not a text file"):
        read_recording(tmp_path / "a.csv")


def test_units_of_a_format_that_fixes_them_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "acc_exp01_user01.txt", "1 2 3\n")
    write(tmp_path / "gyro_exp01_user01.txt", "1 2 3\n")
    with pytest.raises(HardError, match="leave out --acc-unit"):
        read_recording(tmp_path / "acc_exp01_user01.txt", "g")


@pytest.mark.data
def test_both_public_sets_show_one_g_upwards(data: Path) -> None:
    hapt = read_recording(data / "hapt/RawData/acc_exp01_user01.txt.gz")
    pocket = read_recording(data / "motionsense/A_DeviceMotion_data/std_14/sub_1.csv.gz")
    for recording in (hapt, pocket):
        norm = np.linalg.norm(recording.samples[:, :3], axis=1)
        assert np.median(norm) == pytest.approx(G, rel=0.05)
    assert np.median(hapt.samples[:, 0]) > 0.8 * G  # waist, x up
