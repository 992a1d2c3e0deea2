"""Home Assistant's discovery: the payload as a real broker delivers it, against the documented rules."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from jinja2 import Environment

from conftest import ROOT, Hard, Mosquitto, wait_for
from hard.broker import Broker, BrokerUrl
from hard.card import find_model, read_card
from hard.settings import HomeAssistantSettings, OutputSettings
from hard.sinks.discovery import config_payload, config_topic, object_id
from hard.sinks.homeassistant import MAX_DELAY_S, HomeAssistantSink
from hard.stats import Counters
from hard.types import Label, Prediction
from test_daemon import Subscriber
from test_live import send_synthetic

LABELS = read_card(find_model("lstm-waist")).labels
BIRTH = "homeassistant/status"
CONFIGS = "homeassistant/device/+/config"
Json = dict[str, object]

ROOT_KEYS = {
    "dev",
    "o",
    "cmps",
    "availability",
    "availability_mode",
    "state_topic",
    "command_topic",
    "qos",
    "encoding",
}
ENTITY_KEYS = {
    "p", "unique_id", "default_entity_id", "name", "state_topic", "value_template", "expire_after", "qos",
    "device_class", "unit_of_measurement", "state_class", "entity_category", "icon", "options",
    "suggested_display_precision",
}  # fmt: skip
TRIGGER_KEYS = {"p", "automation_type", "type", "subtype", "topic", "payload", "value_template", "qos"}
DEVICE_UNITS = {"frequency": {"Hz", "kHz", "MHz", "GHz"}, "duration": {"d", "h", "min", "s", "ms"}}


def check_rules(topic: str, payload: bytes) -> Json:
    """Asserts home-assistant.io's rules of device-based discovery, the sensor's, and the trigger's."""
    prefix, component, node, config = topic.split("/")
    assert (prefix, component, config) == ("homeassistant", "device", "config")
    assert re.fullmatch(r"[a-zA-Z0-9_-]+", node)
    root = json.loads(payload)
    assert {"dev", "o", "cmps"} <= set(root) <= ROOT_KEYS
    assert root["o"]["name"]  # origin is mandatory in device discovery
    assert root["dev"]["ids"] or root["dev"].get("cns")
    assert set(root["dev"]) <= {"ids", "cns", "name", "mf", "mdl", "sw", "hw", "sn", "sa", "cu"}
    for at in root["availability"]:
        assert set(at) <= {"topic", "payload_available", "payload_not_available", "value_template"}
    ids = [c["unique_id"] for c in root["cmps"].values() if "unique_id" in c]
    entity_ids = [c["default_entity_id"] for c in root["cmps"].values() if "default_entity_id" in c]
    assert len(ids) == len(set(ids))
    assert len(entity_ids) == len(set(entity_ids))
    triggers = [(c["type"], c["subtype"]) for c in root["cmps"].values() if c["p"] == "device_automation"]
    assert len(triggers) == len(set(triggers))
    for key, c in root["cmps"].items():
        assert re.fullmatch(r"[a-zA-Z0-9_-]+", key)
        if c["p"] == "device_automation":
            assert set(c) <= TRIGGER_KEYS
            assert c["automation_type"] == "trigger"
            assert all(c[k] for k in ("topic", "type", "subtype"))
        else:
            check_entity(c)
    return root


def check_entity(c: Json) -> None:
    assert set(c) <= ENTITY_KEYS
    assert re.fullmatch(r"[a-zA-Z0-9_-]+", str(c["unique_id"]))
    domain, _, entity = str(c["default_entity_id"]).partition(".")
    assert domain == c["p"]
    assert re.fullmatch(r"(?!_)(?!.*__)[a-z0-9_]+(?<!_)", entity)
    assert "#" not in str(c["state_topic"])
    assert "+" not in str(c["state_topic"])
    if c.get("device_class") == "enum":
        assert c["options"]
    assert ("options" in c) == (c.get("device_class") == "enum")
    if "options" in c:
        assert not {"state_class", "unit_of_measurement"} & set(c)
    if c.get("device_class") in DEVICE_UNITS:
        assert c["unit_of_measurement"] in DEVICE_UNITS[str(c["device_class"])]
    assert c.get("state_class") in (None, "measurement", "total", "total_increasing")
    assert c.get("entity_category") in (None, "diagnostic", "config")


def label(device: str) -> Label:
    shares = dict.fromkeys(LABELS, 0.0) | {"walking": 1.0}
    model = ("lstm-waist", "0123456789ab")
    prediction = Prediction(device, 2.56, "walking", 1.0, shares, 50.0, 0, 0.0, 0.0, *model)
    return Label(prediction, "walking", 1.0, None, 1.0, 1.0, 1, 1.0)


class Clock:
    """What was put off, for the test to run when it likes."""

    def __init__(self) -> None:
        self.waiting: list[tuple[float, Callable[[], None]]] = []

    def later(self, delay_s: float, do: Callable[[], None]) -> None:
        self.waiting.append((delay_s, do))

    def run(self) -> None:
        waiting, self.waiting = self.waiting, []
        for _, do in waiting:
            do()


class House:
    """A sink on a real broker, and Home Assistant's view of it."""

    def __init__(self, server: Mosquitto) -> None:
        self._server = server
        self.clock = Clock()
        self.broker = Broker(BrokerUrl("127.0.0.1", server.port), Counters(), presence="hard/status")
        self.seen = Subscriber(server.port, CONFIGS)
        self.sink: HomeAssistantSink

    def start(self, prefix: str = "hard", **settings: object) -> HomeAssistantSink:
        self.sink = HomeAssistantSink(
            HomeAssistantSettings(enabled=True, **settings), OutputSettings(prefix), self.broker, LABELS,
            uniform=lambda low, high: low + 0.75 * (high - low), later=self.clock.later,
        )  # fmt: skip
        self.sink.start()
        self.broker.start()
        assert self.broker.wait_ready(10)
        return self.sink

    def configs(self, device: str, prefix: str = "hard") -> list[bytes]:
        topic = config_topic("homeassistant", prefix, device)
        return [payload for t, payload in self.seen.messages if t == topic]

    def wait(self, device: str, n: int) -> bytes:
        return wait_for(lambda: len(self.configs(device)) >= n and self.configs(device)[-1:], what=device)[0]

    def stop(self) -> None:
        self.broker.stop()
        self.seen.broker.stop()


@pytest.fixture
def house(server: Mosquitto) -> Iterator[House]:
    server.start()
    made = House(server)
    yield made
    made.stop()


@pytest.mark.mosquitto
@pytest.mark.parametrize("device", ["alice", "Alice Smith", "čeština", "a.b", "x" * 64, "'\"{{ x }}"])
def test_the_payload_keeps_the_documented_rules(house: House, device: str) -> None:
    house.start().emit([label(device)])
    topic, payload = wait_for(lambda: house.seen.messages, what="the announcement")[0]
    root = check_rules(topic, payload)
    assert root["dev"]["name"] == device
    components = root["cmps"]
    activity = components["activity"]
    assert activity["options"] == [*LABELS, "unknown"]
    assert activity["state_topic"] == f"hard/{device}/activity"
    assert activity["expire_after"] == 30
    assert "expire_after" not in components["total_walking"]
    assert {k for k, c in components.items() if c["p"] != "device_automation"} == {
        "activity", "confidence", "moving", "rate", *(f"total_{name}" for name in LABELS),
    }  # fmt: skip
    triggers = {(c["type"], c["subtype"]) for c in components.values() if c["p"] == "device_automation"}
    assert triggers == {
        (change, name) for change in ("enter", "exit") for name in LABELS
    }  # `unknown` has no events
    assert components["enter_walking"]["topic"] == f"hard/{device}/event"
    (availability,) = root["availability"]
    assert availability["topic"] == "hard/status"


def test_ids_are_clean_stable_and_unique() -> None:
    devices = ["alice", "Alice", "a b", "a.b", "a_b", "a-b", "ä", "ö", " ", "a/b"]
    ids = {(p, d): object_id(p, d) for p in ("hard", "home/hard") for d in devices}
    assert len(set(ids.values())) == len(ids)
    assert all(re.fullmatch(r"[a-zA-Z0-9_-]+", i) for i in ids.values())
    assert ids["hard", "alice"] == "hard_alice"
    assert ids["hard", "a b"] == "hard_a_b_" + ids["hard", "a b"][-8:]


@pytest.mark.mosquitto
def test_a_birth_is_answered_once_after_a_random_delay(house: House) -> None:
    sink = house.start()
    sink.emit([label("alice"), label("bob"), label("alice")])
    first = house.wait("alice", 1)
    for state in (b"offline", b"online", b"online"):
        house.seen.broker.publish(BIRTH, state, qos=1)
    wait_for(lambda: house.clock.waiting, what="the delayed announcement")
    assert [delay for delay, _ in house.clock.waiting] == [0.75 * MAX_DELAY_S]
    assert house.configs("alice") == [first]
    house.clock.run()
    assert house.wait("alice", 2) == first
    assert house.wait("bob", 2)
    house.seen.broker.publish(BIRTH, b"online", qos=1)
    wait_for(lambda: house.clock.waiting, what="the next one")


@pytest.mark.mosquitto
def test_a_broker_that_forgot_everything_gets_it_again(house: House, server: Mosquitto) -> None:
    house.start().emit([label("alice")])
    first = house.wait("alice", 1)
    server.kill()
    wait_for(lambda: not house.broker.connected, what="the loss")
    server.start()
    assert house.wait("alice", 2) == first


@pytest.mark.mosquitto
def test_a_forgotten_device_is_removed_where_the_settings_say_so_and_may_return(house: House) -> None:
    sink = house.start(remove_forgotten=True)
    sink.emit([label("alice"), label("bob")])
    house.wait("bob", 1)
    sink.forget(["alice", "nobody"])
    assert house.wait("alice", 2) == b""
    assert house.configs("nobody") == []
    house.clock.run()
    late = Subscriber(house.broker.url.port, CONFIGS)
    wait_for(lambda: late.messages, what="bob, retained")
    late.broker.stop()
    assert [t for t, _ in late.messages] == ["homeassistant/device/hard_bob/config"]
    sink.emit([label("alice")])
    assert house.wait("alice", 3) == house.configs("alice")[0]


@pytest.mark.mosquitto
def test_a_device_that_is_silent_while_models_change_can_still_be_removed(house: House) -> None:
    sink = house.start(remove_forgotten=True, max_devices=2)
    sink.emit([label("alice"), label("bob")])
    sink.relabel([*LABELS, "running"])
    sink.emit([label("bob"), label("bob")])
    house.wait("bob", 2)
    sink.forget(["alice", "bob"])
    assert house.wait("alice", 2) == b""
    assert house.wait("bob", 3) == b""
    old, new, _ = (set(json.loads(payload or b"{}").get("cmps", ())) for payload in house.configs("bob"))
    assert new - old == {"total_running", "enter_running", "exit_running"}


@pytest.mark.mosquitto
def test_activities_that_no_model_tells_any_more_are_taken_back_and_may_return(house: House) -> None:
    sink = house.start()
    others = [*LABELS[1:], "running"]
    payloads = []
    for n, labels in enumerate([LABELS, others, LABELS], 1):
        if n > 1:
            sink.relabel(labels)
        sink.emit([label("alice")])
        payloads.append(json.loads(house.wait("alice", n))["cmps"])
    plain = [
        json.loads(config_payload("hard", "alice", "lstm-waist", x, expire_after_s=30, qos=0))["cmps"]
        for x in (LABELS, others, LABELS)
    ]

    def removed(name: str) -> Json:
        trigger = {"p": "device_automation"}
        return {f"total_{name}": {"p": "sensor"}, f"enter_{name}": trigger, f"exit_{name}": trigger}

    assert payloads == [plain[0], plain[1] | removed(LABELS[0]), plain[2] | removed("running")]


def test_moving_is_not_told_by_what_may_be_nobody() -> None:
    """Before a camera `other` is whatever is none of its activities, an empty room included."""
    labels = read_card(find_model("lrcn-webcam")).labels
    payload = config_payload("hard", "cam", "lrcn-webcam", labels, expire_after_s=30, qos=0)
    template = Environment().from_string(json.loads(payload)["cmps"]["moving"]["value_template"])
    told = {name: template.render(value_json={"activity": name}) for name in [*labels, "sitting", "unknown"]}
    assert {name for name, state in told.items() if state == "None"} == {"other", "unknown"}
    assert {name for name, state in told.items() if state == "OFF"} == {"sitting"}
    assert {told[name] for name in labels if name != "other"} == {"ON"}


@pytest.mark.mosquitto
def test_a_forgotten_device_stays(house: House) -> None:
    sink = house.start()
    sink.emit([label("alice")])
    sink.forget(["alice"])
    sink.remove(["alice"])
    assert house.wait("alice", 2) == b""
    assert len(house.configs("alice")) == 2


@pytest.mark.mosquitto
def test_an_excluded_device_is_removed_and_the_number_is_bounded(house: House) -> None:
    house.seen.broker.publish("homeassistant/device/hard_carol/config", b"{}", retain=True)
    house.wait("carol", 1)
    sink = house.start(exclude=("carol",), max_devices=2, remove_forgotten=True)
    assert house.wait("carol", 2) == b""
    sink.emit([label(d) for d in ("carol", "a", "b", "c")])
    house.wait("b", 1)
    sink.forget(["a"])
    sink.emit([label("d")])
    house.wait("d", 1)
    assert house.configs("c") == []
    assert len(house.configs("carol")) == 2


@pytest.mark.mosquitto
def test_the_daemon_announces_and_takes_back_its_synthetic_phones(hard: Hard, server: Mosquitto) -> None:
    server.start()
    seen = Subscriber(server.port, CONFIGS, "hard/status")
    environ = {"HARD__HOMEASSISTANT__ENABLED": "true", "HARD__BROKER__URL": f"mqtt://127.0.0.1:{server.port}"}
    process = hard.start("run", "--simulate", "1", **environ)
    try:
        wait_for(lambda: seen.last("hard/status") == b"online", timeout_s=30, what="the daemon")
        send_synthetic(server.port, "alice")
        topic = "homeassistant/device/hard_{}/config"
        first = wait_for(lambda: seen.last(topic.format("alice")), what="alice")
        check_rules(topic.format("alice"), first)
        wait_for(lambda: seen.last(topic.format("synthetic-1")), what="the synthetic phone")
        seen.messages.clear()
        seen.broker.publish(BIRTH, b"online", qos=1)
        assert wait_for(lambda: seen.last(topic.format("alice")), what="alice again") == first
        process.terminate()
        _, err = process.communicate(timeout=20)
        assert process.returncode == 0, err
        wait_for(lambda: seen.last(topic.format("synthetic-1")) == b"", what="the removal")
        assert seen.last(topic.format("alice")) == first
    finally:
        seen.broker.stop()


@pytest.mark.skipif(
    "HARD_HOMEASSISTANT" not in os.environ, reason="HARD_HOMEASSISTANT names no Python with it"
)
@pytest.mark.mosquitto
@pytest.mark.parametrize("device", ["alice", "'\"{{ x }}"])
def test_home_assistants_own_schemas_and_templates_take_it(house: House, tmp_path: Path, device: str) -> None:
    house.start().emit([label(device)])
    _, payload = wait_for(lambda: house.seen.messages, what="the announcement")[0]
    base = f"hard/{device}"

    def values(activity: str, change: str) -> Json:
        messages = {
            f"{base}/activity": {"activity": activity, "confidence": 0.934, "rate_hz": 50.02},
            f"{base}/totals": {"v": 1, "device": device, "day": "2026-11-20", "seconds": {"walking": 12.0}},
            f"{base}/event": {"v": 1, "device": device, "type": change, "activity": activity},
        }
        given = {
            "config": payload.decode(), "messages": {t: json.dumps(m) for t, m in messages.items()},
        }  # fmt: skip
        done = subprocess.run(
            [os.environ["HARD_HOMEASSISTANT"], str(ROOT / "tests/homeassistant_schema.py")],
            input=json.dumps(given), capture_output=True, text=True, cwd=tmp_path, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)["values"]

    got = values("walking", "enter")
    assert (got["activity"], got["confidence"], got["moving"], got["rate"]) == (
        "walking",
        "93.4",
        "ON",
        "50.0",
    )
    assert (got["total_walking"], got["total_sitting"]) == ("12", "0")
    assert (got["online"], got["stopped"], got["offline"]) == ("online", "offline", "offline")
    assert [k for k, fires in got.items() if fires is True] == ["enter_walking"]
    got = values("sitting", "exit")
    assert (got["activity"], got["moving"]) == ("sitting", "OFF")
    assert [k for k, fires in got.items() if fires is True] == ["exit_sitting"]
    assert values("unknown", "enter")["moving"] == "None"  # Home Assistant's word for: not known
