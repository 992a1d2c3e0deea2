"""Commands that take a recording: hard replay and hard classify."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hard.cli.options import broker_option, broker_url, config_option, json_line, load
from hard.cli.video import classify_video, is_video
from hard.config import state_dir
from hard.types import HardError

if TYPE_CHECKING:
    from hard.smoothing import Steady
    from hard.types import Prediction


@click.command()
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

    settings = load(config, {("broker", "url"): ("--broker", broker)})
    recording = read_recording(path, acc_unit, gyro_unit)
    return play(recording, device or recording.name, broker_url(settings), settings.output.prefix, speed)


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--model", metavar="NAME", help="Default: as the settings say, and as the phone is carried.")
@click.option(
    "--annotate",
    type=click.Path(path_type=Path),
    metavar="OUT.mp4",
    help="Save a video with its labels.",
)
@click.option("--as", "device", metavar="DEVICE", help="With this device's calibration and personal head.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, and nothing else on stdout.")
@click.option("--acc-unit", type=click.Choice(["g", "m/s2"]), help="Of a plain CSV; default m/s2.")
@click.option("--gyro-unit", type=click.Choice(["rad/s", "deg/s"]), help="Of a plain CSV; default rad/s.")
@config_option
def classify(
    path: Path, model: str | None, annotate: Path | None, device: str | None, as_json: bool,
    acc_unit: str | None, gyro_unit: str | None, config: Path | None,
) -> int:  # fmt: skip
    """Label a recording or a video offline, through the daemon's own pipeline.

    A recording of motion (PATH: as for `hard replay`): one line per window: its end, the steady activity and
    confidence, the window's own activity and probabilities. A video: one line per stretch of one activity.
    """
    if is_video(path):
        return classify_video(path, model, load(config, {}), as_json, annotate)
    if annotate:
        raise click.UsageError("--annotate needs a video")
    from hard.recordings import read_recording

    recording = read_recording(path, acc_unit, gyro_unit)
    from hard.model import load_model
    from hard.profiles import Profiles
    from hard.recognizer import Recognizer
    from hard.smoothing import Smoother

    settings = load(config, {})
    i = settings.imu
    elsewhere = load_model(i.elsewhere_model) if i.elsewhere_model and model is None else None
    recognizer = Recognizer(model or i.model, acc_model=i.acc_model, elsewhere_model=elsewhere)
    smoother = Smoother(settings.smoothing)
    if device is not None:
        Profiles(state_dir(settings)).refresh(recognizer.wear)
    predictions = recognizer.push(device or recording.name, recording.t, recording.samples)
    try:
        for p in predictions:
            print((json_line if as_json else _text_line)(p, smoother.update(p)))
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


def _text_line(p: Prediction, steady: Steady) -> str:
    shares = "  ".join(f"{name} {value:.3f}" for name, value in p.probabilities.items())
    return f"{p.t_end:10.2f} s  {steady.activity:<19} {steady.confidence:.3f}  raw {p.activity:<19} {shares}"
