"""The daemon with a camera: CPU of a frame, latency of a label, and what the cached path saves."""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Final

import click
import cv2
import msgspec
import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hard.broker import Broker, parse_url
from hard.frames import squeeze
from hard.model import load_video_model
from hard.settings import VideoSettings
from hard.stats import Counters
from tools.bench_phones import START_S, child, cpu, mosquitto, percentiles, sleep_until

WARM_UP_S: Final = 4.0
FILM_S: Final = 10.0
DEVICE: Final = "bench"


class CameraReport(msgspec.Struct):
    """What `webcam` prints; CPU is the daemon's whole process, latency is seen by another process."""

    rate_hz: float
    size: str
    seconds: float
    cpu_us_per_frame: float  # JPEG decoding included
    cpu_share_of_a_core: float
    latency_ms: dict[str, float]  # from a frame's arrival to its label's, at a subscriber
    daemon_latency_ms: dict[str, float]  # the daemon's own figure: arrival to publishing
    labels: int
    rss_mb: float
    squeeze_us: float  # this and the rest: CPU, in a process of its own, medians of five
    encode_us: float  # one frame
    classify_us: float  # one clip of embeddings
    whole_clip_us: float  # all frames of a clip, and classify
    cached_us_per_frame: float  # encode each frame the model looks at, classify every few
    times_cheaper: float  # than the whole clip anew for each of these frames
    times_cheaper_alone: float  # the same if classify, too, ran for each of them


def measure(rate_hz: float, width: int, height: int, seconds: float, model: str) -> CameraReport:
    """A daemon without a window, and a film in real time as its camera."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        film = make_film(Path(folder) / f"{DEVICE}.avi", rate_hz, width, height)
        url = stack.enter_context(mosquitto(Path(folder)))
        heard = Heard(url, stack)
        daemon = stack.enter_context(
            child("-m", "hard", "run", "--source", "webcam", "--camera", str(film), "--loop", "--broker", url)
        )
        heard.wait()
        process = psutil.Process(daemon.pid)
        sleep_until(time.monotonic() + WARM_UP_S)
        heard.labels.clear()
        cpu_s, began_s = cpu(process), time.monotonic()
        sleep_until(began_s + seconds)
        cpu_s, measured_s = cpu(process) - cpu_s, time.monotonic() - began_s
        labels, rss = list(heard.labels), process.memory_info().rss
    costs = steps(model)
    return CameraReport(
        rate_hz=rate_hz,
        size=f"{width}x{height}",
        seconds=round(measured_s, 1),
        cpu_us_per_frame=round(cpu_s / measured_s / rate_hz * 1e6, 1),
        cpu_share_of_a_core=round(cpu_s / measured_s, 4),
        latency_ms=percentiles([late_ms for late_ms, _ in labels]),
        daemon_latency_ms=percentiles([own_ms for _, own_ms in labels]),
        labels=len(labels),
        rss_mb=round(rss / 2**20, 1),
        **costs,
    )


class Heard:
    """A subscriber: how late every label came, and what the daemon says of that."""

    def __init__(self, url: str, stack: contextlib.ExitStack) -> None:
        self.labels: list[tuple[float, float]] = []  # ms
        broker = Broker(parse_url(url), Counters())
        broker.listen({f"hard/{DEVICE}/activity": 0}, self._take)
        broker.start()
        stack.callback(broker.stop)
        if not broker.wait_ready(START_S):
            raise click.ClickException(f"no broker answers at {url}")

    def _take(self, _topic: str, payload: bytes) -> None:
        now_s = time.time()
        label = json.loads(payload)
        seen_s = datetime.fromisoformat(label["window_end"]["utc"]).timestamp()  # in whole milliseconds
        self.labels.append(((now_s - seen_s) * 1000, label["latency_ms"]))

    def wait(self) -> None:
        deadline_s = time.monotonic() + START_S
        while not self.labels:
            if time.monotonic() > deadline_s:
                raise click.ClickException("no label came; run `hard run --source webcam` to see why")
            time.sleep(0.02)


def make_film(path: Path, rate_hz: float, width: int, height: int) -> Path:
    """Motion JPEG, as webcams send it: something that moves in a room that does not, and a sensor's noise."""
    rng = np.random.default_rng(0)
    shapes = rng.integers(0, 255, (12, 16, 3), np.uint8)
    room = cv2.resize(shapes, (width, height), interpolation=cv2.INTER_CUBIC)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), rate_hz, (width, height))
    for k in range(int(FILM_S * rate_hz)):
        frame = room.copy()
        x, y = 0.5 + 0.3 * np.cos(k / rate_hz * 4), 0.5 + 0.3 * np.sin(k / rate_hz * 3)
        cv2.circle(frame, (int(width * x), int(height * y)), height // 6, (60, 90, 200), -1)
        noise = rng.integers(0, 8, (height, width, 1), np.uint8)
        writer.write(cv2.add(frame, np.repeat(noise, 3, axis=2)))
    writer.release()
    return path


def steps(model_name: str) -> dict[str, float]:
    """CPU µs of each step, and of the two ways to a label."""
    model = load_video_model(model_name)
    clip = model.card.clip
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 255, (480, 640, 3), np.uint8)
    frames = rng.integers(0, 255, (clip.frames, clip.size, clip.size, 3), np.uint8)
    embeddings = model.encode(frames)[None]
    squeeze_us = spent_us(lambda: squeeze(picture, clip.size))
    encode_us = spent_us(lambda: model.encode(frames[:1]))
    classify_us = spent_us(lambda: model.classify(embeddings))
    whole_us = spent_us(lambda: model.classify(model.encode(frames)[None]))
    cached_us = encode_us + classify_us / VideoSettings().every_frames
    spent = {
        "squeeze_us": squeeze_us, "encode_us": encode_us, "classify_us": classify_us,
        "whole_clip_us": whole_us, "cached_us_per_frame": cached_us,
    }  # fmt: skip
    spent |= {
        "times_cheaper": whole_us / cached_us,
        "times_cheaper_alone": whole_us / (encode_us + classify_us),
    }
    return {name: round(value, 2) for name, value in spent.items()}


def spent_us(do: Callable[[], object]) -> float:
    """CPU time of one call: the median of five rounds of fifty."""
    rounds = []
    for _ in range(6):
        began_s = time.thread_time()
        for _ in range(50):
            do()
        rounds.append((time.thread_time() - began_s) / 50 * 1e6)
    return sorted(rounds[1:])[2]
