"""Lines of numbers: every dialect, every unit, every noise has its stated result."""

from __future__ import annotations

import logging
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hard.codecs import CodecOptions, Column
from hard.codecs.auto import AutoCodec
from hard.codecs.csv_lines import CsvLinesCodec, parse
from hard.codecs.units import gyro_unit, time_unit
from hard.imu import Imu, Limits
from hard.listen import Listener
from hard.recognizer import Recognizer
from hard.recordings import read_recording
from hard.sources.serial import Lines
from hard.stats import Counters, Drop
from hard.synthetic import SyntheticPhone
from hard.types import Chunk, G, Message, Windowing

T, SAMPLES = SyntheticPhone(0, dwell_s=4.0).read(0, 600)  # 12 s, jittered 50 Hz, m/s² and rad/s


def lines(t: np.ndarray | None, samples: np.ndarray, separator: str = ",", end: str = "\r\n") -> list[bytes]:
    columns = samples if t is None else np.column_stack([t, samples])
    return [(separator.join(f"{v:.9g}" for v in row) + end).encode() for row in columns]


def decode(
    payloads: list[bytes], arrivals: list[float] | None = None, codec: CsvLinesCodec | None = None
) -> list[Chunk]:
    codec = codec or CsvLinesCodec(CodecOptions(), Counters())
    out: list[Chunk] = []
    for i, payload in enumerate(payloads):
        arrival_s = arrivals[i] if arrivals else 0.02 * i
        out += codec.decode(Message("serial/board", payload, arrival_s))
    return out


def joined(chunks: list[Chunk]) -> tuple[np.ndarray, np.ndarray]:
    return np.concatenate([c.t for c in chunks]), np.concatenate([c.samples for c in chunks])


@pytest.mark.parametrize("separator", [",", "\t", " ", ", ", " , ", "   "])
def test_a_line_is_split_at_commas_tabs_and_spaces(separator: str) -> None:
    assert parse(separator.join(["1", "-2.5", "3e2"]).encode() + b"\r") == [1.0, -2.5, 300.0]


@pytest.mark.parametrize(
    ("line", "values"),
    [
        (b"a/g:\t1\t2\t3\t4\t5\t6", [1, 2, 3, 4, 5, 6]),
        (b"IMU 1,2", [1, 2]),
        (b"1,2,", [1, 2]),
        (b"", []),
        (b"\r", []),
        (b"\0\0", []),
        (b"1,,2", None),
        (b"1,x,2", None),
        (b"Started", None),
        (b"MPU6050 connection successful", None),
        (b"timestamp,accX,accY,accZ", None),
        (b"\xff\xfe1,2,3", None),
        (b"0,12;0,5", None),
        (b"1_0,2", None),
        (b"Acceleration X: 0.12, Y: 1", None),
    ],
)
def test_what_a_line_says(line: bytes, values: list[float] | None) -> None:
    assert parse(line) == values


@pytest.mark.parametrize(
    ("line", "columns", "why"),
    [
        (b"1,2,3,4,5,6,7,8,9", (), "9 values a line: say which with `columns`"),
        (b"1,2,3,4,5,6", ("ax", "ay", "az"), "6 values a line, but `columns` names 3"),
        (b"9.3;0.1;0.2;0;0;0", (), "values with ; between: print commas"),
        (b"ax:9.3,ay:-0.1,az:0.2", (), "values with names: print the bare numbers"),
        (b'{"ax":9.3,"ay":0.1,"az":1}', (), "values with names: print the bare numbers"),
        (b"\xf8\x80\xfe\x1c", (), "is the baud rate right?"),
    ],
)
def test_a_board_none_of_whose_lines_are_samples_is_told_why(
    line: bytes, columns: tuple[Column, ...], why: str, caplog: pytest.LogCaptureFixture
) -> None:
    codec = CsvLinesCodec(CodecOptions(columns=columns), Counters())
    assert decode([line + b"\r\n"] * 50, codec=codec) == []
    assert why in caplog.records[0].getMessage()
    heard = Listener([("serial/+", "csv-lines", codec)], AutoCodec(CodecOptions(), Counters()))
    heard.take(Message("serial/board", line + b"\n", 1.0))
    assert why in heard.empty()["serial/board"][1]


def test_a_stray_line_of_a_good_board_gets_no_hint(caplog: pytest.LogCaptureFixture) -> None:
    decode([*lines(T, SAMPLES)[:100], b"1,2,3,4,5\n"])
    assert caplog.records[-1].getMessage().endswith(r"b'1,2,3,4,5\n'")


@pytest.mark.parametrize("token", [b"nan", b"NaN", b"-nan", b"ovf"])
def test_arduinos_words_for_no_number_are_nan(token: bytes) -> None:
    values = parse(b"1," + token)
    assert values is not None
    assert np.isnan(values[1])


@pytest.mark.parametrize(
    ("unit", "gyro_unit", "acc", "gyro"),
    [
        ("m/s2", "rad/s", 1.0, 1.0),
        ("g", "deg/s", 1 / G, 180 / np.pi),
        ("counts", "counts", 16384 / G, 131 * 180 / np.pi),
    ],
)
@pytest.mark.parametrize(("time", "per_s"), [("s", 1), ("ms", 1e3), ("us", 1e6)])
def test_units_are_found_and_said_once(
    unit: str, gyro_unit: str, acc: float, gyro: float, time: str, per_s: float,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    printed = SAMPLES * np.array([acc] * 3 + [gyro] * 3)
    with caplog.at_level(logging.INFO):
        t, samples = joined(decode(lines(T * per_s, printed, "\t")))
    np.testing.assert_allclose(t, T, atol=1e-6)
    np.testing.assert_allclose(samples, SAMPLES, rtol=1e-5, atol=1e-5)
    (said,) = [r.getMessage() for r in caplog.records]
    assert f"t in {time}, acceleration in {unit}, angular velocity in {gyro_unit} (assumed" in said


@pytest.mark.parametrize("rate_hz", [20, 50, 104, 300, 398])
def test_whole_milliseconds_with_jitter_are_milliseconds(rate_hz: float) -> None:
    """At 398 Hz most single steps may be 2 ms, which would be 500 Hz."""
    for seed in range(100):
        jitter = np.random.default_rng(seed).uniform(0, 0.9, 21)
        assert time_unit(np.floor(np.arange(21) * 1000 / rate_hz + jitter)) == "ms"


@pytest.mark.parametrize(
    ("acc", "fast", "unit"),
    [("m/s2", 0.02, "rad/s"), ("g", 0.5, "deg/s"), ("counts", 60.0, "counts"), ("m/s2", 90.0, "deg/s")],
)
def test_the_gyroscopes_unit_is_the_one_that_goes_with_the_accelerations(
    acc: str, fast: float, unit: str
) -> None:
    assert gyro_unit(np.full((50, 3), fast), acc) == unit


def test_raw_counts_of_the_mpu6050_example() -> None:
    rows = [b"a/g:\t%d\t-164\t16384\t131\t0\t-262\n" % (k % 7) for k in range(150)]
    _, samples = joined(decode(rows))
    np.testing.assert_allclose(
        samples[0], [0, -164 / 16384 * G, G, np.pi / 180, 0, -np.pi / 90], rtol=1e-4, atol=1e-4
    )
    assert len(samples) == 150


def test_configured_columns_and_units_win() -> None:
    settings_ = CodecOptions(
        columns=("gx", "gy", "gz", "-", "ax", "ay", "az", "t"), time_unit="ms", acc_unit="counts",
        acc_scale=1000.0, gyro_unit="deg/s",
    )  # fmt: skip
    codec = CsvLinesCodec(settings_, Counters())
    (chunk,) = decode([b"180,0,0,36.6,0,500,1000,2500\n"], codec=codec)  # at once: there is nothing to learn
    assert chunk.t.tolist() == [2.5]
    np.testing.assert_allclose(chunk.samples, [[0, G / 2, G, np.pi, 0, 0]], rtol=1e-6, atol=1e-6)


def test_deg_s_beside_m_s2_is_noticed_as_soon_as_it_is_impossible(caplog: pytest.LogCaptureFixture) -> None:
    """Edge Impulse's own sketch prints m/s² and deg/s; rest tells nothing, the first fast turn does."""
    rows = np.tile([0.0, 0.0, G, 0.1, 0.0, 0.0], (300, 1))
    rows[150:, 3] = 90.0
    _, samples = joined(decode(lines(np.arange(300) / 50, rows)))
    assert samples[149, 3] == pytest.approx(0.1)
    assert samples[160, 3] == pytest.approx(np.pi / 2)
    assert "set gyro_unit" in caplog.text


def test_an_unknown_unit_is_counted_and_says_what_to_set(caplog: pytest.LogCaptureFixture) -> None:
    counters = Counters()
    rows = np.tile([0, 0, 4096, 0, 0, 0], (300, 1))
    assert decode(lines(np.arange(300) / 50, rows), codec=CsvLinesCodec(CodecOptions(), counters)) == []
    assert "median norm of 4096" in caplog.text
    assert "set acc_unit and acc_scale" in caplog.text
    assert 200 < counters[Drop.NOT_LEARNED] <= 300


def test_a_first_column_that_is_no_time_says_what_to_set(caplog: pytest.LogCaptureFixture) -> None:
    """An MPU6050 library that prints the temperature as a seventh value."""
    counters = Counters()
    rows = np.tile([0, 0, 1.0, 0, 0, 0], (300, 1))
    assert decode(lines(np.full(300, 36.6), rows), codec=CsvLinesCodec(CodecOptions(), counters)) == []
    assert "column t steps by 0: not 20-400 Hz" in caplog.text
    assert counters[Drop.NOT_LEARNED] >= 290


@pytest.mark.parametrize("stamped", [False, True])
def test_three_values_a_line_are_a_board_without_a_gyroscope(stamped: bool) -> None:
    chunks = decode(lines(T if stamped else None, SAMPLES[:, :3]))
    assert len(chunks) > 1
    assert not any(chunk.gyro for chunk in chunks)
    _, samples = joined(chunks)
    np.testing.assert_allclose(samples[:, :3], SAMPLES[: len(samples), :3], rtol=0, atol=0.01)
    assert (samples[:, 3:] == 0).all()


def test_banners_noise_and_other_lengths_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    counters = Counters()
    good = lines(T, SAMPLES)
    noise = [b"Started\r\n", b"\r\n", b"\xff\x80,\x01\n", b"1,2,3,4,5\n", b"9.81\n", b"1,2,3,4,5,6\n"]
    torn = noise[:5] + [line + noise[i // 10 % 6] if i % 10 == 0 else line for i, line in enumerate(good)]
    _, samples = joined(decode(torn, codec=CsvLinesCodec(CodecOptions(), counters)))
    np.testing.assert_allclose(samples, SAMPLES, rtol=1e-6, atol=1e-6)
    assert counters.drops() == {"bad_line": 4 + 50}  # a blank line is none
    assert "Started" in caplog.text


def test_a_stray_first_line_does_not_settle_the_layout() -> None:
    counters = Counters()
    got = decode([b"1,2,3,4,5,6\n", *lines(T, SAMPLES)], codec=CsvLinesCodec(CodecOptions(), counters))
    assert sum(len(c.t) for c in got) == 600 - 2
    assert counters.drops() == {"bad_line": 2, "not_learned": 1}


def test_nan_drops_the_sample_and_keeps_its_neighbours_in_time() -> None:
    counters = Counters()
    rows = lines(T, SAMPLES)
    rows[300] = b"%.9g,nan,0,0,0,0,0\r\n" % T[300]
    imu = Imu(Windowing(), Limits(), counters)
    for chunk in decode(rows):
        imu.push(chunk)
    assert counters.snapshot() == {"not_finite": 1}


def test_a_reflashed_board_may_print_another_layout() -> None:
    counters = Counters()
    codec = CsvLinesCodec(CodecOptions(), counters)
    before = decode(lines(T[:200], SAMPLES[:200]), codec=codec)
    arrivals = [20 + 0.02 * i for i in range(400)]
    after = decode(lines(None, SAMPLES[:400] / G), arrivals, codec)
    assert sum(len(c.t) for c in before) == 200
    assert sum(len(c.t) for c in after) == 400
    assert counters.drops() == {}


def test_a_layout_that_changes_without_a_pause_is_taken_over_after_fifty_lines() -> None:
    counters = Counters()
    got = decode(
        lines(T[:200], SAMPLES[:200]) + lines(None, SAMPLES[200:]),
        codec=CsvLinesCodec(CodecOptions(), counters),
    )
    assert counters[Drop.BAD_LINE] == 49
    assert sum(len(c.t) for c in got) == 600 - 49


def test_units_are_learned_anew_after_a_silence() -> None:
    codec = CsvLinesCodec(CodecOptions(), Counters())
    decode(lines(T[:300], SAMPLES[:300]), codec=codec)
    arrivals = [60 + 0.02 * i for i in range(300)]
    printed = SAMPLES[:300] * np.array([1 / G] * 3 + [180 / np.pi] * 3)
    _, samples = joined(decode(lines(T[:300], printed), arrivals, codec))
    np.testing.assert_allclose(samples, SAMPLES[:300], rtol=1e-5, atol=1e-5)


def test_a_board_that_stops_before_its_rate_is_known_loses_only_that() -> None:
    counters = Counters()
    rows = lines(None, SAMPLES[:340])
    arrivals = [0.02 * i for i in range(40)] + [6 + 0.02 * i for i in range(300)]
    got = decode(rows, arrivals, CsvLinesCodec(CodecOptions(), counters))
    assert (joined(got)[1] == SAMPLES[40:340]).mean() > 0.99  # printed with nine digits
    assert counters.drops() == {"not_learned": 40}


def test_devices_of_one_subscription_do_not_mix() -> None:
    codec = CsvLinesCodec(CodecOptions(), Counters())
    rows = {"a": lines(T, SAMPLES), "b": lines(T * 1000, SAMPLES / G)}
    got: dict[str, list[Chunk]] = {"a": [], "b": []}
    for i in range(600):
        for name in got:
            got[name] += codec.decode(Message(f"hard/{name}/imu", rows[name][i], 0.02 * i))
    for name, chunks in got.items():
        assert {c.device for c in chunks} == {name}
        np.testing.assert_allclose(joined(chunks)[1][:, :3], SAMPLES[:, :3], rtol=1e-5, atol=1e-5)


wire = b"xx,1.5\r\n" + b"".join(
    line + (b"boot\r\n\r\n" if i % 97 == 0 else b"") for i, line in enumerate(lines(T * 1000, SAMPLES))
)


@settings(max_examples=60)
@given(cuts=st.lists(st.integers(0, len(wire)), max_size=300))
def test_chunks_do_not_depend_on_how_bytes_are_split_into_reads(cuts: list[int]) -> None:
    counters = Counters()
    reader, codec = Lines(counters), CsvLinesCodec(CodecOptions(), counters)
    chunks: list[Chunk] = []
    edges = [0, *sorted(cuts), len(wire)]
    for a, b in pairwise(edges):
        payload = reader.feed(wire[a:b])
        if payload:
            chunks += codec.decode(Message("serial/board", payload, 0.0))
    t, samples = joined(chunks)
    np.testing.assert_allclose(t, T, atol=1e-6)
    np.testing.assert_allclose(samples, SAMPLES, rtol=1e-6, atol=1e-6)
    assert counters.drops() == {"bad_line": 7}


def test_lines_without_timestamps_are_labelled_as_with_them() -> None:
    """50 Hz, one line a read, up to 30 ms late: the activities are those of the true times."""
    t, samples = SyntheticPhone(2, dwell_s=12.0).read(0, 3000)
    rng = np.random.default_rng(3)
    arrivals = np.maximum.accumulate(t + rng.uniform(0, 0.03, len(t))).tolist()
    recognizer, exact = Recognizer("lstm-waist"), Recognizer("lstm-waist")
    got = []
    for chunk in decode(lines(None, samples), arrivals):
        recognizer.feed([chunk])
        got += recognizer.step()
    expected = exact.push("x", t, samples)
    assert len(got) == len(expected)
    same = [a.activity == b.activity for a, b in zip(got, expected, strict=True)]
    assert np.mean(same) >= 0.95
    assert recognizer.counters.drops() == {}


@pytest.mark.data
def test_a_recording_without_timestamps_is_labelled_as_with_them(data: Path) -> None:
    """Raw counts, two lines a read, each read up to 60 ms late: real movement on a measured clock."""
    recording = read_recording(data / "hapt/RawData/acc_exp03_user02.txt.gz")
    counts = np.rint(recording.samples * np.array([16384 / G] * 3 + [131 * 180 / np.pi] * 3))
    printed = lines(None, counts, "\t")
    pairs = [a + b for a, b in zip(printed[::2], printed[1::2], strict=False)]
    late = np.random.default_rng(1).uniform(0, 0.06, len(pairs))
    arrivals = np.maximum.accumulate(recording.t[1::2][: len(pairs)] + late).tolist()
    recognizer, exact = Recognizer("lstm-waist"), Recognizer("lstm-waist")
    for chunk in decode(pairs, arrivals):
        recognizer.feed([chunk])
    got = recognizer.step()
    expected = exact.push("x", recording.t, recording.samples)
    assert abs(len(got) - len(expected)) <= 1
    same = [a.activity == b.activity for a, b in zip(got, expected, strict=False)]
    assert np.mean(same) >= 0.95
    assert recognizer.counters.drops() == {}
