"""`hard record`: a live device's samples, with the name of what its person does, into a CSV file."""

from __future__ import annotations

import contextlib
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from rich.console import Console

from hard.mqtt.address import BrokerUrl
from hard.personal.capture import Capture, progress_bar
from hard.personal.profiles import Calibration, stem
from hard.recordings import COLUMNS, Recording
from hard.runtime import Stop
from hard.settings import Settings
from hard.types import HardError

PATIENCE_S: Final = 8.0  # without a sample
LABEL: Final = re.compile(r"[a-z][a-z0-9_]*")
_NAME: Final = re.compile(r"([a-z][a-z0-9_]*)-\d{8}T\d{6}Z\.csv$")


def record(
    settings: Settings,
    url: BrokerUrl,
    device: str,
    label: str,
    seconds: float,
    after_s: float,
    folder: Path,
    calibration: Calibration | None = None,
) -> Path:
    """Write `seconds` of the device's own time to <folder>/<label>-<UTC>.csv; returns the file.

    The calibration is kept beside it. Ctrl-C keeps what there is. HardError where nothing comes.
    """
    if not LABEL.fullmatch(label):
        raise HardError(f"label {label!r}: expected small letters, digits and _, such as walking_upstairs")
    stop, console = Stop(), Console(stderr=True)
    with stop.on_signals(), Capture(settings, url, device) as capture, progress_bar(console) as bar:
        bar.console.print(f"listening to {url} for {device}", highlight=False)
        capture.countdown(bar, stop, after_s, PATIENCE_S)
        task, restarts = bar.add_task(f"{device}: {label}", total=seconds), 0
        while not stop.event.is_set():
            capture.take(0.1)
            capture.check(PATIENCE_S)
            if capture.restarts > restarts:
                restarts = capture.restarts
                bar.console.print(f"the clock of {device} jumped: beginning anew", highlight=False)
            t = capture.recording().t
            passed_s = float(t[-1] - t[0]) if len(t) else 0.0
            bar.update(task, completed=min(passed_s, seconds))
            if passed_s >= seconds:
                break
    recording = capture.recording()
    if not len(recording.t):
        raise HardError(f"nothing came from {device!r}; nothing was kept")
    keep = recording.t <= recording.t[0] + seconds
    path = folder / f"{label}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.csv"
    write(path, Recording(device, recording.t[keep], recording.samples[keep]), calibration)
    return path


def folder_of(state: Path, device: str) -> Path:
    """Where a device's recordings lie."""
    return state / "recordings" / stem(device)


def recordings(folder: Path) -> list[tuple[str, Path]]:
    """The recordings in a folder, oldest first, each with its label."""
    found = [(match[1], path) for path in folder.glob("*.csv") if (match := _NAME.match(path.name))]
    return sorted(found, key=lambda item: item[1].name.rpartition("-")[2])


def read_calibration(path: Path) -> Calibration | None:
    """How the phone was worn in a recording, where that is kept beside it."""
    beside = path.with_suffix(".json")
    try:
        return msgspec.json.decode(beside.read_bytes(), type=Calibration)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as e:
        raise HardError(f"{beside}: {e}; remove it and its recording") from None


def write(path: Path, recording: Recording, calibration: Calibration | None = None) -> None:
    """A CSV that `hard replay` and `hard classify` read, in one step; a calibration is kept beside it."""
    part, beside = path.with_suffix(".part"), path.with_suffix(".json")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        table = np.column_stack([recording.t, recording.samples])  # (n, 7) or (n, 4)
        width = table.shape[1]
        form = ["%.6f"] + ["%.7g"] * (width - 1)
        np.savetxt(part, table, form, ",", header=",".join(COLUMNS[:width]), comments="")
        if calibration is not None:
            beside.write_bytes(msgspec.json.encode(calibration))
        part.replace(path)
    except OSError as e:
        with contextlib.suppress(OSError):  # the folder may be none
            part.unlink(missing_ok=True)
            beside.unlink(missing_ok=True)
        raise HardError(f"{path}: {e.strerror}; set state_dir to a folder that can be written") from None
