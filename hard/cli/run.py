"""hard run."""

from __future__ import annotations

from pathlib import Path

import click

from hard.cli.options import broker_option, config_option, for_option, load
from hard.registry import SOURCES, names


@click.command()
@click.option(
    "--source", "sources", multiple=True, type=click.Choice(names("sources", SOURCES)),
    help="Where samples come from; may be given several times. Default: sources.enabled, mqtt.",
)  # fmt: skip
@click.option("--port", metavar="PATH", help="Serial port (source serial): /dev/serial/by-id/... or URL.")
@broker_option
@config_option
@click.option("--model", metavar="NAME", help="Model for phone motion; `hard models` lists them.")
@click.option(
    "--simulate", type=click.IntRange(min=0, max=1000), default=0, metavar="N", help="Add N synthetic phones."
)
@for_option
def run(
    sources: tuple[str, ...],
    port: str | None,
    broker: str | None,
    config: Path | None,
    model: str | None,
    simulate: int,
    for_s: float | None,
) -> int:
    """Recognise activities until Ctrl-C. Without a broker configured, an embedded one is started."""
    settings = load(
        config,
        {
            ("broker", "url"): ("--broker", broker),
            ("imu", "model"): ("--model", model),
            ("sources", "enabled"): ("--source", list(sources) or None),
            ("sources", "serial", "port"): ("--port", port),
        },
    )
    if port and "serial" not in settings.sources.enabled:
        raise click.UsageError("--port needs --source serial")
    if simulate and "mqtt" not in settings.sources.enabled:
        raise click.UsageError("--simulate needs --source mqtt: synthetic phones publish to the broker")
    from hard import app

    return app.run(settings, simulate=simulate, for_s=for_s)
