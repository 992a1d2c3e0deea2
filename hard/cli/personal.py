"""Commands that make it one's own: hard calibrate, record and personalize."""

from __future__ import annotations

import difflib
import sys
from pathlib import Path

import click

from hard.cli.options import (
    Finite,
    acc_unit_option,
    broker_option,
    broker_url,
    daemon_option,
    gyro_unit_option,
    load,
)
from hard.config import reach, state_dir
from hard.types import HardError

after_option = click.option(
    "--after", "after_s", type=Finite(min=0), default=5.0, show_default=True, metavar="SECONDS",
    help="Time to get ready, from the first sample on.",
)  # fmt: skip


@click.command()
@click.argument("device", required=False)
@click.option(
    "--from", "recording", type=click.Path(path_type=Path), metavar="PATH",
    help="A recording with a stand and a walk, as for `hard replay`, instead of the live device.",
)  # fmt: skip
@acc_unit_option
@gyro_unit_option
@click.option("--clear", is_flag=True, help="Take the device's samples as they come again.")
@click.option("--list", "listing", is_flag=True, help="Say which devices are calibrated.")
@after_option
@broker_option
@daemon_option
def calibrate(
    device: str | None, recording: Path | None, acc_unit: str | None, gyro_unit: str | None, clear: bool,
    listing: bool, after_s: float, broker: str | None, config: Path | None,
) -> int:  # fmt: skip
    """Learn which way DEVICE is worn: stand still for three seconds, then walk for ten.

    Its samples are turned to the model's axes from then on, also after a restart.
    """
    from hard.personal.profiles import calibrations

    settings = load(config, {("broker", "url"): ("--broker", broker)})
    shelf = calibrations(reach(state_dir(settings)))
    if listing:
        found = shelf.all()
        for c in found:
            print(f"{c.device}: calibrated {c.made}, likeness of the walk {c.likeness:.2f}")
        if not found:
            print(f"no device is calibrated in {state_dir(settings)}", file=sys.stderr)
        return 0
    if device is None:
        raise click.UsageError("missing DEVICE; its name is in `hard watch`")
    if clear:
        print(f"{device}: {'no longer calibrated' if shelf.remove(device) else 'was not calibrated'}")
        return 0
    from hard.personal.calibrate import calibrate as guide
    from hard.personal.calibrate import keep

    if recording is None:
        return guide(settings, broker_url(settings), device, shelf, after_s)
    from hard.recordings import read_recording

    samples = read_recording(recording, acc_unit, gyro_unit)
    try:
        return keep(samples, device, shelf)
    except HardError as e:
        raise HardError(f"{recording}: {e}") from None


@click.command()
@click.option("--device", required=True, metavar="DEVICE", help="Its name in `hard watch`.")
@click.option("--label", required=True, metavar="LABEL", help="What its person does: sitting, walking, ...")
@click.option("--seconds", type=Finite(min=1), default=60.0, show_default=True, help="By the device's clock.")
@after_option
@broker_option
@daemon_option
def record(
    device: str, label: str, seconds: float, after_s: float, broker: str | None, config: Path | None
) -> int:
    """Keep a live device's samples, with the name of what its person does.

    `hard replay` and `hard classify` read the file; `hard personalize` learns from it.
    """
    from hard.card import find_model, read_card
    from hard.personal.profiles import calibrations
    from hard.personal.record import folder_of
    from hard.personal.record import record as keep

    settings = load(config, {("broker", "url"): ("--broker", broker)})
    models = filter(None, (settings.imu.model, settings.imu.elsewhere_model))
    known = list(dict.fromkeys(label for name in models for label in read_card(find_model(name)).labels))
    if label not in known:
        near = difflib.get_close_matches(label, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"it knows {', '.join(known)}"
        print(
            f"no model knows an activity {label!r}, so `hard personalize` will not take it; {hint}",
            file=sys.stderr,
        )
    state = reach(state_dir(settings))
    calibration = calibrations(state).get(device)
    folder = folder_of(state, device)
    print(keep(settings, broker_url(settings), device, label, seconds, after_s, folder, calibration))
    return 0


@click.command()
@click.argument("device")
@click.option("--undo", is_flag=True, help="Remove the head: the model alone again.")
@daemon_option
def personalize(device: str, undo: bool, config: Path | None) -> int:
    """Adapt the model to the person who wears DEVICE, from their recordings (`hard record`)."""
    from hard.personal.profiles import calibrations, heads

    settings = load(config, {})
    state = reach(state_dir(settings))
    shelf = heads(state)
    if undo:
        print(f"{device}: {'the model alone again' if shelf.remove(device) else 'had no personal head'}")
        return 0
    from hard.personal.personalize import personalize as learn
    from hard.personal.record import folder_of

    calibration = calibrations(state).get(device)
    head = learn(device, folder_of(state, device), settings.imu, calibration, settings.engine)
    path = shelf.put(head)
    print("recorded: " + ", ".join(f"{label} {s:g} s" for label, s in head.seconds.items()))
    print(
        f"right on parts left out: {100 * head.before:.1f} %, with the head {100 * head.after:.1f} %"
        + (", and surer of it" if head.after == head.before else "")
    )
    if not head.calibrated:
        print(
            f"not calibrated: it fits the phone worn as it was; better with `hard calibrate {device}` first"
        )
    print(f"{device}: {head.model} with a head of its own, kept in {path}; --undo removes it")
    return 0
