"""What every kind of measurement in tools/evaluate.py is asked, and how it answers."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec
from rich.console import Console

Result = TypeVar("Result")


def ask(parser: argparse.ArgumentParser, model: str = "lstm-waist") -> None:
    """Add --model, with this default, --data and --json."""
    parser.add_argument("--model", default=model, help="name or folder (default: %(default)s)")
    parser.add_argument("--data", type=Path, help="data folder (default: HARD_DATA, ../shared/data, data)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def at_least(least: int) -> Callable[[str], int]:
    """The `type` of an argument that is a whole number, this or more."""

    def number(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r}; expected a whole number from {least} on")
        return int(text)

    return number


def answer(result: Result, args: argparse.Namespace, show: Callable[[Result, Console], None]) -> None:
    """Print the result as JSON, where --json asks for it, or show it."""
    if args.json:
        print(msgspec.json.encode(result).decode())
    else:
        show(result, Console())
