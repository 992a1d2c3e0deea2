"""Models, serial ports and cameras, each tried as the daemon will use it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from hard.card import list_models
from hard.doctor.line import Line, fail, mended, ok, warn
from hard.settings import Settings
from hard.sources import WEBCAM
from hard.sources.cameras import parse
from hard.types import HardError

CAMERA_S: Final = 15.0


def model_lines(settings: Settings) -> Iterator[Line]:
    """Card, sha256 and one forward of every model that the settings name."""
    from hard.model import load_model, load_video_model

    i = settings.imu
    wanted = [("imu.model", i.model), ("imu.acc_model", i.acc_model)]
    wanted += [("imu.elsewhere_model", i.elsewhere_model)] if i.elsewhere_model else []
    if all(name == WEBCAM for name in settings.sources.enabled):
        wanted = []
    for key, name in wanted:
        try:
            model = load_model(name, settings.engine.runtime, settings.engine.precision)
        except HardError as e:
            yield (
                mended("model", f"{key}: {e}")
                if "; " in str(e)
                else fail("model", f"{key}: {e}", f"name one of: {', '.join(p.name for p in list_models())}")
            )
            continue
        import numpy as np

        from hard.imu import CHANNELS

        model.warm_up(1)
        began_s = time.perf_counter()
        model.predict(np.zeros((1, model.card.windowing.window, len(CHANNELS)), np.float32))
        took_ms = (time.perf_counter() - began_s) * 1000
        yield ok("model", f"{name}: sha256 {model.card.sha256[:12]}, {len(model.card.labels)} labels, "
                 f"one window in {took_ms:.1f} ms")  # fmt: skip
    if WEBCAM in settings.sources.enabled:
        try:
            film = load_video_model(settings.video.model)  # which looks at one clip
        except HardError as e:
            yield mended("model", f"video.model: {e}")
        else:
            yield ok(
                "model", f"{film.card.name}: sha256 {film.card.sha256[:12]}, {len(film.card.labels)} labels"
            )


def serial_lines(settings: Settings, in_use: bool) -> Iterator[Line]:
    """Every serial port of the settings, opened and closed. `in_use`: a daemon runs, which has them open."""
    if "serial" not in settings.sources.enabled:
        return
    from hard.sources.ports import by_device
    from hard.sources.serial import probe

    try:
        ports = by_device(settings.sources.serial)
    except HardError as e:
        yield mended("serial", str(e))
        return
    for device, port in ports.items():
        trouble = probe(port)
        if trouble is None:
            yield ok("serial", f"{device}: {port.port} opens at {port.baud} baud")
        elif in_use and "in use" in trouble:
            yield ok("serial", f"{device}: {port.port} is in use by the running daemon")
        else:
            yield mended("serial", f"{device}: {trouble}")


def camera_lines(settings: Settings) -> Iterator[Line]:
    """One picture of the camera, where the settings have it as a source."""
    if WEBCAM in settings.sources.enabled:
        try:
            address = parse(settings.sources.webcam.camera, settings.sources.webcam.device)
        except HardError as e:
            yield mended("camera", str(e))
        else:
            yield one_frame(address.place, str(address))


def one_frame(place: str, camera: str, timeout_s: float = CAMERA_S) -> Line:
    """A picture from a camera, stream or film, taken by another process: OpenCV may hang for ever."""
    began_s = time.monotonic()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "hard.doctor.frame"], input=place,  # it may hold a password: not for `ps`
            capture_output=True, text=True, timeout=timeout_s, check=False,
            env=os.environ | {"OPENCV_LOG_LEVEL": "SILENT"},
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return fail("camera", f"{camera}: no picture in {timeout_s:g} s", "unplug it and plug it in again")
    if done.returncode != 0:
        why = "busy" if Path(camera).exists() else "not there"
        return fail("camera", f"{camera}: {why}, or no camera",
                    "end what uses it (fuser -v /dev/video0); this user needs the group video")  # fmt: skip
    took_s = time.monotonic() - began_s
    if "dark" in done.stdout:
        return warn("camera", f"{camera}: {done.stdout.strip()}", "is the lens covered, or the light off?")
    return ok("camera", f"{camera}: {done.stdout.strip()}, {took_s:.1f} s")
