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
from hard.opencv import need_opencv
from hard.settings import Settings
from hard.sources import WEBCAM
from hard.sources.cameras import Address, Kind, explain, parse
from hard.types import HardError

CAMERA_S: Final = 15.0


def model_lines(settings: Settings) -> Iterator[Line]:
    """Card, sha256 and one forward of every model that the settings name."""
    from hard.model import load_model, load_video_model
    from hard.recognizer import require_no_need_of_gyroscope

    i = settings.imu
    wanted = [("imu.model", i.model), ("imu.acc_model", i.acc_model)]
    wanted += [("imu.elsewhere_model", i.elsewhere_model)] if i.elsewhere_model else []
    if all(name == WEBCAM for name in settings.sources.enabled):
        wanted = []
    for key, name in wanted:
        try:
            model = load_model(name, settings.engine.runtime, settings.engine.precision)
            if key == "imu.acc_model":
                require_no_need_of_gyroscope(model)
        except HardError as e:
            text = f"{key}: {str(e).removeprefix(f'{key}: ')}"
            yield (
                mended("model", text)
                if "; " in text
                else fail("model", text, f"name one of: {', '.join(p.name for p in list_models())}")
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


def camera_lines(settings: Settings, daemon: int | None) -> Iterator[Line]:
    """One picture of the camera, where the settings have it as a source. `daemon`: the running one's pid."""
    if WEBCAM not in settings.sources.enabled:
        return
    try:
        need_opencv()
        address = parse(settings.sources.webcam.camera, settings.sources.webcam.device)
    except HardError as e:
        yield mended("camera", str(e))
    else:
        yield one_frame(address, daemon)


def one_frame(address: Address, daemon: int | None = None, timeout_s: float = CAMERA_S) -> Line:
    """A picture from a camera, stream or film, taken by another process: OpenCV may hang for ever."""
    began_s = time.monotonic()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "hard.doctor.frame"], input=address.place,  # no password for `ps`
            capture_output=True, text=True, timeout=timeout_s, check=False,
            env=os.environ | {"OPENCV_LOG_LEVEL": "SILENT"},
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        if address.kind is Kind.URL:
            return _no_picture(address, daemon)
        return fail("camera", f"{address}: no picture in {timeout_s:g} s", "unplug it and plug it in again")
    if done.returncode != 0:
        return _no_picture(address, daemon)
    took_s = time.monotonic() - began_s
    if "dark" in done.stdout:
        return warn("camera", f"{address}: {done.stdout.strip()}", "is the lens covered, or the light off?")
    return ok("camera", f"{address}: {done.stdout.strip()}, {took_s:.1f} s")


def _no_picture(address: Address, daemon: int | None) -> Line:
    why = explain(address)
    text = f"{address}: {why}"
    if daemon is not None and why.startswith("cannot be opened") and _holds(daemon, address.place):
        return ok("camera", f"{address} is in use by the running daemon")
    if daemon is not None and why.startswith("answers"):  # many serve one reader only
        return warn("camera", f"{address}: answers, but gives no video to a reader beside the running daemon",
                    "if the daemon has none either, check path, user and password")  # fmt: skip
    if "; " in why:
        return mended("camera", text)
    return fail("camera", text, "is the camera on, and its address right?")


def _holds(pid: int, device: str) -> bool:
    """Whether a process has a device open; another user's, which we may not look into, is taken to."""
    try:
        return any(file.resolve() == Path(device).resolve() for file in Path(f"/proc/{pid}/fd").iterdir())
    except PermissionError:
        return True
    except OSError:  # it has ended
        return False
