"""`hard calibrate`: stand, walk, and the daemon knows which way a device is worn."""

from __future__ import annotations

import time
from typing import Final

import numpy as np
from rich.console import Console

from hard.mqtt.address import BrokerUrl
from hard.personal import gait
from hard.personal.capture import Capture, progress_bar
from hard.personal.profiles import Calibration, Shelf, now
from hard.recordings import Recording
from hard.runtime import Stop
from hard.settings import Settings
from hard.types import HardError

PATIENCE_S: Final = 8.0  # without a sample
LONGEST_S: Final = 90.0  # for the whole


def calibrate(
    settings: Settings, url: BrokerUrl, device: str, shelf: Shelf[Calibration], after_s: float
) -> int:
    """Guide a person through standing and walking, and keep the rotation found."""
    stop, console = Stop(), Console(stderr=True)
    with stop.on_signals(), Capture(settings, url, device) as capture:
        console.print(f"listening to {url} for {device}; wear it where it stays", highlight=False)
        recording = _guide(capture, stop, console, after_s)
    return keep(recording, device, shelf)


def keep(recording: Recording, device: str, shelf: Shelf[Calibration]) -> int:
    """Find how the device was worn in a recording and keep that; HardError says what is missing in it."""
    worn = gait.fit(recording.t, recording.samples[:, :3].astype(np.float64))
    path = shelf.put(Calibration(device, now(), worn.rotation, worn.likeness))
    print(f"{device}: calibrated (likeness of the walk {worn.likeness:.2f}); kept in {path}")
    print("a daemon with this state folder uses it from its next second on")
    return 0


def _guide(capture: Capture, stop: Stop, console: Console, after_s: float) -> Recording:
    """Samples in which somebody stands, then walks, for long enough."""
    with progress_bar(console) as bar:
        capture.countdown(bar, stop, after_s, PATIENCE_S)
        stand = bar.add_task("stand still", total=gait.STAND_S)
        walk = bar.add_task("then walk", total=gait.WALK_S)
        end_s = time.monotonic() + LONGEST_S
        while time.monotonic() < end_s and not stop.event.is_set():
            capture.take(0.1)
            capture.check(PATIENCE_S)
            recording = capture.recording()
            stood, walked = gait.progress(
                gait.seconds(recording.t, recording.samples[:, :3].astype(np.float64))
            )
            bar.update(stand, completed=stood)
            bar.update(walk, completed=walked)
            if walked == gait.WALK_S:
                return recording
    if stop.event.is_set():
        raise KeyboardInterrupt
    raise HardError(
        f"{LONGEST_S:g} s without {gait.STAND_S} s of standing and then {gait.WALK_S} s of walking; try again"
    )
