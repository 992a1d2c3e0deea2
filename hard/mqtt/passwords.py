"""Passwords: which there are, so that no line shows them, and how the process list forgets them."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote, urlsplit

from hard.settings import Settings

MIN_BLOTTED: Final = 4  # characters: blotting out an `a` everywhere would tell more than it hides
STAT: Final = Path("/proc/self/stat")


def known_secrets(settings: Settings) -> list[str]:
    """Passwords that the settings hold, in every form in which they may turn up."""
    found = [settings.broker.password, settings.embedded.password, _of_url(settings.broker.url),
             _of_url(settings.sources.webcam.camera)]  # fmt: skip
    return forms(secret for secret in found if secret)


def forms(secrets: Iterable[str]) -> list[str]:
    """As they are, and as they stand in a URL."""
    long = [s for s in secrets if len(s) >= MIN_BLOTTED]
    return list(dict.fromkeys(form for s in long for form in (s, quote(s, safe=""), unquote(s))))


def _of_url(url: str | None) -> str | None:
    try:
        return urlsplit(url).password if url and "://" in url else None
    except ValueError:
        return None


def hide_from_ps(secrets: Iterable[str], stat: Path = STAT) -> int:
    """Overwrite secrets in this process's own command line and environment, as `ps` shows them.

    Returns how many places were overwritten. Between the start and this call, about 0.2 s, they can be seen.
    """
    try:
        fields = stat.read_text("utf-8", "replace").rpartition(")")[2].split()
        spans = [(int(fields[45]), int(fields[46])), (int(fields[47]), int(fields[48]))]
    except (OSError, ValueError, IndexError):
        return 0
    places = 0
    for begin, end in spans:  # arguments, environment; both in our own stack
        if not 0 < begin < end:
            continue
        area = ctypes.string_at(begin, end - begin)
        for secret in {s.encode() for s in secrets}:
            at = area.find(secret)
            while at >= 0:
                ctypes.memset(begin + at, ord("*"), len(secret))
                places += 1
                at = area.find(secret, at + len(secret))
    return places
