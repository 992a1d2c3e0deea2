"""Commands that look and tell: hard watch, check, models and devices."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from hard.cli.options import broker_option, broker_url, config_option, for_option, load
from hard.config import Key, Tree
from hard.types import HardError


@click.command()
@broker_option
@config_option
@for_option
def watch(broker: str | None, config: Path | None, for_s: float | None) -> int:
    """Show every device's label, live, from any broker."""
    settings = load(config, {("broker", "url"): ("--broker", broker)})
    from hard.watch import watch as show

    return show(broker_url(settings), settings.output.prefix, for_s)


@click.command()
@click.option("--listen", "listening", is_flag=True, help="Describe the streams on a broker or a port.")
@click.option(
    "--seconds", type=click.FloatRange(min=1), default=10.0, show_default=True, help="How long to listen."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
@click.option("--port", metavar="PATH", help="Listen to this serial port instead of a broker.")
@broker_option
@config_option
def check(
    listening: bool, seconds: float, as_json: bool, port: str | None, broker: str | None, config: Path | None
) -> int:
    """Say which app or dialect each stream is, its rate, units, sign and clock, and how to set it right.

    Exit status: 0 all is well, 1 something is wrong, 2 nothing readable was heard.
    """
    if not listening:
        raise click.UsageError(
            "nothing to check; hard check --listen describes the streams on a broker or a port"
        )
    if port and broker:
        raise click.UsageError("--port and --broker: name one of the two")
    options: dict[Key, tuple[str, Tree]] = {
        ("broker", "url"): ("--broker", broker),
        ("sources", "serial", "port"): ("--port", port),
    }
    settings = load(config, options)
    from hard.check import listen

    return listen(settings, None if port else broker_url(settings), seconds, as_json)


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
