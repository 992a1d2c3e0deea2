"""MotionSense (Malekzadeh et al.): an iPhone 6s in the front trouser pocket, one activity a recording."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import msgspec

from hard.recordings import Recording, read_recording
from hard.types import HardError

ACTIVITIES: Final = {
    "wlk": "walking",
    "ups": "walking_upstairs",
    "dws": "walking_downstairs",
    "jog": "running",
    "sit": "sitting",
    "std": "standing",
}
_TRIAL: Final = re.compile(r"([a-z]+)_(\d+)$")
_USER: Final = re.compile(r"sub_(\d+)\.csv(\.gz)?$")


class Trial(msgspec.Struct, frozen=True):
    """One recording of one person, who does the same from beginning to end."""

    user: int
    number: int
    activity: str
    recording: Recording


def read_trials(data: Path, users: frozenset[int] | None = None) -> list[Trial]:
    """All recordings of these users (None: of everyone), by user and trial, in the Android sign."""
    folder = data / "motionsense" / "A_DeviceMotion_data"
    found = []
    for path in folder.glob("*_*/sub_*.csv*"):
        trial, user = _TRIAL.match(path.parent.name), _USER.match(path.name)
        if trial and user and trial[1] in ACTIVITIES and (users is None or int(user[1]) in users):
            found.append((int(user[1]), int(trial[2]), ACTIVITIES[trial[1]], path))
    if not found:
        raise HardError(
            f"{folder}: no wlk_7/sub_1.csv and the like; expected MotionSense's A_DeviceMotion_data "
            "(tools/fetch_data.py fetches it)"
        )
    return [Trial(user, n, name, read_recording(path)) for user, n, name, path in sorted(found)]
