"""Commands that look and tell: hard watch, check, models and devices."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from hard.cli.options import Finite, broker_option, broker_url, daemon_option, for_option, load
from hard.config import Key, Tree, salvage
from hard.types import HardError

if TYPE_CHECKING:
    from hard.doctor import Line


@click.command()
@broker_option
@daemon_option
@for_option
def watch(broker: str | None, config: Path | None, for_s: float | None) -> int:
    """Show every device's label, live, from any broker."""
    settings = load(config, {("broker", "url"): ("--broker", broker)})
    from hard.watch import watch as show

    return show(broker_url(settings), settings.output.prefix, for_s)


@click.command()
@click.option(
    "--listen", "listening", is_flag=True, help="Describe the streams on a broker or a port instead."
)
@click.option("--seconds", type=Finite(min=1), default=10.0, show_default=True, help="How long to listen.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
@click.option("--bundle", type=click.Path(path_type=Path), metavar="ZIP", help="Write a support bundle too.")
@click.option("--port", metavar="PATH", help="Listen to this serial port instead of a broker.")
@broker_option
@daemon_option
def check(
    listening: bool, seconds: float, as_json: bool, bundle: Path | None, port: str | None, broker: str | None,
    config: Path | None,
) -> int:  # fmt: skip
    """Look at everything that the daemon depends on, with a remedy for what is wrong.

    With --listen: say which app or dialect each stream is, its rate, units, sign and clock, and how to set it
    right. Exit status: 0 all is well, 1 something to look at, 2 something does not work or nothing was heard.
    """
    if port and broker:
        raise click.UsageError("--port and --broker: name one of the two")
    if port and not listening:
        raise click.UsageError("--port needs --listen; without, the ports of the settings are looked at")
    if bundle and listening:
        raise click.UsageError("--bundle and --listen: one of the two")
    options: dict[Key, tuple[str, Tree]] = {
        ("broker", "url"): ("--broker", broker),
        ("sources", "serial", "port"): ("--port", port),
    }
    if not listening:
        return _examine(config, options, as_json, bundle)
    settings = load(config, options)
    from hard.check import listen

    return listen(settings, None if port else broker_url(settings), seconds, as_json)


def _examine(
    config: Path | None, options: dict[Key, tuple[str, Tree]], as_json: bool, bundle: Path | None
) -> int:
    import logging

    from rich.console import Console

    from hard.doctor import examine, show, worst

    logging.disable(logging.CRITICAL)  # the lines say it
    console, lines = Console(highlight=False), []
    for line in examine(lambda: load(config, options), config):
        lines.append(line)
        if not as_json:
            show(console, line)
    if as_json:
        out = {"status": ("pass", "warn", "fail")[worst(lines)], "lines": msgspec.to_builtins(lines)}
        print(msgspec.json.format(msgspec.json.encode(out)).decode())
    if bundle is not None:
        _bundle(bundle, config, options, lines)
        print(f"wrote {bundle}", file=sys.stderr)
    return worst(lines)


def _bundle(path: Path, config: Path | None, options: dict[Key, tuple[str, Tree]], lines: list[Line]) -> None:
    """With the default settings where the configuration is wrong: then it is most wanted."""
    from hard.bundle import write

    try:
        settings = load(config, options)
    except HardError:
        settings = salvage(config, os.environ)
    try:
        password = broker_url(settings).password
    except HardError:
        password = None
    try:
        write(path, settings, config, lines, [password] if password else [])
    except OSError as e:
        raise HardError(f"{path}: {e.strerror}; name a file in a folder that can be written") from None


@click.command()
def models() -> int:
    """List the models with their cards and figures."""
    from rich.console import Console

    from hard.card import list_models, read_card
    from hard.table import describe

    cards = [(folder, read_card(folder)) for folder in list_models()]
    if not cards:
        raise HardError("no models found; reinstall, or set HARD_MODELS to a folder of models")
    console = Console()
    for folder, card in cards:
        console.print(describe(folder, card))
    return 0


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object, and nothing else on stdout.")
def devices(as_json: bool) -> int:
    """List serial ports and cameras with the names that stay theirs."""
    from hard.devices import find, show

    found = find()
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(found)).decode())
    else:
        from rich.console import Console

        Console().print(show(found))
    return 0
