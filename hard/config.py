"""YAML -> frozen, validated settings; every default lives here, every error names key, line and fix."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Final, Literal, TypeAlias, Union, get_args, get_origin

import msgspec
import yaml
from msgspec import Meta

from hard.codecs import CodecOptions
from hard.types import HardError

Tree: TypeAlias = Union[dict[str, "Tree"], list["Tree"], str, int, float, bool, None]  # noqa: UP007
Key: TypeAlias = tuple[str, ...]
ENV_PREFIX: Final = "HARD__"
SECRET: Final[frozenset[Key]] = frozenset(
    {("broker", "url"), ("broker", "password"), ("embedded", "password")}
)
"""Never shown in an error."""
TEXT: Final[frozenset[Key]] = SECRET | {
    ("broker", "username"), ("broker", "protocol"), ("embedded", "username")
}  # fmt: skip
"""Taken as it stands: a password may look like a number, and `5` is a name here."""
FLOOR: Final = 0.02  # a window's probabilities count as at least this: no single window settles anything

Port = Annotated[int, Meta(ge=1, le=65535)]
Qos = Annotated[int, Meta(ge=0, le=2)]
Count = Annotated[int, Meta(ge=1)]
Seconds = Annotated[float, Meta(gt=0)]
TopicPrefix = Annotated[str, Meta(pattern=r"^[^+#/\s]+(/[^+#/\s]+)*$")]
DeviceName = Annotated[str, Meta(pattern=r"^[^+#/$\x00-\x1f\x7f]{1,64}$")]
TopicFilter = Annotated[str, Meta(pattern=r"^[^#\s]+(/#)?$")]


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A part of the settings."""


class TlsSettings(Section, frozen=True):
    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    insecure: bool = False


class BrokerSettings(Section, frozen=True):
    url: str | None = None
    username: str | None = None
    password: str | None = None
    password_file: str | None = None
    tls: TlsSettings = TlsSettings()
    protocol: Literal["3.1.1", "5"] = "3.1.1"
    keepalive_s: Annotated[int, Meta(ge=5, le=65535)] = 30
    max_queued: Count = 10_000

    def __repr__(self) -> str:
        return "BrokerSettings(...)"  # no password in a traceback


class EmbeddedSettings(Section, frozen=True):
    port: Port = 1883
    listen: Literal["loopback", "lan"] = "loopback"
    username: Annotated[str, Meta(min_length=1)] = "hard"
    password: Annotated[str, Meta(min_length=8)] | None = None

    def __repr__(self) -> str:
        return "EmbeddedSettings(...)"


class TopicSettings(CodecOptions, frozen=True, kw_only=True):
    filter: TopicFilter
    codec: str = "auto"


APP_TOPICS: Final = (
    TopicSettings(filter="hard/+/imu", codec="native"),
    TopicSettings(filter="sensor-logger", codec="sensor-logger"),
    TopicSettings(filter="android/sensor", codec="android-sensor"),
    TopicSettings(filter="android/sensor/+", codec="android-sensor"),
    TopicSettings(filter="phyphox/+", codec="phyphox"),
    TopicSettings(filter="hyperimu/+", codec="hyperimu"),
)


class MqttSourceSettings(Section, frozen=True):
    topics: tuple[TopicSettings, ...] = APP_TOPICS
    qos: Qos = 0
    max_payload_bytes: Count = 262_144


class PortSettings(CodecOptions, frozen=True, kw_only=True):
    """One serial port."""

    port: str | None = None
    baud: Annotated[int, Meta(ge=300, le=4_000_000)] = 115_200
    device: DeviceName | None = None


class SerialSourceSettings(PortSettings, frozen=True, kw_only=True):
    ports: tuple[PortSettings, ...] = ()


class SourcesSettings(Section, frozen=True):
    enabled: Annotated[tuple[str, ...], Meta(min_length=1)] = ("mqtt",)
    mqtt: MqttSourceSettings = MqttSourceSettings()
    serial: SerialSourceSettings = SerialSourceSettings()


class ImuSettings(Section, frozen=True):
    model: str = "lstm-waist"
    acc_model: str = "lstm-acc"
    max_gap_s: Annotated[float, Meta(ge=0.05, le=2.0)] = 0.2
    min_rate_hz: Annotated[float, Meta(ge=5.0, le=50.0)] = 19.0
    max_devices: Count = 20_000
    evict_after_s: Seconds = 300.0


class EngineSettings(Section, frozen=True):
    tick_ms: Annotated[float, Meta(ge=1.0, le=1000.0)] = 20.0
    inbox_messages: Count = 100_000
    inbox_mb: Count = 64
    max_age_s: Seconds = 5.0


class SmoothingSettings(Section, frozen=True):
    """Tuned on predictions for HAPT's training people by models that did not see them; see smoothing.py."""

    time_constant_s: Annotated[float, Meta(gt=0.0, le=60.0)] = 0.7
    settle_s: Annotated[float, Meta(ge=0.0, le=60.0)] = 4.0
    still_time_constant_s: Annotated[float, Meta(gt=0.0, le=600.0)] = 5.0
    hysteresis: Annotated[float, Meta(ge=1.0)] = 13.0
    min_hold_s: Annotated[float, Meta(ge=0.0, le=600.0)] = 2.0
    min_confidence: Annotated[float, Meta(ge=0.0, lt=1.0)] = 0.35
    restart_s: Seconds = 10.0

    def __post_init__(self) -> None:
        if self.hysteresis >= 1 / FLOOR:
            raise ValueError(
                f"hysteresis {self.hysteresis:g} is never reached: a window counts at most {1 / FLOOR:g} to 1"
            )
        if self.min_confidence > 0.5:
            raise ValueError(
                f"min_confidence {self.min_confidence:g} makes every change pass through unknown, since two "
                "activities share the confidence then; expected 0.5 or less"
            )
        if self.still_time_constant_s < self.time_constant_s:
            raise ValueError(
                f"still_time_constant_s {self.still_time_constant_s:g} must not be shorter than "
                f"time_constant_s {self.time_constant_s:g}: a still phone is to change its mind more slowly"
            )
        longest = max(self.still_time_constant_s, self.min_hold_s)
        if self.restart_s <= longest:
            raise ValueError(
                f"restart_s {self.restart_s:g} must exceed still_time_constant_s and min_hold_s ({longest:g})"
            )


class OutputSettings(Section, frozen=True):
    prefix: TopicPrefix = "hard"
    qos: Qos = 0
    event_qos: Qos = 1
    retain: bool = True
    stale_s: Seconds = 10.0
    offline_s: Seconds = 60.0

    def __post_init__(self) -> None:
        if self.offline_s <= self.stale_s:
            raise ValueError(f"offline_s {self.offline_s:g} must be longer than stale_s {self.stale_s:g}")


class TotalsSettings(Section, frozen=True):
    keep_days: Annotated[int, Meta(ge=1, le=36_500)] = 400


class HomeAssistantSettings(Section, frozen=True):
    enabled: bool = False
    prefix: TopicPrefix = "homeassistant"
    birth_topic: TopicPrefix = "homeassistant/status"
    expire_after_s: Count = 30
    remove_forgotten: bool = False
    exclude: tuple[str, ...] = ()
    max_devices: Count = 500


class Settings(Section, frozen=True):
    """Everything `hard run` can be told; config/hard.yaml says what each key means."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    state_dir: str | None = None
    broker: BrokerSettings = BrokerSettings()
    embedded: EmbeddedSettings = EmbeddedSettings()
    sources: SourcesSettings = SourcesSettings()
    imu: ImuSettings = ImuSettings()
    engine: EngineSettings = EngineSettings()
    smoothing: SmoothingSettings = SmoothingSettings()
    output: OutputSettings = OutputSettings()
    homeassistant: HomeAssistantSettings = HomeAssistantSettings()
    totals: TotalsSettings = TotalsSettings()

    def __post_init__(self) -> None:
        if self.imu.evict_after_s <= self.output.offline_s:
            raise ValueError(
                f"imu.evict_after_s {self.imu.evict_after_s:g} must be longer than output.offline_s "
                f"{self.output.offline_s:g}: a forgotten device cannot be said to be offline"
            )


def load_settings(
    path: Path | None = None,
    environ: Mapping[str, str] | None = None,
    options: Mapping[Key, tuple[str, Tree]] | None = None,
) -> Settings:
    """Settings by precedence: `options` (command line), environment (HARD__BROKER__URL), file, defaults.

    `options` maps a key to the option's name and value. Raises HardError with the place and the fix.
    """
    tree: dict[str, Tree] = {}
    origins: dict[Key, str] = {}
    if path is not None:
        tree, origins = _read(path)
    for name, text in sorted((environ or {}).items()):
        if name.startswith(ENV_PREFIX):
            key = tuple(name[len(ENV_PREFIX) :].lower().split("__"))
            _put(tree, key, _text(text) if key in TEXT else _scalar(name, text), name)
            origins.update((key[:i], name) for i in range(1, len(key) + 1))
    for key, (option, value) in (options or {}).items():
        _put(tree, key, value, option)
        origins[key] = option
    try:
        return msgspec.convert(tree, Settings)
    except msgspec.ValidationError as e:
        raise HardError(_explain(str(e), tree, origins, path)) from None


def _read(path: Path) -> tuple[dict[str, Tree], dict[Key, str]]:
    origins: dict[Key, str] = {}
    try:
        node = yaml.compose(path.read_text("utf-8"), Loader=yaml.SafeLoader)
    except OSError as e:
        siblings = [p.name for p in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
        near = difflib.get_close_matches(path.name, siblings, n=1)
        hint = f"; did you mean {path.with_name(near[0])}?" if near else ""
        raise HardError(f"{path}: {e.strerror}{hint}") from None
    except UnicodeDecodeError:
        raise HardError(f"{path}: not UTF-8 text") from None
    except yaml.MarkedYAMLError as e:
        line = e.problem_mark.line + 1 if e.problem_mark else 1
        problem = re.sub(
            r"'[^'<][^']+'", "...", e.problem or e.context or ""
        )  # may quote a value: a password
        raise HardError(f"{path}:{line}: not YAML: {problem}") from None
    if node is None:
        return {}, origins
    if not isinstance(node, yaml.MappingNode):
        raise HardError(f"{path}:1: expected keys such as `broker:`, found a {node.tag.rsplit(':', 1)[-1]}")
    tree = _build(node, (), path, origins)
    assert isinstance(tree, dict)
    return tree, origins


def _build(node: yaml.Node, key: Key, path: Path, origins: dict[Key, str]) -> Tree:
    """A node as plain values, noting the line of every key."""
    if isinstance(node, yaml.MappingNode):
        out: dict[str, Tree] = {}
        for name_node, value in node.value:
            name = str(name_node.value)
            place = f"{path}:{name_node.start_mark.line + 1}"
            if name in out:
                raise HardError(f"{place}: {'.'.join((*key, name))} is given twice; keep one")
            origins[(*key, name)] = place
            child = _build(value, (*key, name), path, origins)
            empty = child is None and _fields((*key, name))  # `broker:` with every line below commented out
            out[name] = {} if empty else child
        return out
    if isinstance(node, yaml.SequenceNode):
        items: list[Tree] = []
        for i, item in enumerate(node.value):
            origins[(*key, str(i))] = f"{path}:{item.start_mark.line + 1}"
            items.append(_build(item, (*key, str(i)), path, origins))
        return items
    if key in TEXT and isinstance(node, yaml.ScalarNode) and not node.tag.endswith(":null"):
        return str(node.value)
    value_: Tree = yaml.SafeLoader("").construct_object(node)
    return value_


def _scalar(name: str, text: str) -> Tree:
    try:
        value: Tree = yaml.safe_load(text)
    except yaml.YAMLError:
        raise HardError(f"{name}: not a YAML value; put it in quotes") from None
    return value


def _text(text: str) -> Tree:
    return None if text in ("", "null") else text


def _put(tree: dict[str, Tree], key: Key, value: Tree, origin: str) -> None:
    for name in key[:-1]:
        child = tree.setdefault(name, {})
        if not isinstance(child, dict):
            raise HardError(f"{origin}: {name} holds a value, not keys")
        tree = child
    tree[key[-1]] = value


def _explain(message: str, tree: Tree, origins: Mapping[Key, str], path: Path | None) -> str:
    """msgspec's message with its place in the file, and the nearest key where the key is unknown."""
    what, _, where = message.partition(" - at `$")
    key: Key = tuple(filter(None, re.split(r"[.\[\]`]+", where)))
    unknown = re.search(r"unknown field `(.*)`", what)
    if unknown:
        known = _fields(key)
        near = difflib.get_close_matches(unknown[1], known, n=1)
        key = (*key, unknown[1])
        what = "unknown key; " + (f"did you mean {near[0]!r}?" if near else f"there is: {', '.join(known)}")
    else:
        found: Tree = tree
        for part in key:
            found = (
                found[int(part)]
                if isinstance(found, list)
                else found[part]
                if isinstance(found, dict)
                else None
            )
        what = what[0].lower() + what[1:].replace("`", "")
        choices = get_args(_type_at(key)) if "enum value" in what else ()
        what = f"expected one of {', '.join(choices)}" if choices else what
        if not isinstance(found, dict | list) and not any(s[: len(key)] == key for s in SECRET):
            what += f" (it is {found!r})"
    place = next((origins[key[:i]] for i in range(len(key), 0, -1) if key[:i] in origins), None)
    return ": ".join(filter(None, (place or str(path or "settings"), ".".join(key), what)))


def _type_at(key: Key) -> object:
    """The annotated type of a setting."""
    at: object = Settings
    for part in key:
        if isinstance(at, type) and issubclass(at, msgspec.Struct):
            at = next((f.type for f in msgspec.structs.fields(at) if f.name == part), None)
        elif get_origin(at) is tuple:
            at = get_args(at)[0]
    return at


def _fields(key: Key) -> Sequence[str]:
    """Names of the settings below a key; none where it is not a section."""
    at = _type_at(key)
    if isinstance(at, type) and issubclass(at, msgspec.Struct):
        return [f.name for f in msgspec.structs.fields(at)]
    return []
