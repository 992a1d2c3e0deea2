"""Public data sets: where they lie, and recordings -> features through the daemon's own `Imu`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np

from hard.imu import CHANNELS, Imu, Limits
from hard.recordings import Recording
from hard.stats import Counters
from hard.types import F32, HardError, Windowing

CHECKOUT = Path(__file__).resolve().parents[2]


def data_dir(named: Path | None = None, environ: Mapping[str, str] = os.environ) -> Path:
    """The data folder: `named`, else HARD_DATA, else ../shared/data or data/ beside the checkout.

    Raises HardError where there is none; what the caller or the environment names is not second-guessed.
    """
    if named is None and environ.get("HARD_DATA"):
        named = Path(environ["HARD_DATA"])
    places = [named] if named else [CHECKOUT.parent / "shared" / "data", CHECKOUT / "data"]
    for place in places:
        if place.is_dir():
            return place
    looked = ", ".join(str(place) for place in places)
    raise HardError(f"no data folder ({looked}): name one with --data or HARD_DATA")


def features(recordings: Sequence[Recording], windowing: Windowing) -> list[F32]:
    """The continuous feature stream of each recording, (n, 9) on the model's grid, causally filtered.

    Row i is what the daemon knows at sample i, so rows [s, s + window) are a window at any phase; where s is
    a multiple of the hop they are the daemon's window, bit for bit. The last hop is completed with copies of
    the last sample, which come after every row returned. Raises HardError for a recording with a gap.
    """
    imu = Imu(windowing, Limits(max_devices=len(recordings)), Counters())
    lengths = []
    for i, recording in enumerate(recordings):
        whole = recording.chunk(str(i))
        t, samples = whole.t, whole.samples
        n = int((t[-1] - t[0]) * windowing.rate_hz + 1e-3) + 1
        end = max(-(-n // windowing.hop) * windowing.hop, windowing.window)
        extra = np.arange(1, end - n + 1) / windowing.rate_hz
        samples = np.concatenate([samples, np.repeat(samples[-1:], end - n, axis=0)])
        imu.push(msgspec.structs.replace(whole, t=np.concatenate([t, t[-1] + extra]), samples=samples))
        lengths.append(n)
    windows = imu.prepare()
    streams: list[list[F32]] = [[] for _ in recordings]
    if windows is not None:
        for x, device in zip(windows.x, windows.devices, strict=True):
            hops = streams[int(device)]
            hops.append(x[-windowing.hop :] if hops else x)
    out = []
    for recording, hops, n in zip(recordings, streams, lengths, strict=True):
        stream = np.concatenate(hops) if hops else np.empty((0, len(CHANNELS)), np.float32)
        if len(stream) < n:
            raise HardError(f"{recording.name}: a gap or unusable samples; expected an unbroken recording")
        out.append(stream[:n])
    return out


def cut(stream: F32, starts: Sequence[int], window: int) -> F32:
    """Windows of a feature stream by their first rows: (N, window, 9)."""
    return np.stack([stream[s : s + window] for s in starts])
