"""Recordings as phone apps export them, by their documentation and source: files, names, units, signs.

Sensor Logger: tszheichoi/awesome-sensor-logger, README.md, UNITS.md and CROSSPLATFORM.md. phyphox:
DataExport.java and SimpleExperimentCreator.java of phyphox-android.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from hard.recordings import Recording
from hard.types import G

UTC_NS = 1_698_501_144_401_773_000
METADATA = (
    "version,device name,recording epoch time,recording time,recording timezone,platform,appVersion,"
    "device id,sensors,standardisation,platform version\n"
    "3,a phone,1698501144401,2023-10-28_13-52-24,Europe/Berlin,{},1.64,1f,Accelerometer|Gyroscope,{},17\n"
)
Sensors = Mapping[str, tuple[np.ndarray, np.ndarray]]
"""By "total", "linear", "gravity", "gyro": times (n,) s and values (n, 3), SI units and the Android sign."""


def sensors_of(recording: Recording) -> Sensors:
    """All four at the same times; gravity is any slow part of the acceleration."""
    acc = recording.samples[:, :3].astype(float)
    kernel = np.ones(51) / 51
    gravity = np.stack([np.convolve(np.pad(a, 25, "edge"), kernel, "valid") for a in acc.T], axis=1)
    values = {"total": acc, "gravity": gravity, "linear": acc - gravity}
    if recording.gyro:
        values["gyro"] = recording.samples[:, 3:].astype(float)
    return {name: (recording.t - recording.t[0], v) for name, v in values.items()}


def csv(
    names: list[str],
    columns: list[np.ndarray],
    delimiter: str = ",",
    comma: bool = False,
    form: str = ".15g",
) -> str:
    lines = [delimiter.join(names)]
    for row in zip(*(c.tolist() for c in columns), strict=True):
        cells = [str(v) if isinstance(v, int) else format(v, form) for v in row]
        lines.append(delimiter.join(c.replace(".", ",") if comma else c for c in cells))
    return "\n".join(lines) + "\n"


def pack(files: Mapping[str, str], path: Path) -> Path:
    """Into a zip, or a folder where the path has no ending."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, text in files.items():
                archive.writestr(name, text)
        return path
    for name, text in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(text, "utf-8")
    return path


def sensor_logger(
    sensors: Sensors, names: Mapping[str, str], platform: str, standard: bool = False
) -> dict[str, str]:
    """time,seconds_elapsed,z,y,x for each; iOS points acceleration the other way, uncalibrated it is in g."""
    files = {"Metadata.csv": METADATA.format(platform, str(standard).lower())}
    for name, source in names.items():
        t, values = sensors[source]
        factor = -1.0 if platform == "ios" and source != "gyro" and not standard else 1.0
        if name == "AccelerometerUncalibrated" and factor < 0:
            factor /= G
        v = values * factor
        time = UTC_NS + np.rint(t * 1e9).astype(np.int64)
        files[f"{name}.csv"] = csv(
            ["time", "seconds_elapsed", "z", "y", "x"], [time, t, v[:, 2], v[:, 1], v[:, 0]]
        )
    files["Annotation.csv"] = "time,seconds_elapsed,text,millisecond_press_duration\n"
    files["Location.csv"] = f"time,seconds_elapsed,speed,latitude\n{UTC_NS},0.1,,0.0\n"
    return files


ANDROID = {
    "Accelerometer": "linear", "Gravity": "gravity", "TotalAcceleration": "total", "Gyroscope": "gyro",
}  # fmt: skip
IOS = {"Accelerometer": "linear", "Gravity": "gravity", "Gyroscope": "gyro"}
RAW = {"AccelerometerUncalibrated": "total", "Gyroscope": "gyro"}


def sensor_logger_json(sensors: Sensors) -> str:
    """An iPhone's."""
    rows: list[dict[str, str]] = []
    for name, source in IOS.items():
        t, values = sensors[source]
        v = values if source == "gyro" else -values
        rows += [
            {"sensor": name, "time": str(UTC_NS + round(at * 1e9)), "seconds_elapsed": str(at)}
            | {"z": str(z), "y": str(y), "x": str(x)}
            for at, (x, y, z) in zip(t.tolist(), v.tolist(), strict=True)
        ]
    rows.append({"sensor": "Location", "time": str(UTC_NS), "seconds_elapsed": "1.3", "speed": "0"})
    return json.dumps(rows)


PHYPHOX = {
    "total": ("Accelerometer", "Acceleration {} (m/s^2)"),
    "linear": ("Linear Acceleration", "Linear Acceleration {} (m/s^2)"),
    "gyro": ("Gyroscope", "Gyroscope {} (rad/s)"),
}


def phyphox(sensors: Sensors, delimiter: str = ",", comma: bool = False) -> dict[str, str]:
    files = {}
    for source, (name, column) in PHYPHOX.items():
        if source in sensors:
            t, v = sensors[source]
            names = ['"Time (s)"', *(f'"{column.format(axis)}"' for axis in "xyz")]
            files[f"{name}.csv"] = csv(names, [t, *v.T], delimiter, comma, ".9E")
    files["meta/device.csv"] = f'"property"{delimiter}"value"\n"version"{delimiter}"1.2.1"\n'
    files["meta/time.csv"] = f'"event"{delimiter}"experiment time"\n"START"{delimiter}0.000000000E0\n'
    return files


def table(sensors: Sensors, names: Mapping[str, str], time: str, per_s: float, **how: object) -> str:
    """One CSV of some sensors' axes; `names` has a {} for the axis."""
    t = sensors["total"][0]
    columns = {time: np.rint(t * per_s).astype(np.int64) if per_s > 1 else t}
    for source, name in names.items():
        columns |= {name.format(axis): v for axis, v in zip("xyz", sensors[source][1].T, strict=True)}
    return csv(list(columns), list(columns.values()), **how)  # type: ignore[arg-type]


def scaled(sensors: Sensors, acc: float, gyro: float) -> Sensors:
    return {name: (t, v * (gyro if name == "gyro" else acc)) for name, (t, v) in sensors.items()}


DEG = 180 / np.pi
AB = {"total": "a{}", "gyro": "g{}"}
Writer = Callable[[Sensors, Path], Path]


def text_file(name: str, make: Callable[[Sensors], str]) -> Writer:
    def write(sensors: Sensors, folder: Path) -> Path:
        (folder / name).write_text(make(sensors), "utf-8")
        return folder / name

    return write


def one_csv(sensors: Sensors, name: str) -> str:
    return sensor_logger(sensors, ANDROID, "android")[name]


def boards(sensors: Sensors) -> Sensors:
    """In g and deg/s."""
    return scaled(sensors, 1 / G, DEG)


NAMED = {"total": "acc{}", "gyro": "gyro{}"}
IN_HEADER = {"total": "acc_{} [g]", "gyro": "gyr_{} [°/s]"}
APART = {"gyro": "rotation_rate_{}", "gravity": "gravity.{}", "linear": "linear_acc_{}"}
APART_ACC = {"linear": "acceleration{}", "gravity": "gravity{}", "gyro": "w{}"}
CORE_MOTION = {"linear": "userAcceleration.{}", "gravity": "gravity.{}", "gyro": "rotationRate.{}"}
ANDRO = {"total": "ACCELEROMETER {} (m/s²)", "gyro": "GYROSCOPE {} (rad/s)"}
SINCE = "Time since start in ms "
EXPORTS: dict[str, Writer] = {
    "Sensor Logger, Android, zip": lambda s, f: pack(sensor_logger(s, ANDROID, "android"), f / "a.zip"),
    "Sensor Logger, iOS, zip": lambda s, f: pack(sensor_logger(s, IOS, "ios"), f / "a.zip"),
    "Sensor Logger, iOS, folder": lambda s, f: pack(sensor_logger(s, IOS, "ios"), f / "a"),
    "Sensor Logger, iOS, standardised": lambda s, f: pack(sensor_logger(s, IOS, "ios", True), f / "a"),
    "Sensor Logger, iOS, uncalibrated": lambda s, f: pack(sensor_logger(s, RAW, "ios"), f / "a"),
    "Sensor Logger, Android, uncalibrated": lambda s, f: pack(sensor_logger(s, RAW, "android"), f / "a"),
    "Sensor Logger, JSON": text_file("a.json", sensor_logger_json),
    "phyphox, zip": lambda s, f: pack(phyphox(s), f / "a.zip"),
    "phyphox, folder, semicolon, decimal comma": lambda s, f: pack(phyphox(s, ";", True), f / "a"),
    "phyphox, zip, tab, decimal comma": lambda s, f: pack(phyphox(s, "\t", True), f / "a.zip"),
    "g and deg/s, told": text_file("a.csv", lambda s: table(boards(s), NAMED, "timestamp", 1e3)),
    "nanoseconds": text_file("a.csv", lambda s: table(s, AB, "time", 1e9)),
    "units in the header": text_file("a.csv", lambda s: table(boards(s), IN_HEADER, "time_us", 1e6)),
    "gravity apart": text_file("a.csv", lambda s: table(s, APART, "t", 1)),
    "gravity apart, called acceleration": text_file("a.csv", lambda s: table(s, APART_ACC, "t", 1)),
    "CoreMotion": text_file("a.csv", lambda s: table(scaled(s, -1 / G, 1.0), CORE_MOTION, "time", 1)),
    "AndroSensor": text_file("a.csv", lambda s: table(s, ANDRO, SINCE, 1e3, delimiter=";")),
}
"""Ways in which all of a recording is written out."""
BARE: dict[str, Writer] = {
    "phyphox, one CSV": text_file("Raw Data.csv", lambda s: phyphox(s)["Accelerometer.csv"]),
    "x, y, z in a file named so": text_file(
        "Accelerometer.csv", lambda s: table(s, {"total": "{}"}, "ts", 1e3)
    ),
    "Sensor Logger, one CSV": text_file(
        "TotalAcceleration.csv", lambda s: one_csv(s, "TotalAcceleration.csv")
    ),
    "Sensor Logger without a gyroscope": lambda s, f: pack(
        sensor_logger(s, {"TotalAcceleration": "total"}, "android"), f / "a.zip"
    ),
    "plain": text_file("a.csv", lambda s: table(s, {"total": "a{}"}, "t", 1)),
}
"""Ways without a gyroscope."""
