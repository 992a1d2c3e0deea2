"""Each app's documented payload, word for word, and what must come of it."""

from __future__ import annotations

import json

import numpy as np
import pytest

from hard.codecs import Codec, CodecOptions, PayloadError
from hard.codecs.auto import recognise
from hard.registry import CODECS, make_codec
from hard.stats import Counters, Drop
from hard.types import G, Message, Readings, Sensor


def codec(name: str, **options: object) -> Codec:
    return make_codec(name, CodecOptions(**options), Counters())  # type: ignore[arg-type]


def readings(codec: Codec, topic: str, payload: bytes) -> dict[Sensor, Readings]:
    out = codec.decode(Message(topic, payload, 5.0))
    assert all(isinstance(r, Readings) and r.arrival_s == 5.0 for r in out)
    return {r.sensor: r for r in out}


SENSOR_LOGGER = (  # awesome-sensor-logger, PUSHING.md
    b'{"messageId":0,"sessionId":"identifier","deviceId":"identifier",'
    b'"payload":[{"name":"accelerometer","time":1698501144401773000,'
    b'"values":{"z":-0.1038,"y":-0.00095,"x":0.0611},"accuracy":3},'
    b'{"name":"location","time":1698501145514000000,"values":{"latitude":0,"longitude":0}}]}'
)
ANDROID = (  # SensorSpot and SensaGram, README.md
    b'{"type":"android.sensor.accelerometer","timestamp":3925657519043709,'
    b'"values":[0.31892395,-0.97802734,10.049896]}'
)
HYPERIMU = b'{"op":"hyperimu","Timestamp":1518819953744,"Accelerometer":[0.09279,0.148,9.81]}'


def test_sensor_logger_documented_payload() -> None:
    got = readings(codec("sensor-logger"), "sensor-logger", SENSOR_LOGGER)
    assert set(got) == {Sensor.LINEAR}  # `accelerometer` is without gravity there
    r = got[Sensor.LINEAR]
    assert r.device == "identifier"
    np.testing.assert_allclose(r.t, [1698501144.401773], rtol=0, atol=1e-6)
    np.testing.assert_allclose(r.xyz, [[0.0611, -0.00095, -0.1038]])  # it has an accuracy: Android


def logger(name: str, x: float, y: float, z: float, **more: object) -> dict[str, object]:
    return {"name": name, "time": 1_700_000_000_000_000_000, "values": {"z": z, "y": y, "x": x}, **more}


@pytest.mark.parametrize(("frame", "sign"), [("auto", -1.0), ("ios", -1.0), ("android", 1.0)])
def test_sensor_logger_on_ios_points_the_other_way(frame: str, sign: float) -> None:
    batch = [logger("accelerometer", 1, 2, 3), logger("gravity", 0, 0, -9.8), logger("gyroscope", 4, 5, 6)]
    payload = json.dumps({"deviceId": "iPhone/1", "payload": batch}).encode()
    got = readings(codec("sensor-logger", frame=frame), "sensor-logger", payload)
    assert got[Sensor.LINEAR].xyz.tolist() == [[sign * 1, sign * 2, sign * 3]]
    assert got[Sensor.GRAVITY].xyz.tolist() == [[0, 0, sign * -9.8]]
    assert got[Sensor.GYRO].xyz.tolist() == [[4, 5, 6]]  # the same on both
    assert got[Sensor.GYRO].device == "iPhone-1"


def test_sensor_logger_prefers_the_total_acceleration() -> None:
    batch = [
        logger("accelerometer", 1, 2, 3),
        logger("gravity", 0, 0, 9.8),
        logger("totalacceleration", 1, 2, 12.8),
    ]
    got = readings(codec("sensor-logger"), "t", json.dumps({"payload": batch}).encode())
    assert set(got) == {Sensor.ACC}
    assert got[Sensor.ACC].xyz.tolist() == [[1, 2, 12.8]]


@pytest.mark.parametrize(("more", "expected"), [({"accuracy": 3}, [1, 2, 3]), ({}, [-G, -2 * G, -3 * G])])
def test_sensor_logger_uncalibrated_is_g_on_ios(more: dict[str, object], expected: list[float]) -> None:
    batch = [logger("accelerometeruncalibrated", 1, 2, 3, **more)]
    got = readings(codec("sensor-logger"), "t", json.dumps({"payload": batch}).encode())
    np.testing.assert_allclose(got[Sensor.ACC].xyz, [expected])


def test_sensor_logger_remembers_an_android() -> None:
    c = codec("sensor-logger")
    first = {"deviceId": "a", "payload": [logger("gyroscope", 0, 0, 0, accuracy=3)]}
    later = {"deviceId": "a", "payload": [logger("gravity", 0, 0, 9.8)]}
    readings(c, "t", json.dumps(first).encode())
    assert readings(c, "t", json.dumps(later).encode())[Sensor.GRAVITY].xyz.tolist() == [[0, 0, 9.8]]


def test_sensor_logger_test_message_is_no_error() -> None:
    assert codec("sensor-logger").decode(Message("sensor-logger", b'{"hello": "from the app"}', 0.0)) == []


def test_sensor_logger_counts_readings_without_their_axes() -> None:
    counters = Counters()
    c = make_codec("sensor-logger", CodecOptions(), counters)
    lacks = {"name": "TotalAcceleration", "time": 1_700_000_000_000_000_000, "values": {"x": 1.0}}
    other = {"name": "light", "time": 1_700_000_000_000_000_000, "values": {"lux": 1.0}}
    payload = json.dumps({"payload": [lacks, other, logger("totalacceleration", 0, 0, 9.8)]}).encode()
    assert len(c.decode(Message("t", payload, 0.0))) == 1
    assert counters.drops() == {Drop.NOT_FINITE: 1}


@pytest.mark.parametrize(
    ("name", "topic", "payload"),
    [
        ("sensor-logger", "t", SENSOR_LOGGER.replace(b"1698501144401773000", b"1" * 400)),
        ("android-sensor", "android/sensor", ANDROID.replace(b"3925657519043709", b"1" * 400)),
        ("json", "t", b'[{"t": %s, "acc": [0, 0, 9.8]}]' % (b"1" * 400)),
    ],
)
def test_an_integer_that_no_number_holds_is_a_bad_payload(name: str, topic: str, payload: bytes) -> None:
    with pytest.raises(PayloadError, match="int too large"):
        codec(name).decode(Message(topic, payload, 0.0))


def test_phyphox_without_a_buffer_says_which_one_is_missing() -> None:
    acc = b'"accX":[0,0,0],"accY":[0,0,0],"accZ":[9.8,9.8,9.8]'
    with pytest.raises(PayloadError, match=r"total acceleration without accT: send these buffers, too"):
        codec("phyphox").decode(Message("phyphox/a", b"{%s}" % acc, 0.0))
    counters = Counters()
    c = make_codec("phyphox", CodecOptions(), counters)
    payload = b'{%s,"accT":[0,0.02,0.04],"gyrX":[1,2,3]}' % acc
    assert [r.sensor for r in c.decode(Message("phyphox/a", payload, 0.0)) if isinstance(r, Readings)] == [
        Sensor.ACC
    ]
    assert counters.drops() == {Drop.UNPAIRED: 3}


def test_json_forgets_the_units_of_a_device_that_pauses_and_holds_no_more_than_it_may() -> None:
    counters = Counters()
    c = make_codec("json", CodecOptions(), counters)

    def send(t: float, step: float, g: float, arrival_s: float) -> list[float]:
        rows = [{"t": t + i * step, "acc": [0.0, 0.0, g]} for i in range(30)]
        got = c.decode(Message("json/a", json.dumps(rows).encode(), arrival_s))
        return [float(v) for r in got if isinstance(r, Readings) for v in (r.t[1] - r.t[0], r.xyz[0, 2])]

    assert send(0.0, 0.02, 9.8, 0.0) == pytest.approx([0.02, 9.8])
    assert send(0.6, 0.02, 9.8, 0.6) == pytest.approx([0.02, 9.8])
    assert send(9000.0, 20.0, 1.0, 9.0) == pytest.approx([0.02, G])  # another app: ms and g
    for k in range(33):
        assert send(5.0, 0.0, 9.8, 20.0 + k) == []
    with pytest.raises(PayloadError, match="the times are all the same"):
        send(5.0, 0.0, 9.8, 53.0)
    assert counters.drops() == {Drop.NOT_LEARNED: 34 * 30}


@pytest.mark.parametrize(
    ("topic", "payload", "sensor"),
    [
        ("android/sensor", ANDROID, Sensor.ACC),
        ("android/sensor/accelerometer", ANDROID, Sensor.ACC),
        ("android/sensor", ANDROID.replace(b"accelerometer", b"gyroscope"), Sensor.GYRO),
        (
            "android/sensor/gyroscope",
            b'{"accuracy":2,"timestamp":3925657519043709,"values":[0,0,1]}',
            Sensor.GYRO,
        ),
    ],
)
def test_android_event_documented_payload(topic: str, payload: bytes, sensor: Sensor) -> None:
    got = readings(codec("android-sensor"), topic, payload)
    assert set(got) == {sensor}
    assert got[sensor].device == "android-sensor"
    assert got[sensor].t.tolist() == pytest.approx([3925657.519043709], abs=1e-6)


def test_android_events_of_other_sensors_are_left_out() -> None:
    assert (
        codec("android-sensor").decode(
            Message("android/sensor", ANDROID.replace(b"accelerometer", b"light"), 0)
        )
        == ()
    )


def test_hyperimu_documented_payload() -> None:
    got = readings(codec("hyperimu"), "hyperimu/bob", HYPERIMU)
    assert set(got) == {Sensor.ACC}
    assert got[Sensor.ACC].device == "bob"
    assert got[Sensor.ACC].t.tolist() == [1518819953.744]


def test_hyperimu_csv_in_the_order_of_the_users_list() -> None:
    row = b"1518819953744, 7, 0.1, 0.2, 0.3, 1, 2, 3"
    c = codec("hyperimu", columns=("t", "-", "gx", "gy", "gz", "ax", "ay", "az"))
    got = readings(c, "hyperimu/bob", row)
    assert got[Sensor.ACC].xyz.tolist() == [[1, 2, 3]]
    assert got[Sensor.GYRO].xyz.tolist() == [[0.1, 0.2, 0.3]]
    with pytest.raises(PayloadError, match="3 values, but `columns` names 8"):
        c.decode(Message("hyperimu/bob", b"1518819953744,7,0.1", 0.0))


def phyphox(t0: float, n: int = 3, **more: object) -> bytes:
    t = [t0 + 0.02 * i for i in range(n)]
    buffers = {f"{s}{axis}": [float(i) for i in range(n)] for s in ("acc", "gyr") for axis in "XYZ"}
    return json.dumps(buffers | {"accT": t, "gyrT": t} | more).encode()


def test_phyphox_json_with_its_clock_map() -> None:
    clock = {
        "now": 1719000100.0,
        "events": [{"event": "START", "experimentTime": 0.0, "systemTime": 1719000000.0}],
    }
    got = readings(codec("phyphox"), "phyphox/carol", phyphox(1.0, time=clock))
    assert set(got) == {Sensor.ACC, Sensor.GYRO}
    assert got[Sensor.ACC].device == "carol"
    np.testing.assert_allclose(got[Sensor.ACC].t, 1719000001.0 + np.array([0, 0.02, 0.04]), rtol=0, atol=1e-6)
    assert got[Sensor.GYRO].xyz.tolist() == [[0, 0, 0], [1, 1, 1], [2, 2, 2]]


def test_phyphox_clock_map_before_the_devices_name() -> None:
    clock = {"now": 1.0, "events": [{"event": "START", "experimentTime": 0.0, "systemTime": 1719000000.0}]}
    buffers = json.loads(phyphox(1.0))
    got = readings(
        codec("phyphox"), "phyphox/x", json.dumps({"time": clock, "dev": "carol"} | buffers).encode()
    )
    assert got[Sensor.ACC].device == "carol"
    np.testing.assert_allclose(got[Sensor.ACC].t[0], 1719000001.0, rtol=0, atol=1e-6)


def test_phyphox_times_that_are_null_are_passed_on_to_be_counted() -> None:
    c = codec("phyphox")
    assert np.isnan(readings(c, "phyphox/x", phyphox(0.0, accT=[None] * 3))[Sensor.ACC].t).all()
    got = readings(c, "phyphox/x", phyphox(1.0, accT=[1.0, None, 1.04]))[Sensor.ACC]
    np.testing.assert_array_equal(got.t, [1.0, np.nan, 1.04])


def test_phyphox_clock_map_with_a_pause() -> None:
    events = [
        {"event": "START", "experimentTime": 0.0, "systemTime": 1000.0},
        {"event": "PAUSE", "experimentTime": 5.0, "systemTime": 1005.0},
        {"event": "START", "experimentTime": 5.0, "systemTime": 1100.0},
    ]
    got = readings(codec("phyphox"), "phyphox/carol", phyphox(4.98, time={"now": 1, "events": events}))
    np.testing.assert_allclose(got[Sensor.ACC].t, [1004.98, 1100.0, 1100.02], rtol=0, atol=1e-6)


def test_phyphox_buffers_that_are_sent_again_are_left_out() -> None:
    c = codec("phyphox")
    assert len(readings(c, "phyphox/x", phyphox(0.0, 5))[Sensor.ACC].t) == 5
    again = readings(c, "phyphox/x", phyphox(0.0, 8))  # keep="true": the whole buffer, longer
    np.testing.assert_allclose(again[Sensor.ACC].t, [0.10, 0.12, 0.14], atol=1e-9)
    assert readings(c, "phyphox/x", phyphox(0.0, 8)) == {}


def test_phyphox_empty_send_and_null_values() -> None:
    c = codec("phyphox")
    assert c.decode(Message("phyphox/x", b"{}", 0.0)) == []
    got = readings(c, "phyphox/x", b'{"ax":[null],"ay":[1],"az":[2],"t":[0.5]}')
    assert np.isnan(got[Sensor.ACC].xyz[0, 0])


def test_phyphox_csv_is_put_together_from_its_topics() -> None:
    c = codec("phyphox")
    sent: dict[Sensor, Readings] = {}
    for name in ("accX", "accY", "accZ", "gyrX", "gyrY", "gyrZ", "t"):
        values = b"0.00,0.02" if name == "t" else b"1.5,2.5"
        sent |= readings(c, f"phyphox/dora/{name}", values)
    assert set(sent) == {Sensor.ACC, Sensor.GYRO}
    assert sent[Sensor.ACC].device == "phyphox-dora"
    assert sent[Sensor.GYRO].xyz.tolist() == [[1.5] * 3, [2.5] * 3]


def test_phyphox_csv_interval_with_a_lost_message_is_dropped_and_counted() -> None:
    counters = Counters()
    c = make_codec("phyphox", CodecOptions(), counters)
    for name, values in (
        ("ax", b"1,2"),
        ("ay", b"1,2"),
        ("t", b"0,0.02"),
        ("ax", b"3,4"),
        ("ay", b"3,4"),
        ("az", b"3,4"),
    ):
        assert readings(c, f"phyphox/{name}", values) == {}
    got = readings(c, "phyphox/t", b"0.04,0.06")
    assert got[Sensor.ACC].xyz.tolist() == [[3, 3, 3], [4, 4, 4]]
    assert counters.drops() == {Drop.UNPAIRED: 2}


def test_generic_json_under_several_names_and_time_units() -> None:
    flat = {"ax": 1, "ay": 2, "az": 3, "gx": 4, "gy": 5, "gz": 6}
    mixed = {"acc_x": 1, "acc_y": 2, "acc_z": 3, "gyro": {"x": 4, "y": 5, "z": 6}}
    for samples, unit in (
        ([flat | {"t": 1.0 + 0.02 * i} for i in range(2)], 1.0),
        ([{"timestamp": 1000 + 20 * i, "acc": [1, 2, 3], "gyro": [4, 5, 6]} for i in range(2)], 1e3),
        ([mixed | {"time": 10**9 + 20_000_000 * i} for i in range(2)], 1e9),
    ):
        got = readings(
            codec("json", acc_unit="m/s2", gyro_unit="rad/s"), "lab/eve", json.dumps(samples).encode()
        )
        assert got[Sensor.ACC].device == "eve"
        assert got[Sensor.ACC].xyz.tolist() == [[1, 2, 3]] * 2
        assert got[Sensor.GYRO].xyz.tolist() == [[4, 5, 6]] * 2
        np.testing.assert_allclose(np.diff(got[Sensor.ACC].t), [0.02])
        first = next(float(v) for k, v in samples[0].items() if k in ("t", "time", "timestamp"))  # type: ignore[arg-type]
        assert got[Sensor.ACC].t[0] == pytest.approx(first / unit)


def test_generic_json_one_sample_a_message_in_g() -> None:
    c = codec("json", acc_unit="g", gyro_unit="deg/s")
    sample = {"id": "board 7", "ts": 0, "ax": 0, "ay": 0, "az": 1, "gx": 180, "gy": 0, "gz": 0}
    assert c.decode(Message("x", json.dumps(sample).encode(), 0.0)) == ()  # the time's unit is not known yet
    got = c.decode(Message("x", json.dumps(sample | {"ts": 20}).encode(), 0.0))
    acc = [r for r in got if isinstance(r, Readings) and r.sensor is Sensor.ACC]
    assert [r.t.tolist() for r in acc] == [[0.0], [0.02]]  # the held one came, too
    np.testing.assert_allclose(acc[1].xyz, [[0, 0, G]])
    assert acc[0].device == "board-7"


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (b'{"ax": 1, "ay": 2, "az": 3}', "no time among ax, ay, az"),
        (b'{"t": 1, "light": 3}', "no acceleration or angular velocity among t, light"),
        (b'{"t": 1, "acc": [1, 2]}', "2 values; expected x, y, z"),
        (b'{"t": "now", "acc": [1, 2, 3]}', "time is not made of numbers"),
        (b"[1, 2]", "expected a sample"),
        (b"[", "JSON"),
    ],
)
def test_generic_json_says_what_is_wrong(payload: bytes, why: str) -> None:
    with pytest.raises(PayloadError, match=why):
        codec("json").decode(Message("x", payload, 0.0))


@pytest.mark.parametrize(
    ("topic", "payload", "name"),
    [
        ("any", SENSOR_LOGGER, "sensor-logger"),
        ("any", ANDROID, "android-sensor"),
        ("any", HYPERIMU, "hyperimu"),
        ("any", phyphox(0.0), "phyphox"),
        ("lab/accX", b"0.1,0.2,0.3", "phyphox"),
        ("any", b"1518819953744,0.1,0.2,0.3,1,2,3", "hyperimu"),
        ("any", b'{"t": 0, "samples": [[1, 2, 3, 4, 5, 6]]}', "native"),
        ("any", b"HARD\x01", "native"),
        ("any", b'{"t": 0, "ax": 1, "ay": 2, "az": 3}', "json"),
        ("any", b'[{"time": 0, "acc": [1, 2, 3]}]', "json"),
        ("any", b"hello", None),
        ("any", b'{"temperature": 21.5}', None),
        ("any", b"\xff\xfe", None),
    ],
)
def test_a_dialect_is_recognised(topic: str, payload: bytes, name: str | None) -> None:
    assert recognise(topic, payload) == name


def test_auto_hands_over_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    c = codec("auto")
    assert Sensor.ACC in readings(c, "my/topic", ANDROID)
    assert Sensor.LINEAR in readings(c, "my/topic", SENSOR_LOGGER)  # another app on the same topic
    assert [r.getMessage() for r in caplog.records] == [
        "my/topic speaks android-sensor",
        "my/topic speaks sensor-logger",
    ]
    with pytest.raises(PayloadError, match="unlike every known dialect"):
        c.decode(Message("other", b"hello", 0.0))


def test_every_codec_is_documented() -> None:
    from conftest import ROOT

    text = (ROOT / "hard/codecs/README.md").read_text("utf-8")
    assert {name for name in CODECS if f"`{name}`" not in text} == set()


@pytest.mark.parametrize(("rest", "unit", "gyro"), [(9.81, 1.0, 1.0), (1.0, G, np.pi / 180)])
def test_generic_json_units_are_told_by_gravity(rest: float, unit: float, gyro: float) -> None:
    c = codec("json")
    out: list[Readings] = []
    for k in range(30):
        sample = {"t": 0.02 * k, "acc": [0.1 * rest, 0.0, rest], "gyro": [2.0, 0, 0]}
        out += [
            r for r in c.decode(Message("x", json.dumps(sample).encode(), 0.0)) if isinstance(r, Readings)
        ]
    acc = [r for r in out if r.sensor is Sensor.ACC]
    assert len(acc) == 30  # what was held until the units were known came, too
    np.testing.assert_allclose(acc[0].xyz, [[0.1 * rest * unit, 0, rest * unit]])
    np.testing.assert_allclose(next(r for r in out if r.sensor is Sensor.GYRO).xyz, [[2.0 * gyro, 0, 0]])


def test_generic_json_of_no_known_unit_says_so() -> None:
    c = codec("json")
    samples = [{"t": 0.02 * k, "acc": [0.0, 0.0, 100.0]} for k in range(30)]
    with pytest.raises(PayloadError, match="median norm of 100: set acc_unit"):
        c.decode(Message("x", json.dumps(samples).encode(), 0.0))
