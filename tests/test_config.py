"""Settings: one file that says everything, precedence, and errors that name key, line and fix."""

from __future__ import annotations

import json
import re
from pathlib import Path

import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import fields
from paho.mqtt.client import MQTT_ERR_SUCCESS, Client

from conftest import ROOT
from hard.config import load_settings
from hard.settings import Settings
from hard.types import HardError

FILE = ROOT / "config/hard.yaml"


def leaves(section: type[msgspec.Struct], prefix: str = "") -> set[str]:
    out: set[str] = set()
    for field in fields(section):
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            out |= leaves(field.type, f"{prefix}{field.name}.")
        else:
            out.add(prefix + field.name)
    return out


def keys(tree: dict[str, object], prefix: str = "") -> set[str]:
    out: set[str] = set()
    for name, value in tree.items():
        out |= keys(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name}
    return out


def test_the_file_holds_every_key_with_its_default() -> None:
    assert load_settings(FILE) == Settings()
    assert keys(yaml.safe_load(FILE.read_text("utf-8"))) == leaves(Settings)


def test_every_key_of_the_file_has_a_comment() -> None:
    bare = [
        line
        for line in FILE.read_text("utf-8").splitlines()
        if line.strip() and not line.startswith("#") and not line.rstrip().endswith(":") and "#" not in line
    ]
    assert bare == []


def test_precedence_is_option_environment_file_default(tmp_path: Path) -> None:
    file = tmp_path / "hard.yaml"
    file.write_text("engine: {tick_ms: 30, inbox_mb: 30, max_age_s: 30}\n")
    environ = {"HARD__ENGINE__INBOX_MB": "40", "HARD__ENGINE__MAX_AGE_S": "40", "OTHER": "x"}
    got = load_settings(file, environ, {("engine", "max_age_s"): ("--max-age", 50)}).engine
    assert (got.tick_ms, got.inbox_mb, got.max_age_s) == (30, 40, 50)
    assert got.inbox_messages == Settings().engine.inbox_messages


def test_a_section_without_keys_is_its_default(tmp_path: Path) -> None:
    file = tmp_path / "hard.yaml"
    file.write_text("broker:\n#  url: mqtt://x\n")
    assert load_settings(file) == Settings()


def test_a_number_needs_no_point_before_its_exponent(tmp_path: Path) -> None:
    file = tmp_path / "hard.yaml"
    file.write_text("imu: {max_gap_s: 1e-1, max_devices: 1e3}\nsources: {serial: {device: 1e3}}\n")
    got = load_settings(file, {"HARD__HEALTH": "{every_s: 4e+1}", "HARD__HEALTH__PORT": "1E4"})
    assert (got.imu.max_gap_s, got.imu.max_devices, got.sources.serial.device) == (0.1, 1000, "1e3")
    assert (got.health.every_s, got.health.port) == (40, 10_000)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("brokr:\n  url: x\n", r":1: brokr: unknown key; did you mean 'broker'\?"),
        ("a: 1\n", r":1: a: unknown key; there is: log_level, "),
        ("engine:\n  tik_ms: 3\n", r":2: engine\.tik_ms: unknown key; did you mean 'tick_ms'\?"),
        ("engine:\n  tick_ms: 0\n", r":2: engine\.tick_ms: expected float >= 1\.0 \(it is 0\)"),
        ("imu:\n\n  model: 3\n", r":3: imu\.model: expected str, got int"),
        (
            "sources: {serial: {device: 7}}\n",
            r":1: sources\.serial\.device: expected str .*\(it is 7\); put it in quotes$",
        ),
        ("log_level: loud\n", r":1: log_level: expected one of debug, info, warning, error"),
        (
            "sources:\n  mqtt:\n    topics:\n    - filtr: x\n",
            r":4: .*filtr: unknown key; did you mean 'filter'\?",
        ),
        (
            "output:\n  prefix: a/#\n",
            r":2: output\.prefix: expected a topic such as hard or home/hard: no \+ or #, and no empty level",
        ),
        ("homeassistant: {birth_topic: ha/+}\n", r":1: homeassistant\.birth_topic: expected a topic such as"),
        ("sources: {serial: {device: a/b}}\n", r":1: sources\.serial\.device: expected a name of 1 to 64"),
        ("sources: {enabled: mqtt}\n", r":1: sources\.enabled: expected a list such as \[mqtt\] or"),
        ("imu:\n  max_gap_s: 0.2\n  max_gap_s: 0.3\n", r":3: imu\.max_gap_s is given twice"),
        ("a: [\n", r":2: not YAML"),
        ("- 1\n", r":1: expected keys"),
        ("log_level: info\n\0\0\0\0", r": not YAML: ReaderError; is the file damaged"),
        ("a: " + "[" * 3000, r": not YAML: RecursionError; is the file damaged"),
        ("broker: 2020-13-45\n", r": a value that cannot be read; put it in quotes"),
        ("log_level: " + "1" * 5000 + "\n", r": a value that cannot be read; put it in quotes"),
        ("log_level: &a [*a]\n", r": a value that cannot be read; put it in quotes"),
        (
            "smoothing:\n  hysteresis: 60\n",
            r":1: smoothing: hysteresis 60 is never reached: .* at most 50 to 1",
        ),
        ("smoothing: {min_confidence: 0.6}\n", r":1: smoothing: min_confidence 0\.6 makes every change pass"),
        (
            "smoothing: {min_hold_s: 12}\n",
            r":1: smoothing: restart_s 10 must exceed still_time_constant_s and min_hold_s \(12\)",
        ),
        ("imu: {evict_after_s: 50}\n", r": imu\.evict_after_s 50 must be longer than output\.offline_s 60"),
        (
            "sources:\n  mqtt:\n    topics:\n    - filter: x\n      codec: nativ\n",
            r":5: sources\.mqtt\.topics\.0\.codec: no codec named 'nativ'; did you mean 'native'\?",
        ),
        (
            "sources:\n  enabled:\n  - mqtt\n  - bluetooth\n",
            r":4: sources\.enabled\.1: no source named 'bluetooth'; there is: mqtt, serial, webcam",
        ),
        (
            "sources:\n  mqtt:\n    topics:\n    - filter: x\n      codec: native\n      acc_unit: g\n",
            r":6: sources\.mqtt\.topics\.0\.acc_unit: codec 'native' does not read it \(json, csv",
        ),
        (
            "sources: {serial: {ports: [{port: x, frame: ios}]}}\n",
            r":1: sources\.serial\.ports\.0\.frame: codec 'csv-lines' does not read it \(sen",
        ),
        (
            "sources: {webcam: {device: front door}}\n",
            r":1: sources\.webcam\.device: 'front door': the embedded broker takes no blank in a "
            r"topic; write front-door, or set broker\.url",
        ),
        (
            "sources: {serial: {ports: [{port: x, device: a b}]}}\n",
            r":1: sources\.serial\.ports\.0\.device: 'a b'",
        ),
        ("sources: {mqtt: {topics: [{filter: a b/+}]}}\n", r":1: sources\.mqtt\.topics\.0\.filter: 'a b/\+'"),
        ("output: {prefix: my home}\n", r":1: output\.prefix: 'my home'"),
        ("imu: {max_gap_s: 5e0}\n", r":1: imu\.max_gap_s: expected float <= 2\.0 \(it is 5\)"),
        ("output: {stale_s: 90}\n", r":1: output: offline_s 60 must be longer than stale_s 90"),
    ],
)
def test_an_error_names_line_key_and_fix(tmp_path: Path, text: str, error: str) -> None:
    file = tmp_path / "hard.yaml"
    file.write_text(text)
    with pytest.raises(HardError, match="^" + re.escape(str(file)) + error):
        load_settings(file)


@pytest.mark.parametrize(
    ("environ", "error"),
    [
        ({"HARD__ENGINE__TICK_MS": "abc"}, "^HARD__ENGINE__TICK_MS: engine.tick_ms: expected float"),
        ({"HARD__ENGIN__TICK_MS": "3"}, "^HARD__ENGIN__TICK_MS: engin: unknown key; did you mean 'engine'?"),
        ({"HARD__SOURCES__ENABLED": "[mqt]"}, "^HARD__SOURCES__ENABLED: .*: no source named 'mqt'; did you"),
        ({"HARD__SOURCES__ENABLED": "mqtt"}, r"^HARD__SOURCES__ENABLED: .* expected a list such as \[mqtt\]"),
        ({"HARD__SOURCES__SERIAL__COLUMNS": "ax,ay"}, r": expected a list such as \[ax, ay\] \(it is"),
        ({"HARD__SOURCES__SERIAL__PORTS": "x"}, r": expected a list such as \[{port: /dev/ttyUSB0, "),
        ({"HARD__HOMEASSISTANT__EXCLUDE": "3"}, "exclude: expected a list in brackets"),
        ({"HARD__OUTPUT__PREFIX": "7"}, r"""expected str, got int \(it is 7\); put it in quotes: '"7"'$"""),
        ({"HARD__ENGINE": "3"}, "^HARD__ENGINE: engine: expected object"),
    ],
)
def test_an_error_names_the_environment_variable(environ: dict[str, str], error: str) -> None:
    with pytest.raises(HardError, match=error.replace("?", r"\?")):
        load_settings(None, environ)


LEVELS = st.sampled_from(["+", "#", "a b", "a+", "#a", "", "é", "$x", "$share", "a\n", "\0"])


def refusal(filter_: str) -> str | None:
    """What is said of a topic filter; None where it is taken."""
    try:
        topics = json.dumps([{"filter": filter_}])
        load_settings(None, {"HARD__SOURCES__MQTT__TOPICS": topics, "HARD__BROKER__URL": "mqtt://x"})
    except HardError as e:
        return str(e)
    return None


@given(st.lists(LEVELS, max_size=4).map("/".join))
def test_a_topic_filter_is_taken_where_mqtt_takes_it(text: str) -> None:
    """One that is none ends paho's thread; `#` alone would read our own labels."""
    code = Client._filter_wildcard_len_check(text.encode())
    legal = (
        code == MQTT_ERR_SUCCESS
        and text != "#"
        and not text.startswith("$share/")
        and "\n" not in text
        and "\0" not in text
    )
    said = refusal(text)
    assert (said is None) == legal
    assert said is None or "topics.0.filter: expected a topic filter such as hard/+/imu or phones/#" in said


@pytest.mark.parametrize("text", ["\ud800", "x" * 1001])
def test_a_topic_that_cannot_be_sent_is_refused(text: str) -> None:
    assert refusal(text)


def test_topics_may_hold_spaces_with_a_broker_that_takes_them() -> None:
    environ = {"HARD__OUTPUT__PREFIX": "my home", "HARD__HOMEASSISTANT__BIRTH_TOPIC": "ha/my status"}
    with pytest.raises(HardError, match="the embedded broker takes no blank in a topic"):
        load_settings(None, environ)
    environ["HARD__BROKER__URL"] = "mqtt://x"
    got = load_settings(None, environ)
    assert (got.output.prefix, got.homeassistant.birth_topic) == ("my home", "ha/my status")


def test_a_missing_file_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "hard.yaml").write_text("")
    with pytest.raises(HardError, match=r"hrd\.yaml: No such file.*did you mean .*/hard\.yaml"):
        load_settings(tmp_path / "hrd.yaml")
