"""The commands: run, replay, classify, watch, check, models, devices."""

from __future__ import annotations

import difflib
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from hard import __version__
from hard.config import Key, Settings, Tree, load_settings
from hard.registry import SOURCES, names
from hard.types import HardError

if TYPE_CHECKING:
    from hard.address import BrokerUrl
    from hard.smoothing import Steady
    from hard.types import Prediction

USAGE_ERROR = 2


class Commands(click.Group):
    """A group that names the nearest command for a wrong one."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if not name.startswith("-") and self.get_command(ctx, name) is None:
            known = self.list_commands(ctx)
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there is: {', '.join(known)}"
            ctx.fail(f"no command {name!r}; {hint}")
        return super().resolve_command(ctx, args)


def main() -> None:
    """Entry point: every foreseen error is one line on stderr and a non-zero exit status."""
    try:
        status = cli(standalone_mode=False)
    except click.ClickException as e:
        _fail(e.format_message().rstrip("."), USAGE_ERROR)
    except HardError as e:
        _fail(str(e), 1)
    except (click.Abort, KeyboardInterrupt):
        _fail("interrupted", 130)
    sys.exit(status if isinstance(status, int) else 0)


def _fail(text: str, status: int) -> None:
    print(f"hard: {' '.join(text.split())}", file=sys.stderr)
    sys.exit(status)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="hard %(version)s")
def cli() -> None:
    """Real-time human activity recognition: phone motion in over MQTT, activity labels out."""


config_option = click.option(
    "--config", type=click.Path(path_type=Path), metavar="FILE", help="YAML settings; see config/hard.yaml."
)
broker_option = click.option("--broker", metavar="URL", help="mqtt://[user:password@]host[:1883]")
for_option = click.option(
    "--for",
    "for_s",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Stop after this time.",
)


@cli.command()
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
    settings = _settings(
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


@cli.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--as", "device", metavar="DEVICE", help="Device name; default: the recording's.")
@click.option(
    "--speed",
    type=click.FloatRange(min=0, min_open=True),
    default=1.0,
    show_default=True,
    help="Times real time.",
)
@broker_option
@config_option
@click.option("--acc-unit", type=click.Choice(["g", "m/s2"]), help="Of a plain CSV; default m/s2.")
@click.option("--gyro-unit", type=click.Choice(["rad/s", "deg/s"]), help="Of a plain CSV; default rad/s.")
def replay(
    path: Path, device: str | None, speed: float, broker: str | None, config: Path | None,
    acc_unit: str | None, gyro_unit: str | None,
) -> int:  # fmt: skip
    """Publish a recording as a phone would.

    PATH: one of HAPT's acc_*/gyro_* pair, a MotionSense CSV, or a CSV with header t,ax,ay,az,gx,gy,gz.
    """
    from hard.recordings import read_recording
    from hard.replay import replay as play

    settings = _settings(config, {("broker", "url"): ("--broker", broker)})
    recording = read_recording(path, acc_unit, gyro_unit)
    return play(recording, device or recording.name, _url(settings), settings.output.prefix, speed)


@cli.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option(
    "--model", default="lstm-waist", show_default=True, metavar="NAME", help="`hard models` lists them."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, and nothing else on stdout.")
@click.option("--acc-unit", type=click.Choice(["g", "m/s2"]), help="Of a plain CSV; default m/s2.")
@click.option("--gyro-unit", type=click.Choice(["rad/s", "deg/s"]), help="Of a plain CSV; default rad/s.")
@config_option
def classify(
    path: Path, model: str, as_json: bool, acc_unit: str | None, gyro_unit: str | None, config: Path | None
) -> int:
    """Label a recording offline, through the daemon's own pipeline: one line per window.

    A line: end of the window, steady activity and confidence, the window's own activity and probabilities.

    PATH: as for `hard replay`.
    """
    from hard.recordings import read_recording

    recording = read_recording(path, acc_unit, gyro_unit)
    from hard.recognizer import Recognizer
    from hard.smoothing import Smoother

    recognizer, smoother = Recognizer(model), Smoother(_settings(config, {}).smoothing)
    predictions = recognizer.push(recording.name, recording.t, recording.samples)
    try:
        for p in predictions:
            print((_json_line if as_json else _text_line)(p, smoother.update(p)))
        sys.stdout.flush()
    except BrokenPipeError:  # `hard classify ... | head`; what Python flushes at its end goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    lost = recognizer.counters.drops()
    if lost:
        print("lost: " + ", ".join(f"{name} {n}" for name, n in lost.items()), file=sys.stderr)
    if not predictions:
        w = recognizer.model.card.windowing
        raise HardError(
            f"{path}: {recording.t[-1] - recording.t[0]:.2f} s of samples hold no complete window of "
            f"{w.window / w.rate_hz:.2f} s"
        )
    return 0


@cli.command()
@broker_option
@config_option
@for_option
def watch(broker: str | None, config: Path | None, for_s: float | None) -> int:
    """Show every device's label, live, from any broker."""
    settings = _settings(config, {("broker", "url"): ("--broker", broker)})
    from hard.watch import watch as show

    return show(_url(settings), settings.output.prefix, for_s)


@cli.command()
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
    settings = _settings(config, options)
    from hard.check import listen

    return listen(settings, None if port else _url(settings), seconds, as_json)


@cli.command()
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


@cli.command()
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


def _json_line(p: Prediction, steady: Steady) -> str:
    """The keys of the live payload: `activity` is the steady one."""
    line: dict[str, object] = {
        "t_end": p.t_end,
        "activity": steady.activity,
        "confidence": steady.confidence,
        "raw": {"activity": p.activity, "confidence": p.confidence},
        "probabilities": p.probabilities,
    }
    return json.dumps(line | ({"reason": steady.reason} if steady.reason else {}))


def _text_line(p: Prediction, steady: Steady) -> str:
    shares = "  ".join(f"{name} {value:.3f}" for name, value in p.probabilities.items())
    return f"{p.t_end:10.2f} s  {steady.activity:<19} {steady.confidence:.3f}  raw {p.activity:<19} {shares}"


def _settings(config: Path | None, options: dict[Key, tuple[str, Tree]]) -> Settings:
    given = {key: option for key, option in options.items() if option[1] is not None}
    return load_settings(config, os.environ, given)


def _url(settings: Settings) -> BrokerUrl:
    from hard.address import address
    from hard.app import state_dir
    from hard.embedded import embedded_address

    if settings.broker.url is None:
        return embedded_address(settings.embedded, state_dir(settings))
    return address(settings.broker.url, settings.broker, os.environ)
