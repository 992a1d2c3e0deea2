"""Real-time human activity recognition from phone motion: `hard.Recognizer` is the Python door."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hard.recognizer import Recognizer

__version__ = "0.1.0"
__all__ = ["Recognizer", "__version__"]


def __getattr__(name: str) -> object:
    if name == "Recognizer":  # torch is imported only when someone recognises something
        from hard.recognizer import Recognizer

        return Recognizer
    raise AttributeError(f"module 'hard' has no attribute {name!r}")
