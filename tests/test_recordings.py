"""Readers: units, signs, and errors with file, line and fix."""

from __future__ import annotations

import codecs
import contextlib
import gzip
import os
import re
import resource
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event, Thread

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hard.codecs import CodecOptions
from hard.codecs.native import NativeCodec
from hard.personal import record
from hard.phones import play
from hard.recordings import Recording, files, read_recording
from hard.stats import Counters
from hard.synthetic import SyntheticPhone
from hard.types import Chunk, G, HardError, Message

ACC = "t,ax,ay,az\n0,0,0,9.8\n"
LOGGED = "time,seconds_elapsed,z,y,x\n1698501144401773000,0.2,9.8,0,0\n"


def zipped(path: Path, files: dict[str, str]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


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
        ("a.csv", "t,a,b\n1,2,3\n", "header 't,a,b'; expected t,ax,ay,az,gx,gy,gz"),
        ("a.csv", "t,ax,ay\n1,2,3\n", "total acceleration in 'ax', 'ay' lacks an axis of x, y and z"),
        ("a.csv", "t,ax,ay,az,gx,gy,gzz\n", "angular velocity in 'gx', 'gy' lacks an axis"),
        ("a.csv", "t,ax,ay,az,gy,gz\n", "angular velocity in 'gy', 'gz' lacks an axis"),
        ("a.csv", "t,ax,ay,az,ax,gy,gz\n", "angular velocity in 'gy', 'gz' lacks an axis"),
        ("a.csv", "time (d),ax,ay,az\n0,0,0,9.8\n", r"'time \(d\)' is in 'd'; expected one of s, ms, us"),
        ("a.csv", "t,ax (g),ay (m/s2),az (g)\n0,0,0,1\n", "in 'g and m/s2'; expected m/s2 or g: convert"),
        ("a.csv", "t,x,y,z\n0,0,0,9.8\n", "of which sensor\\? Name the columns ax,ay,az or gx,gy,gz"),
        ("a.csv", "ax,ay,az\n0,0,9.8\n", "header 'ax,ay,az' has no time; name its column t"),
        ("a.csv", "time,ax,ay,az\n3/10/2018 17:23,0,0,9.8\n", "times in column 'time' are no numbers"),
        ("a.csv", "t,ax,ay,az\n\ns,m/s2,m/s2,m/s2\n0,0,0,9\n", r"no numbers \(line 3\); .* a line of units"),
        ("a.csv", "t,ax,ay,az\n0,0,0,9.8\n9e11,0,0,9.8\n", r"9e\+11 apart.*say the unit in the header"),
        ("a.csv", "t,ax,ay,az\n" + "5,0,0,9.8\n" * 9 + "6,0,0,9.8\n", "2 different times in 10 rows"),
        ("a.csv", "t,ax,ay,az\n0,00,0,0,9,8\n", "6 values in line 2 for 4 columns; with decimal commas"),
        ("a.csv", 't,ax,ay,az\n"0,02","0,0","0,0","9,8"\n', "'0,02' in line 2: with decimal commas, columns"),
        ("a.csv", "t,ax (mg),ay (mg),az (mg)\n0,0,0,981\n", "in 'mg'; expected m/s2 or g: .*--acc-unit"),
        ("a.csv", "t,ax,ay,az\n0,0,0,981\n", "median size of 981, which is 1 g in no unit: .*--acc-unit"),
        ("a.csv", "t,ax,ay,az,gx,gy,gz\n0,0,0,1,2,0,0\n", "up to 2 beside .* in g may be .* --gyro-unit"),
        ("a.csv", "t,gx,gy,gz\n0,0,0,1\n", "angular velocity, but no acceleration; export the accel"),
        ("a.csv", "t,lin_x,lin_y,lin_z\n0,0,0,1\n", 'without gravity; .*"Acceleration with g" in phyphox'),
        ("a.csv", "t,grav_x,grav_y,grav_z\n0,0,0,1\n", "gravity, but no acceleration"),
        ("a.csv", "t,ax [g],ay [g],az [g]\n0,0,0,.1\n", r"no gravity .* \(0.98 m/s² over a second"),
        ("a.json", '{"a": 1}', "expected Sensor Logger's export, a list of readings"),
        ("a.json", "[]", "no sensor of motion of Sensor Logger, but no acceleration with gravity"),
        ("a.csv", "t,ax,ay,az,gx,gy,gz\n", "no samples"),
        (
            "a.csv",
            "t,ax,ay,az,gx,gy,gz\n0,1,2,3,4,5,6\n1,1,2,x,4,5,6\n",
            "'x' in line 3, column 'az', is not a number",
        ),
        (
            "a.csv",
            "t,ax,ay,az,gx,gy,gz\n0,1,2,3,4,5,6\n1,1,2\n",
            "3 columns in line 3, expected 7; remove the line",
        ),
        (
            "a.csv",
            "Subject,t,ax,ay,az\nann,0,0,0,9.8\nbob,0,0,0,9.8\n",
            r"2 devices or people in column 'Subject' \(ann, bob\); give a file for each",
        ),
        (
            "a.csv",
            "t,ax,ay,az,device id\n0,0,0,9.8,7\n1,0,0,9.8,8\n2,0,0,9.8,9\n3,0,0,9.8,10\n",
            r"4 devices or people in column 'device id' \(7, 8, 9, \.\.\.\); give",
        ),
        ("acc_exp01_user01.txt", "1 2 3\n", "gyro_exp01_user01.txt: no such file"),
    ],
)
def test_a_bad_file_gets_its_line_and_the_fix(tmp_path: Path, name: str, text: str, error: str) -> None:
    with pytest.raises(HardError, match=re.escape(str(tmp_path)) + ".*" + error):
        read_recording(write(tmp_path / name, text))


def test_a_column_that_says_whose_all_rows_are_is_left_out(tmp_path: Path) -> None:
    text = "user,t,ax,ay,az\nann,0.00,0,0,9.8\nann,0.02,0,0,9.8\n,0.04,0,0,9.8\n"
    assert len(read_recording(write(tmp_path / "a.csv", text)).t) == 3


def test_dates_are_times(tmp_path: Path) -> None:
    t, samples = SyntheticPhone(0, jitter_s=0.0).read(0, 100)
    began = datetime(2026, 1, 5, 10, 0, tzinfo=UTC)
    for zone, form in ((UTC, "%Y-%m-%dT%H:%M:%S.%fZ"), (None, "%Y-%m-%d %H:%M:%S.%f")):
        rows = [
            f"{began + timedelta(seconds=s):{form}},{','.join(map(str, x))}"
            for s, x in zip(t, samples, strict=True)
        ]
        text = "time,ax,ay,az,gx,gy,gz\n" + "\n".join(rows)
        found = read_recording(write(tmp_path / f"{zone}.csv", text))
        np.testing.assert_allclose(found.t - began.timestamp(), t, atol=1e-5)
        np.testing.assert_allclose(found.samples, samples, rtol=1e-6)
    with pytest.raises(HardError, match="'soon' in line 3, column 'time', is no date with a time"):
        read_recording(write(tmp_path / "a.csv", "time,ax,ay,az\n2026-01-05T10:00,0,0,9.8\nsoon,0,0,9.8\n"))


@given(kept=st.integers(4, 120))
def test_a_recording_that_was_cut_off_is_read_to_its_last_whole_line(
    tmp_path_factory: pytest.TempPathFactory, kept: int
) -> None:
    t, samples = SyntheticPhone(0, jitter_s=0.0).read(0, 50)
    lines = [f"{s:.2f},{','.join(f'{v:.3f}' for v in x)}" for s, x in zip(t, samples, strict=True)]
    text = "t,ax,ay,az,gx,gy,gz\n" + "\n".join(lines[:20]) + "\n"
    rest = "\n".join(lines[20:])[:kept]
    counters = Counters()
    path = write(tmp_path_factory.mktemp("cut") / "a.csv", text + rest)
    found = read_recording(path, counters=counters)
    last = rest.rpartition("\n")[2]
    cut = bool(last) and (last.count(",") < 6 or last[-1] in ",-")
    assert counters["bad_line"] == cut
    assert len(found.t) == 20 + rest.count("\n") + (bool(last) and not cut)


def test_a_missing_file_gets_the_nearest(tmp_path: Path) -> None:
    write(tmp_path / "walk.csv", "")
    with pytest.raises(HardError, match=r"wlak\.csv: no such file; did you mean walk\.csv\?"):
        read_recording(tmp_path / "wlak.csv")


@pytest.mark.parametrize("raw", [b"\x7fELF\x00\x01", b"\xff\xfe\x00\x00a", b"\xff\xfea\x00b"])
def test_a_binary_file_is_refused(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "a.csv").write_bytes(raw)
    with pytest.raises(HardError, match="not a text file"):
        read_recording(tmp_path / "a.csv")


def test_units_of_a_format_that_fixes_them_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "acc_exp01_user01.txt", "1 2 3\n")
    write(tmp_path / "gyro_exp01_user01.txt", "1 2 3\n")
    with pytest.raises(HardError, match="leave out --acc-unit"):
        read_recording(tmp_path / "acc_exp01_user01.txt", "g")


@pytest.mark.parametrize(
    ("files", "error"),
    [
        ({}, "no CSV file in it"),
        ({"a.txt": ""}, "no CSV file in it"),
        ({"Light.csv": "t,lux\n0,1\n"}, r"no sensor of motion in Light\.csv"),
        ({"a.csv": ACC, "b.csv": ACC}, r"total acceleration is in a\.csv and in b\.csv; give one of them"),
        ({"1/a.csv": ACC, "2/a.csv": ACC}, r"holds a\.csv more than once; give one recording"),
        ({"[Content_Types].xml": "", "a.csv": ACC}, "an Excel workbook; export CSV instead"),
        ({"a.csv": ACC + "0.02,0,0,z\n"}, r"a\.csv: 'z' in line 3, column 'az'"),
        ({"a.csv": ACC, "g.csv": "t,gx,gy\n0,0,0\n"}, r"g\.csv: .* in 'gx', 'gy' lacks an axis"),
        ({"Accelerometer.csv": LOGGED}, "accelerometer of Sensor Logger, but no .*switch on Gravity"),
        (
            {"Gravity.csv": LOGGED, "Metadata.csv": "platform\nsymbian\n"},
            "'symbian'; expected ios or android",
        ),
    ],
)
def test_a_bad_zip_gets_the_fix(tmp_path: Path, files: dict[str, str], error: str) -> None:
    with pytest.raises(HardError, match=r"a\.zip: .*" + error):
        read_recording(zipped(tmp_path / "a.zip", files))


def test_a_damaged_or_locked_zip_is_named(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", {"a.csv": ACC * 100})
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(HardError, match=r"a\.zip: .*; export it again"):
        read_recording(path)
    path.write_bytes(whole.replace(whole[45:60], bytes(15)))
    with pytest.raises(HardError, match=r"a\.zip: a\.csv: .*; export it again"):
        read_recording(path)
    flags = bytearray(whole)
    for magic, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        flags[whole.index(magic) + offset] |= 1  # encrypted
    path.write_bytes(flags)
    with pytest.raises(HardError, match=r"password required.*; unpack it, and give the folder"):
        read_recording(path)


@pytest.mark.parametrize("seed", range(4))
def test_a_zip_with_any_wrong_bytes_is_read_or_named(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    whole = zipped(
        tmp_path / "a.zip", {"Accelerometer.csv": ACC * 100, "Gyroscope.csv": ACC * 100}
    ).read_bytes()
    for _ in range(150):
        torn = bytearray(whole)
        for at in rng.integers(0, len(torn), rng.integers(1, 5)):
            torn[at] = rng.integers(256)
        (tmp_path / "a.zip").write_bytes(torn)
        with contextlib.suppress(HardError):
            read_recording(tmp_path / "a.zip")


def test_a_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_BYTES", 1 << 20)
    text = ACC + "0," * (1 << 20)
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(text.encode()))
    write(tmp_path / "plain.csv", text)
    zipped(tmp_path / "a.zip", {"a.csv": text})
    for name in ("a.csv.gz", "plain.csv", "a.zip"):
        with pytest.raises(HardError, match="more than 1 MB of text; cut the recording into parts"):
            read_recording(tmp_path / name)


def test_a_clock_that_goes_back_is_two_recordings(tmp_path: Path) -> None:
    rows = [f"{i / 50},0,0,9.8" for i in range(200)] * 2
    gyro = [f"{i / 60},0,0,0" for i in range(200)]
    write(tmp_path / "a.csv", "\n".join(["t,ax,ay,az", *rows]))
    write(tmp_path / "g.csv", "\n".join(["t,gx,gy,gz", *gyro]))
    with pytest.raises(HardError, match=r"total acceleration goes back by 4\.0 s in time at its row 201"):
        read_recording(tmp_path)


def test_a_header_that_is_not_utf8_notes_before_it_and_numbers_without_a_point(tmp_path: Path) -> None:
    text = (
        "sep=;\n# a note\n\nZeit;time (s);ax (m/s²);ay (m/s²);az (m/s²);gx (°/s);gy (°/s);gz (°/s)\n"
        "x;0;1;2;9;180;0;0\n"
    )
    (tmp_path / "a.csv").write_bytes(text.encode("latin-1"))
    recording = read_recording(tmp_path / "a.csv")
    np.testing.assert_allclose(recording.samples, [[1, 2, 9, np.pi, 0, 0]], rtol=1e-6)


@pytest.mark.parametrize("mark", [codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE])
def test_unicode_text_of_excel_is_read_alone_and_in_a_folder(tmp_path: Path, mark: bytes) -> None:
    rows = (f"{i / 50}\t1\t2\t9\r\n".replace(".", ",") for i in range(5000))  # more than tells what it is
    text = "t\tax (m/s²)\tay (m/s²)\taz (m/s²)\r\n" + "".join(rows)
    raw = mark + text.encode("utf-16-le" if mark == codecs.BOM_UTF16_LE else "utf-16-be")
    (tmp_path / "a.csv").write_bytes(raw)
    for path in (tmp_path / "a.csv", tmp_path):
        recording = read_recording(path)
        assert len(recording.t) == 5000
        np.testing.assert_allclose(recording.samples[-1], [1, 2, 9])


@pytest.mark.parametrize("packed", [False, True])
def test_a_pipe_is_read_to_its_end(tmp_path: Path, packed: bool) -> None:
    rows = (f"{i / 50},0,0,9.8\n" for i in range(20_000))  # more than a pipe holds
    raw = ("t,ax,ay,az\n" + "".join(rows)).encode()
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = Thread(target=pipe.write_bytes, args=(gzip.compress(raw) if packed else raw,))
    writer.start()
    recording = read_recording(pipe)
    writer.join()
    assert (recording.name, len(recording.t)) == ("pipe", 20_000)


@pytest.mark.parametrize("gyro", [True, False])
def test_what_record_writes_is_read_again_with_or_without_a_gyroscope(tmp_path: Path, gyro: bool) -> None:
    samples = np.tile(np.array([1, 2, 9.5, 0.1, 0.2, 0.3], np.float32), (5, 1))[:, : 6 if gyro else 3]
    record.write(tmp_path / "a.csv", Recording("a", np.arange(5) / 50, samples))
    got = read_recording(tmp_path / "a.csv")
    assert got.gyro is gyro
    np.testing.assert_allclose(got.samples, samples, rtol=1e-6)


def test_a_disk_that_is_full_gets_no_half_recording(tmp_path: Path) -> None:
    recording = Recording("a", np.arange(5000) / 50, np.ones((5000, 6), np.float32))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(HardError, match=r"a\.csv: File too large; set state_dir"):
            record.write(tmp_path / "a.csv", recording)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(HardError, match=r"a\.csv: File exists; set state_dir"):
        record.write(tmp_path / "file" / "a.csv", recording)


def test_replay_says_of_a_phone_that_it_has_no_gyroscope() -> None:
    recording = Recording("a", np.arange(60) / 50, np.full((60, 3), 5.0, np.float32))
    codec = NativeCodec(CodecOptions(), Counters())
    chunks: list[Chunk] = []
    play(recording, lambda p: chunks.extend(codec.decode(Message("hard/a/imu", p, 0.0))), Event(), speed=1e9)
    samples = np.concatenate([c.samples for c in chunks])
    assert not any(c.gyro for c in chunks)
    assert (samples == recording.chunk().samples).all()


CELLS = st.sampled_from(["", "0", "1", "9.8", "1e300", "inf", "nan", "x", '"', "-1,5", "1700000000", "#"])
HEADERS = st.sampled_from(
    [
        "t,ax,ay,az",
        "time;ax;ay;az;gx;gy;gz",
        "t\tx (g)\ty (g)\tz (g)",
        "seconds_elapsed,z,y,x",
        "",
        "t,gx,gy,gz",
    ]
)
LINES = st.lists(st.lists(CELLS, max_size=8), max_size=8)


@given(
    header=HEADERS | st.text(max_size=40),
    lines=LINES,
    delimiter=st.sampled_from(",;\t"),
    name=st.sampled_from(["a.csv", "Gravity.csv", "a.json", "acc_exp01_user01.txt"]),
)
def test_any_text_is_a_recording_or_a_clear_error(
    tmp_path_factory: pytest.TempPathFactory, header: str, lines: list[list[str]], delimiter: str, name: str
) -> None:
    folder = tmp_path_factory.getbasetemp() / "any"
    folder.mkdir(exist_ok=True)
    text = "\n".join([header, *(delimiter.join(line) for line in lines)])
    for file in (name, name.replace("acc_", "gyro_")):
        (folder / file).write_text(text, "utf-8", "replace")
    error = ""
    try:
        got = read_recording(folder / name)
    except HardError as e:
        error = str(e)
    if error:
        assert str(folder) in error
        assert len(error.splitlines()) == 1
    else:
        assert got.samples.shape in ((len(got.t), 3), (len(got.t), 6))


@given(raw=st.binary(max_size=300), head=st.sampled_from([b"", b"PK\x03\x04", b"\x1f\x8b", b"[{", b"[[1"]))
def test_any_bytes_are_a_recording_or_a_clear_error(
    tmp_path_factory: pytest.TempPathFactory, raw: bytes, head: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.bin"
    path.write_bytes(head + raw)
    with pytest.raises(HardError, match=re.escape(str(path))):
        read_recording(path)


@pytest.mark.data
def test_both_public_sets_show_one_g_upwards(data: Path) -> None:
    hapt = read_recording(data / "hapt/RawData/acc_exp01_user01.txt.gz")
    pocket = read_recording(data / "motionsense/A_DeviceMotion_data/std_14/sub_1.csv.gz")
    for recording in (hapt, pocket):
        norm = np.linalg.norm(recording.samples[:, :3], axis=1)
        assert np.median(norm) == pytest.approx(G, rel=0.05)
    assert np.median(hapt.samples[:, 0]) > 0.8 * G  # waist, x up
