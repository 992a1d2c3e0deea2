"""hard run."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from hard.card import VideoCard, find_model, read_card
from hard.cli.options import broker_option, config_option, for_option, load
from hard.config import Key, Tree
from hard.registry import SOURCES, names
from hard.settings import Settings
from hard.sources import WEBCAM


@click.command()
@click.option(
    "--source", "sources", multiple=True, type=click.Choice(names("sources", SOURCES)),
    help="Where samples come from; may be given several times. Default: sources.enabled, mqtt.",
)  # fmt: skip
@click.option("--port", metavar="PATH", help="Serial port (source serial): /dev/serial/by-id/... or URL.")
@click.option(
    "--camera",
    metavar="CAMERA",
    help="Source webcam: index, /dev/v4l/by-id/..., URL or video file. Default: 0.",
)
@click.option("--overlay", is_flag=True, help="Show the camera's picture with its labels in a window.")
@click.option(
    "--record",
    type=click.Path(path_type=Path),
    metavar="OUT.mp4",
    help="Film that, with or without a window.",
)
@click.option("--loop", is_flag=True, default=None, help="Play a video file again and again.")
@broker_option
@config_option
@click.option("--model", metavar="NAME", help="Model of phone motion, or of video; `hard models` lists them.")
@click.option(
    "--simulate", type=click.IntRange(min=0, max=1000), default=0, metavar="N", help="Add N synthetic phones."
)
@for_option
def run(
    sources: tuple[str, ...],
    port: str | None,
    camera: str | None,
    overlay: bool,
    record: Path | None,
    loop: bool | None,
    broker: str | None,
    config: Path | None,
    model: str | None,
    simulate: int,
    for_s: float | None,
) -> int:
    """Recognise activities until Ctrl-C. Without a broker configured, an embedded one is started."""
    part = _part(model)
    options: dict[Key, tuple[str, Tree]] = {
        ("broker", "url"): ("--broker", broker),
        (part, "model"): ("--model", model),
        ("sources", "enabled"): ("--source", list(sources) or None),
        ("sources", "serial", "port"): ("--port", port),
        ("sources", "webcam", "camera"): ("--camera", camera),
        ("sources", "webcam", "loop"): ("--loop", loop),
    }

    def read() -> Settings:
        settings = load(config, options)
        if model is None or part != "imu":
            return settings
        imu = msgspec.structs.replace(settings.imu, elsewhere_model=None)  # who names a model gets that one
        return msgspec.structs.replace(settings, imu=imu)

    settings = read()
    if port and "serial" not in settings.sources.enabled:
        raise click.UsageError("--port needs --source serial")
    for option, given in (
        ("--camera", camera),
        ("--overlay", overlay),
        ("--record", record),
        ("--loop", loop),
    ):
        if given and WEBCAM not in settings.sources.enabled:
            raise click.UsageError(f"{option} needs --source webcam")
    if model and part == "video" and WEBCAM not in settings.sources.enabled:
        raise click.UsageError(f"--model {model} is a model of video, and needs --source webcam")
    if model and part == "imu" and set(settings.sources.enabled) == {WEBCAM}:
        raise click.UsageError(
            f"--model {model} is a model of phone motion, and needs --source mqtt or serial"
        )
    if simulate and "mqtt" not in settings.sources.enabled:
        raise click.UsageError("--simulate needs --source mqtt: synthetic phones publish to the broker")
    from hard import app

    return app.run(
        read,
        config=config,
        simulate=simulate,
        for_s=for_s,
        window=overlay,
        record=record,
    )


def _part(model: str | None) -> str:
    """Which section of the settings a model goes into, by its card."""
    if model is None:
        return "imu"
    return "video" if isinstance(read_card(find_model(model)), VideoCard) else "imu"
