"""Commands that take a recording: hard replay and hard classify."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from hard.cli.options import (
    Finite,
    acc_unit_option,
    broker_option,
    broker_url,
    config_option,
    daemon_option,
    gyro_unit_option,
    json_line,
    load,
    of_the_service,
)
from hard.cli.video import classify_video, is_video
from hard.config import reach, state_dir
from hard.types import HardError

if TYPE_CHECKING:
    from hard.personal.profiles import Head
    from hard.recognizer import Recognizer
    from hard.stats import Counters
    from hard.types import F64, Label, Windowing

UNIX_S: Final = (1e9, 4e9)  # of the years 2001 to 2096; a phone that counts from its start runs for days


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--as", "device", metavar="DEVICE", help="Device name; default: the recording's.")
@click.option(
    "--speed",
    type=Finite(min=0, min_open=True),
    default=1.0,
    show_default=True,
    help="Times real time.",
)
@broker_option
@daemon_option
@acc_unit_option
@gyro_unit_option
def replay(
    path: Path, device: str | None, speed: float, broker: str | None, config: Path | None,
    acc_unit: str | None, gyro_unit: str | None,
) -> int:  # fmt: skip
    """Publish a recording as a phone would.

    PATH: an export of Sensor Logger (zip, folder or JSON) or phyphox (zip, folder or CSV); a CSV with a time,
    acceleration and, if any, angular velocity under common names, such as t,ax,ay,az,gx,gy,gz; one of HAPT's
    acc_*/gyro_* pair; or a MotionSense CSV.
    """
    from hard.recordings import read_recording
    from hard.replay import replay as play
    from hard.stats import Counters

    settings = load(config, {("broker", "url"): ("--broker", broker)})
    counters = Counters()
    recording = read_recording(path, acc_unit, gyro_unit, counters)
    _say_lost(counters)
    return play(
        recording, device or recording.name, broker_url(settings), settings.sources.mqtt.topics, speed
    )


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
@acc_unit_option
@gyro_unit_option
@config_option
def classify(
    path: Path, model: str | None, annotate: Path | None, device: str | None, as_json: bool,
    acc_unit: str | None, gyro_unit: str | None, config: Path | None,
) -> int:  # fmt: skip
    """Label a recording or a video offline, through the daemon's own pipeline.

    A recording of motion (PATH: as for `hard replay`): one line per window: its end, the steady activity and
    confidence, the window's own activity and probabilities, and why an activity is unknown. A video: one
    line per stretch of one activity.
    """
    if is_video(path):
        return classify_video(path, model, load(config, {}), as_json, annotate)
    if annotate:
        raise click.UsageError("--annotate needs a video")
    from hard.recordings import read_recording
    from hard.stats import Counters

    counters = Counters()
    recording = read_recording(path, acc_unit, gyro_unit, counters)
    from hard.history import History
    from hard.imu import Limits
    from hard.model import load_model
    from hard.recognizer import Recognizer, require_no_need_of_gyroscope
    from hard.smoothing import Smoother

    settings = load(of_the_service(config) if device else config, {})
    i, e = settings.imu, settings.engine
    main = load_model(model or i.model, e.runtime, e.precision)
    if model is not None and not recording.gyro and main.card.needs_gyroscope:
        raise HardError(
            f"{path}: without a gyroscope, which {model} needs; leave out --model, or take {i.acc_model}"
        )
    acc = main if model else load_model(i.acc_model, e.runtime, e.precision)
    if model is None:
        require_no_need_of_gyroscope(acc)
    elsewhere = None
    if i.elsewhere_model and model is None:
        elsewhere = load_model(i.elsewhere_model, e.runtime, e.precision)
    recognizer = Recognizer(
        main, acc_model=acc, elsewhere_model=elsewhere,
        limits=Limits(max_gap_s=i.max_gap_s), min_rate_hz=i.min_rate_hz, counters=counters,
    )  # fmt: skip
    history = History(Smoother(settings.smoothing))
    if device is not None:
        _wear(recognizer, device, reach(state_dir(settings)))
    predictions = recognizer.push(device or recording.name, recording.t, recording.samples)
    try:
        for p in predictions:
            dated = UNIX_S[0] <= p.t_end < UNIX_S[1]
            label = history.label(p, p.t_end if dated else 0.0, p.end_s, [])
            print(json_line(label, dated) if as_json else _text_line(label))
        sys.stdout.flush()
    except BrokenPipeError:  # `hard classify ... | head`; what Python flushes at its end goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    _say_lost(counters)
    if not predictions:
        why = _why_no_window(recording.t, recognizer.model.card.windowing, i.max_gap_s, counters)
        raise HardError(f"{path}: {why}")
    return 0


def _wear(recognizer: Recognizer, device: str, state: Path) -> None:
    """What is kept of the devices counts; HardError where nothing is kept of this one."""
    from hard.personal.profiles import Profiles

    known: list[str] = []

    def take(name: str, rotation: F64 | None, head: Head | None) -> None:
        known.append(name)
        recognizer.wear(name, rotation, head)

    Profiles(state).refresh(take)
    if device not in known:
        there = f"there is: {', '.join(known)}" if known else f"nor has any device in {state}"
        raise HardError(f"--as {device}: it has neither a calibration nor a personal head; {there}")


def _why_no_window(t: F64, windowing: Windowing, max_gap_s: float, counters: Counters) -> str:
    """What is wrong with times (n,) of which no window could be made."""
    from hard.codecs.units import MAX_HZ, MIN_HZ
    from hard.stats import Drop
    from hard.stream import MAX_SAMPLES

    span_s = float(t.max() - t.min())
    if len(t) > 1 and not span_s:
        return f"all {len(t)} samples have the same time; export a time that goes on"
    back = int((t[1:] < t[:-1]).sum())
    if back:
        return f"times go back at {back} of {len(t)} rows; sort them by time"
    rate_hz = (len(t) - 1) / span_s if span_s else 0.0
    usual = f"expected {MIN_HZ:g} to {MAX_HZ:g}"
    if counters[Drop.RATE_TOO_HIGH] or rate_hz * windowing.hop / windowing.rate_hz > MAX_SAMPLES:
        return f"{rate_hz:.4g} samples a second, {usual}: keep fewer rows, or mend the unit of time"
    window_s = windowing.window / windowing.rate_hz
    if counters[Drop.GAP] and span_s >= window_s:
        return (
            f"no {window_s:.2f} s without a gap of more than imu.max_gap_s, {max_gap_s:g} s; {rate_hz:.3g} "
            f"samples a second, {usual}"
        )
    return f"{span_s:.2f} s of samples hold no complete window of {window_s:.2f} s"


def _say_lost(counters: Counters) -> None:
    lost = counters.drops()
    if lost:
        print("lost: " + ", ".join(f"{name} {n}" for name, n in lost.items()), file=sys.stderr)


def _text_line(label: Label) -> str:
    p = label.prediction
    shares = "  ".join(f"{name} {value:.3f}" for name, value in p.probabilities.items())
    line = f"{p.t_end:10.2f} s  {label.activity:<19} {label.confidence:.3f}  raw {p.activity:<19} {shares}"
    why = label.reason or p.reason  # of `unknown`, steady or raw
    return f"{line}  {why}" if why else line
