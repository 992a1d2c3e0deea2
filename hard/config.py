"""YAML -> frozen, validated settings; every error names key, line and fix."""

from __future__ import annotations

import contextlib
import difflib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Final, TypeAlias, Union, get_args, get_origin

import msgspec
import yaml

from hard.codecs import CodecOptions
from hard.registry import CODECS, OPTIONS, SOURCES, names, resolve
from hard.settings import Settings, SourcesSettings
from hard.types import HardError

Tree: TypeAlias = Union[dict[str, "Tree"], list["Tree"], str, int, float, bool, None]  # noqa: UP007
Key: TypeAlias = tuple[str, ...]
ENV_PREFIX: Final = "HARD__"
STATE_VARIABLE: Final = "HARD__STATE_DIR"
SECRET: Final[frozenset[Key]] = frozenset(
    {("broker", "url"), ("broker", "password"), ("embedded", "password"), ("sources", "webcam", "camera")}
)
"""Never shown in an error."""
TEXT: Final[frozenset[Key]] = SECRET | {
    ("broker", "username"), ("broker", "protocol"), ("embedded", "username")
}  # fmt: skip
"""Taken as it stands: a password may look like a number, and `5` is a name here."""
_EXPONENT: Final = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")


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
    given = _with_exponents(tree)
    try:
        settings = msgspec.convert(given, Settings)
    except msgspec.ValidationError as e:
        raise HardError(_explain(str(e), given, origins, path)) from None
    _check_names(settings, origins, path)
    _check_options(settings.sources, origins, path)
    if settings.broker.url is None:
        _check_blanks(settings, origins, path)
    return settings


def state_dir(settings: Settings) -> Path:
    """Where state is kept: the setting, systemd's StateDirectory, or the user's."""
    if settings.state_dir:
        return Path(settings.state_dir).expanduser()
    if "STATE_DIRECTORY" in os.environ:
        return Path(os.environ["STATE_DIRECTORY"].split(":")[0])
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "hard"


def reach(state: Path) -> Path:
    """A state folder that may be looked into, if there is one yet; HardError where it may not."""
    try:
        next(state.iterdir(), None)
    except PermissionError as e:
        raise HardError(f"{state}: {e.strerror}; it is that of a service: run this with sudo") from None
    except OSError:
        pass  # the first who writes makes it, or says why not
    return state


def salvage(path: Path | None, environ: Mapping[str, str]) -> Settings:
    """Of settings that are refused, perhaps not even YAML: their line `state_dir:`; defaults else."""
    state: Tree = None
    with contextlib.suppress(OSError, yaml.YAMLError):
        if STATE_VARIABLE in environ:
            state = yaml.safe_load(environ[STATE_VARIABLE])
        elif path is not None:
            line = re.search(r"^state_dir:.*", path.read_text("utf-8", "replace"), re.M)
            state = yaml.safe_load(line[0])["state_dir"] if line else None
    return Settings(state_dir=state if isinstance(state, str) else None)


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
    except (yaml.YAMLError, ValueError, RecursionError) as e:  # control characters, absurd numbers or depth
        raise HardError(f"{path}: not YAML: {type(e).__name__}; is the file damaged?") from None
    if node is None:
        return {}, origins
    if not isinstance(node, yaml.MappingNode):
        raise HardError(f"{path}:1: expected keys such as `broker:`, found a {node.tag.rsplit(':', 1)[-1]}")
    try:
        tree = _build(node, (), path, origins)
    except (yaml.YAMLError, ValueError, RecursionError, OverflowError):  # its text may quote a password
        raise HardError(f"{path}: a value that cannot be read; put it in quotes") from None
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


def _with_exponents(tree: Tree, key: Key = ()) -> Tree:
    """The same with 1e-1 as a number where one is wanted: YAML takes it for text, for want of a point."""
    if isinstance(tree, dict):
        return {name: _with_exponents(value, (*key, name)) for name, value in tree.items()}
    if isinstance(tree, list):
        return [_with_exponents(value, (*key, str(i))) for i, value in enumerate(tree)]
    if isinstance(tree, str) and _EXPONENT.fullmatch(tree) and _is_number(_type_at(key)):
        number = float(tree)
        return int(number) if number.is_integer() else number
    return tree


def _is_number(type_: object) -> bool:
    return type_ in (int, float) or any(_is_number(part) for part in get_args(type_))


def _check_names(settings: Settings, origins: Mapping[Key, str], path: Path | None) -> None:
    """HardError where a source or a codec is none; those that are there are not imported yet."""
    sources = settings.sources
    given: list[tuple[Key, str, Mapping[str, str], str]] = [
        (("sources", "enabled", str(i)), "sources", SOURCES, name) for i, name in enumerate(sources.enabled)
    ]
    for i, topic in enumerate(sources.mqtt.topics):
        given.append((("sources", "mqtt", "topics", str(i), "codec"), "codecs", CODECS, topic.codec))
    for key, kind, table, name in given:
        if name in table or name in names(kind, table):
            continue
        try:
            resolve(kind, table, name)
        except HardError as e:
            raise HardError(_placed(key, str(e), origins, path)) from None


def _check_options(sources: SourcesSettings, origins: Mapping[Key, str], path: Path | None) -> None:
    """HardError where a codec would not look at what it is told."""
    streams: list[tuple[Key, str, CodecOptions]] = [(("serial",), "csv-lines", sources.serial)]
    streams += [(("serial", "ports", str(i)), "csv-lines", p) for i, p in enumerate(sources.serial.ports)]
    streams += [(("mqtt", "topics", str(i)), t.codec, t) for i, t in enumerate(sources.mqtt.topics)]
    for key, codec, options in streams:
        for field in msgspec.structs.fields(CodecOptions):
            name = field.name
            if name in OPTIONS.get(codec, (name,)) or getattr(options, name) == field.default:
                continue
            readers = ", ".join(reader for reader, read in OPTIONS.items() if name in read)
            what = f"codec {codec!r} does not read it ({readers} would); leave it out"
            if codec == "native" and name.endswith("_unit"):
                what += ": each message says its own units"
            raise HardError(_placed(("sources", *key, name), what, origins, path))


def _check_blanks(settings: Settings, origins: Mapping[Key, str], path: Path | None) -> None:
    """HardError for a blank in a topic: the embedded broker, and only that, hangs up on it."""
    sources, home = settings.sources, settings.homeassistant
    topics: list[tuple[Key, str | None]] = [
        (("output", "prefix"), settings.output.prefix),
        (("homeassistant", "prefix"), home.prefix),
        (("homeassistant", "birth_topic"), home.birth_topic),
        (("sources", "webcam", "device"), sources.webcam.device),
        (("sources", "serial", "device"), sources.serial.device),
    ]
    for i, port in enumerate(sources.serial.ports):
        topics.append((("sources", "serial", "ports", str(i), "device"), port.device))
    for i, topic in enumerate(sources.mqtt.topics):
        topics.append((("sources", "mqtt", "topics", str(i), "filter"), topic.filter))
    for key, name in topics:
        if name and " " in name:
            near = name.replace(" ", "-")
            what = f"{name!r}: the embedded broker takes no blank in a topic; write {near}, or set broker.url"
            raise HardError(_placed(key, what, origins, path))


def _placed(key: Key, what: str, origins: Mapping[Key, str], path: Path | None) -> str:
    """What is wrong with a key, after its place."""
    place = next((origins[key[:i]] for i in range(len(key), 0, -1) if key[:i] in origins), None)
    return ": ".join(filter(None, (place or str(path or "settings"), ".".join(key), what)))


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
        if "matching regex" in what or what.startswith("expected array"):
            what = f"expected {_words(_type_at(key)) or _a_list(found)}"
        if not isinstance(found, dict | list) and not any(s[: len(key)] == key for s in SECRET):
            what += f" (it is {found!r})"
            if what.startswith("expected str") and found is not None and not isinstance(found, str):
                what += "; put it in quotes"
                if origins.get(key, "").startswith(ENV_PREFIX):  # the shell takes its own away
                    what += f""": '"{found}"'"""
    return _placed(key, what, origins, path)


def _words(type_: object) -> str | None:
    """What a type is for a person: the description in its Meta."""
    parts = get_args(type_)
    own = (part.description for part in parts if isinstance(part, msgspec.Meta))
    return next(filter(None, (*own, *map(_words, parts))), None)


def _a_list(found: Tree) -> str:
    """A list, for one who wrote `a, b`, as an environment variable invites to."""
    parts = [part.strip() for part in found.split(",")] if isinstance(found, str) else []
    return f"a list such as [{', '.join(parts)}]" if parts else "a list in brackets"


def _type_at(key: Key) -> object:
    """The annotated type of a setting."""
    at: object = Settings
    for part in key:
        while get_origin(at) is Annotated:
            at = get_args(at)[0]
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
