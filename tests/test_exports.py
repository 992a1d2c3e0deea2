"""Recordings that phone apps exported: the original's labels, whatever the app, its units and its signs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps import Phone
from conftest import Hard
from exports import (
    ANDROID,
    BARE,
    EXPORTS,
    IOS,
    Sensors,
    Writer,
    csv,
    pack,
    phyphox,
    sensor_logger,
    sensors_of,
)
from hard.recognizer import Recognizer
from hard.recordings import Recording, read_recording
from hard.recordings.join import Series, join
from hard.stats import Counters
from hard.synthetic import SyntheticPhone
from hard.types import HardError, Prediction, Sensor


def synthetic(seconds: float = 12.0) -> Recording:
    t, samples = SyntheticPhone(3, dwell_s=4.0).read(0, int(seconds * 50))
    return Recording("synthetic", np.arange(len(t)) / 50, samples)  # whole milliseconds


@pytest.fixture(scope="module")
def recognizer() -> Recognizer:
    return Recognizer("lstm-waist")


def labels(recognizer: Recognizer, recording: Recording) -> list[Prediction]:
    recognizer.wear("a")  # starts anew
    return list(recognizer.push("a", recording.t - recording.t[0], recording.samples))


def same(recognizer: Recognizer, got: Recording, original: Recording) -> None:
    expected = labels(recognizer, original)
    found = labels(recognizer, got)
    assert [p.activity for p in found] == [p.activity for p in expected]
    assert [p.model for p in found] == [p.model for p in expected]
    for p, q in zip(found, expected, strict=True):
        assert p.probabilities == pytest.approx(q.probabilities, abs=2e-3)


@pytest.mark.parametrize("name", EXPORTS)
def test_every_export_gets_the_labels_of_the_original(
    name: str, recognizer: Recognizer, tmp_path: Path
) -> None:
    original = synthetic()
    counters = Counters()
    got = read_recording(EXPORTS[name](sensors_of(original), tmp_path), counters=counters)
    assert got.name == "a"
    assert counters.drops() == {}
    np.testing.assert_allclose(got.t - got.t[0], original.t, atol=1e-6)
    np.testing.assert_allclose(got.samples, original.samples, atol=1e-4)
    same(recognizer, got, original)


@pytest.mark.data
@pytest.mark.parametrize("name", EXPORTS | BARE)
def test_a_real_recording_gets_its_labels_from_every_export(
    name: str, recognizer: Recognizer, tmp_path: Path, data: Path
) -> None:
    whole = read_recording(data / "hapt/RawData/acc_exp07_user04.txt.gz")
    cut = slice(2000, 8000)  # two minutes
    width = 3 if name in BARE else 6
    original = Recording("a", whole.t[cut] - whole.t[cut][0], whole.samples[cut])
    got = read_recording((EXPORTS | BARE)[name](sensors_of(original), tmp_path))
    same(recognizer, got, Recording("a", original.t, original.samples[:, :width]))


@pytest.mark.data
@pytest.mark.parametrize("platform", ["ios", "android"])
def test_sensors_with_clocks_of_their_own_are_joined(
    platform: str, recognizer: Recognizer, tmp_path: Path, data: Path
) -> None:
    """Each sensor at its own rate, with jitter: nearly all labels are the original's."""
    original = read_recording(data / "hapt/RawData/acc_exp07_user04.txt.gz")
    phone = Phone(original, 1)
    sensors: Sensors = {
        "linear": phone.sensor("linear", 100.0), "gravity": phone.sensor("gravity", 50.0),
        "gyro": phone.sensor("gyro", 104.0), "total": phone.sensor("total", 100.0),
    }  # fmt: skip
    names = IOS if platform == "ios" else {"TotalAcceleration": "total", "Gyroscope": "gyro"}
    got = read_recording(pack(sensor_logger(sensors, names, platform), tmp_path / "a.zip"))
    found, expected = labels(recognizer, got), labels(recognizer, original)
    assert len(expected) - len(found) in (0, 1)
    right = [p.activity == q.activity for p, q in zip(found, expected, strict=False)]
    assert np.mean(right) > 0.97


@pytest.mark.parametrize("name", BARE)
def test_without_a_gyroscope_the_model_for_that_is_taken(
    name: str, recognizer: Recognizer, tmp_path: Path
) -> None:
    original = synthetic()
    got = read_recording(BARE[name](sensors_of(original), tmp_path))
    assert got.samples.shape == (len(original.t), 3)
    assert {p.model for p in labels(recognizer, got)} == {"lstm-acc"}
    same(recognizer, got, Recording("a", original.t, original.samples[:, :3]))


TIMES = {
    "t": 1.0, "Time (s)": 1.0, "timestamp": 1e3, "time_us": 1e6, "ts": 1e9, "seconds_elapsed": 1.0,
    "elapsed (min)": 1 / 60, "time [h]": 1 / 3600,
}  # fmt: skip
ACCS = {
    "a{}": 1.0, "acc{}": 1 / 9.80665, "acc_{}": 1.0, "accel_{}": 1.0, "Acceleration {} (m/s^2)": 1.0,
    "acc.{}": 1.0, "{}_acc [g]": 1 / 9.80665, "Accelerometer {} (m/s²)": 1.0, "totalAcceleration-{}": 1.0,
    "acceleration_{}": 1 / 9.80665,
}  # fmt: skip
DEG = 180 / np.pi
GYROS = {
    "g{} (rad/s)": 1.0, "gyro{} [deg/s]": DEG, "gyro_{} (dps)": DEG, "Gyroscope {} (rad/s)": 1.0,
    "{}_gyr (°/s)": DEG, "rotation_rate_{} (rad/s)": 1.0, "w{} (rad/s)": 1.0,
}  # fmt: skip
SHORT = synthetic(3.0)


@given(
    time=st.sampled_from(sorted(TIMES)), acc=st.sampled_from(sorted(ACCS)),
    gyro=st.none() | st.sampled_from(sorted(GYROS)), order=st.randoms(use_true_random=False),
    delimiter=st.sampled_from([",", ";", "\t", ";,", "\t,"]), upper=st.booleans(), quoted=st.booleans(),
    begins_s=st.sampled_from([0.0, 0.3, 86_400.0, 1_760_000_000.0]), ends=st.sampled_from(["\n", "\r\n"]),
)  # fmt: skip
def test_any_names_order_delimiter_and_units(
    tmp_path_factory: pytest.TempPathFactory, time, acc, gyro, order, delimiter, upper, quoted, begins_s, ends
) -> None:
    t = SHORT.t + begins_s
    columns = {
        time: t * TIMES[time],
        "label": np.zeros(len(t), np.int64),
        "mag_x (µT)": np.full(len(t), 40.0),
        "acc_x_min": np.full(len(t), -40.0),
    }
    if TIMES[time] > 1:
        columns[time] = np.rint(columns[time]).astype(np.int64)
    for i, axis in enumerate("xyz"):
        a = axis.upper() if upper else axis
        columns[acc.format(a)] = SHORT.samples[:, i] * ACCS[acc]
        if gyro:
            columns[gyro.format(a)] = SHORT.samples[:, 3 + i] * GYROS[gyro]
    names = list(columns)
    order.shuffle(names)
    shown = [f'"{name}"' if quoted else name for name in names]
    path = tmp_path_factory.getbasetemp() / "any.csv"
    text = csv(shown, [columns[n] for n in names], delimiter[0], delimiter[1:] == ",")
    path.write_text(text, "utf-8", newline=ends)
    got = read_recording(path)
    np.testing.assert_allclose(got.t, t, atol=2e-6 if begins_s < 1e6 else 1e-3)
    np.testing.assert_allclose(got.samples, SHORT.samples[:, : 6 if gyro else 3], atol=1e-4)


@given(
    piece_s=st.floats(0.05, 5.0), late_s=st.floats(0.0, 0.2), seed=st.integers(0, 9), linear=st.booleans()
)  # fmt: skip
def test_joining_does_not_depend_on_the_pieces(
    piece_s: float, late_s: float, seed: int, linear: bool
) -> None:
    rng = np.random.default_rng(seed)
    rates = {Sensor.LINEAR: 100, Sensor.GRAVITY: 50, Sensor.GYRO: 104}
    sensors = {}
    for sensor, hz in (rates if linear else {Sensor.ACC: 50, Sensor.GYRO: 104}).items():
        t = np.arange(late_s * (sensor is Sensor.GYRO), 20, 1 / hz) + rng.uniform(-1e-3, 1e-3)
        sensors[sensor] = Series(t, rng.normal(size=(len(t), 3)))
    t, samples = join("a", sensors, Counters(), piece_s)
    expected_t, expected = join("a", sensors, Counters())
    assert (t == expected_t).all()
    assert (samples == expected).all()
    assert samples.shape[1] == 6


def test_both_parts_of_acceleration_are_enough() -> None:
    def stream(hz: float, xyz: list[float]) -> Series:
        t = np.arange(0.003 * hz / 50, 10, 1 / hz)
        return Series(t, np.tile(xyz, (len(t), 1)))

    counters = Counters()
    parts = {Sensor.LINEAR: stream(100, [1, 0, 0]), Sensor.GRAVITY: stream(50, [0, 9, 0])}
    t, samples = join("a", parts, counters)
    np.testing.assert_allclose(samples, np.tile([1, 9, 0], (len(t), 1)), rtol=1e-6)
    assert len(t) + counters["unpaired"] == 1000
    assert counters["unpaired"] < 4


def test_sensors_of_other_times_are_no_recording() -> None:
    def stream(begin_s: float) -> Series:
        return Series(begin_s + np.arange(500) / 50, np.ones((500, 3)))

    for source, other in ((Sensor.ACC, Sensor.GYRO), (Sensor.LINEAR, Sensor.GRAVITY)):
        with pytest.raises(
            HardError, match=r"a: no two seconds in common: .*0\.0-10\.0 s, .*100\.0-110\.0 s"
        ):
            join("a", {source: stream(0.0), other: stream(100.0)}, Counters())


def test_sensors_that_take_turns_leave_cells_blank(tmp_path: Path) -> None:
    lines = ["time,ax,ay,az,gx,gy,gz,event"]
    for i in range(400):
        acc = f"{i * 10},1,2,9.5,,,,step"
        lines.append(acc if i % 2 else f"{i * 10},,,,0.1,0.2,0.3,")
    (tmp_path / "a.csv").write_text("\n".join(lines))
    got = read_recording(tmp_path / "a.csv")
    np.testing.assert_allclose(got.samples, np.tile([1, 2, 9.5, 0.1, 0.2, 0.3], (len(got.t), 1)), rtol=1e-6)
    np.testing.assert_allclose(np.diff(got.t), 0.02, atol=1e-9)
    assert len(got.t) >= 198


def test_a_gyroscope_that_stops_early_costs_the_rest(tmp_path: Path) -> None:
    sensors = dict(sensors_of(synthetic()))
    t, gyro = sensors["gyro"]
    names = {"TotalAcceleration": "total", "Gyroscope": "gyro"}
    for seconds, width in ((9.0, 6), (2.0, 3)):
        keep = t < seconds
        counters = Counters()
        path = pack(
            sensor_logger(sensors | {"gyro": (t[keep], gyro[keep])}, names, "android"), tmp_path / str(width)
        )
        got = read_recording(path, counters=counters)
        assert got.samples.shape[1] == width
        assert counters["unpaired"] > 50


@pytest.mark.parametrize("app", ["phyphox", "Sensor Logger"])
def test_a_sensor_that_the_phone_lacks_is_an_empty_file(app: str, tmp_path: Path) -> None:
    sensors = sensors_of(synthetic())
    files = phyphox(sensors) if app == "phyphox" else sensor_logger(sensors, ANDROID, "android")
    files["Gyroscope.csv"] = files["Gyroscope.csv"].partition("\n")[0] + "\n"
    files["Averages.csv"] = (
        '"Acceleration x (m/s^2)","Acceleration y (m/s^2)","Acceleration z (m/s^2)"\n0,0,9\n'
    )
    got = read_recording(pack(files, tmp_path / "a.zip"))
    np.testing.assert_allclose(got.samples, synthetic().samples[:, :3], atol=1e-4)


def test_an_option_wins_over_the_header(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("t,ax (m/s^2),ay (m/s^2),az (m/s^2)\n0,0,0,1\n0.02,0,0,1\n")
    np.testing.assert_allclose(read_recording(tmp_path / "a.csv", "g").samples, [[0, 0, 9.80665]] * 2)


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    return EXPORTS["phyphox, zip"](sensors_of(synthetic()), tmp_path)


def test_the_installed_command_reads_a_zip(hard: Hard, exported: Path) -> None:
    done = hard.run("classify", str(exported), "--json")
    assert (done.returncode, done.stderr) == (0, "")
    got = [json.loads(line) for line in done.stdout.splitlines()]
    expected = Recognizer("lstm-waist").push("a", synthetic().t, synthetic().samples)
    assert [g["raw"]["activity"] for g in got] == [p.activity for p in expected]


def write_bare(folder: Path) -> Path:
    writer: Writer = BARE["plain"]
    return writer(sensors_of(synthetic()), folder)


def test_a_model_that_needs_a_gyroscope_is_refused_without(hard: Hard, tmp_path: Path) -> None:
    done = hard.run("classify", str(write_bare(tmp_path)), "--model", "lstm-waist")
    assert done.returncode == 1
    assert "without a gyroscope, which lstm-waist needs; leave out --model, or take lstm-acc" in done.stderr
    assert hard.run("classify", str(write_bare(tmp_path)), "--model", "lstm-acc").returncode == 0


def test_the_model_for_phones_without_a_gyroscope_needs_none(hard: Hard, tmp_path: Path) -> None:
    path = str(write_bare(tmp_path))
    done = hard.run("classify", path, HARD__IMU__ACC_MODEL="lstm-waist")
    assert (done.returncode, done.stdout) == (1, "")
    assert "imu.acc_model: lstm-waist needs a gyroscope, and is to be for devices without" in done.stderr
    assert hard.run("classify", path, HARD__IMU__ACC_MODEL="lstm-pocket").returncode == 0
    assert hard.run("classify", path, "--model", "lstm-pocket").returncode == 0
