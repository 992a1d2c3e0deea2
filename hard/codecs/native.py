"""hard's own wire format on hard/<device>/imu: a packed binary chunk, and a JSON twin to type by hand."""

from __future__ import annotations

import functools
import math
import struct
from collections.abc import Sequence
from typing import Final, Literal

import msgspec
import numpy as np

from hard.codecs import UNREADABLE, CodecOptions, PayloadError
from hard.stats import Counters
from hard.types import F64, MAX_TIME_S, Chunk, G, Message

MAGIC: Final = b"HARD"
VERSION: Final = 1
HEADER: Final = struct.Struct("<4sBBHdd")  # magic, version, flags, count, rate [Hz], first timestamp [s]
ACC_IN_G: Final = 1
GYRO_IN_DEG: Final = 2
OWN_TIMES: Final = 4  # after the header: one float64 timestamp [s] per row, for irregular sampling
NO_GYRO: Final = 8  # the phone has no gyroscope: gx gy gz hold nothing
MAX_COUNT: Final = 4096
MIN_RATE_HZ: Final = 1.0
MAX_RATE_HZ: Final = 1000.0

_ROW = np.dtype(("<f4", 6))


class Twin(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The JSON twin."""

    t: float | list[float]
    samples: list[tuple[float, float, float, float, float, float]]
    rate: float | None = None
    acc: Literal["m/s2", "g"] = "m/s2"
    gyro: Literal["rad/s", "deg/s", "none"] = "rad/s"


_TWIN = msgspec.json.Decoder(Twin)


class NativeCodec:
    """Decodes both forms; the device is the topic level before the last. Keeps no state."""

    def __init__(self, options: CodecOptions, counters: Counters) -> None:
        pass

    def decode(self, message: Message) -> Sequence[Chunk]:
        payload = message.payload
        if payload[:4] == MAGIC:
            t, samples, flags = _unpack(payload)
        elif payload.lstrip()[:1] == b"{":
            t, samples, flags = _from_json(payload)
        else:
            raise PayloadError(f"starts with {payload[:8]!r}; expected {MAGIC!r} or a JSON object")
        if flags & (ACC_IN_G | GYRO_IN_DEG):
            with np.errstate(over="ignore"):  # becomes infinity, and is dropped as such
                samples = samples * _scale(flags)
        gyro = not flags & NO_GYRO
        if not gyro:
            samples = np.pad(samples[:, :3], ((0, 0), (0, 3)))
        device = message.topic.rsplit("/", 2)[-2:][0]  # PREFIX/DEVICE/imu; or the only level
        return (Chunk(device, t, samples, message.arrival_s, gyro),)


def encode(t: F64, samples: np.ndarray, rate_hz: float | None = None) -> bytes:
    """Pack 1 to 4,096 samples in m/s² and rad/s: (n, 6), or (n, 3) without a gyroscope.

    With `rate_hz`, sampling is uniform from t[0]; without, each row carries its own timestamp.
    """
    flags = OWN_TIMES if rate_hz is None else 0
    if samples.shape[1] == 3:
        flags |= NO_GYRO
        samples = np.pad(samples, ((0, 0), (0, 3)))
    head = HEADER.pack(MAGIC, VERSION, flags, len(samples), rate_hz or 0.0, t[0])
    times = b"" if rate_hz else np.ascontiguousarray(t, "<f8").tobytes()
    return head + times + np.ascontiguousarray(samples, "<f4").tobytes()


def _unpack(payload: bytes) -> tuple[F64, np.ndarray, int]:
    if len(payload) < HEADER.size:
        raise PayloadError(f"{len(payload)} bytes; the header alone has {HEADER.size}")
    _, version, flags, count, rate, first = HEADER.unpack_from(payload)
    if version != VERSION:
        raise PayloadError(f"version {version}; expected {VERSION}")
    if flags & ~(ACC_IN_G | GYRO_IN_DEG | OWN_TIMES | NO_GYRO):
        raise PayloadError(f"unknown flags in {flags:#04x}")
    if not 1 <= count <= MAX_COUNT:
        raise PayloadError(f"count {count}; expected 1-{MAX_COUNT}")
    times = count * 8 if flags & OWN_TIMES else 0
    size = HEADER.size + times + count * 24
    if len(payload) != size:
        raise PayloadError(f"{len(payload)} bytes; {count} rows make {size}")
    if times:
        t = np.frombuffer(payload, "<f8", count, HEADER.size)
        _check_times(t)
    else:
        t = _uniform(first, rate, count)
    return t, np.frombuffer(payload, _ROW, count, HEADER.size + times), flags


def _from_json(payload: bytes) -> tuple[F64, np.ndarray, int]:
    try:
        twin = _TWIN.decode(payload)
    except UNREADABLE as e:
        raise PayloadError(f"JSON: {e}") from None
    count = len(twin.samples)
    if not 1 <= count <= MAX_COUNT:
        raise PayloadError(f"{count} samples; expected 1-{MAX_COUNT}")
    if isinstance(twin.t, list):
        if len(twin.t) != count:
            raise PayloadError(f"{len(twin.t)} times for {count} samples")
        t = np.array(twin.t, np.float64)
        _check_times(t)
    elif twin.rate is None and count > 1:
        raise PayloadError("rate is missing; with one t for several samples it is needed")
    else:
        t = _uniform(twin.t, twin.rate or MIN_RATE_HZ, count)
    with np.errstate(over="ignore"):  # beyond float32 becomes infinity, and is dropped as such
        samples = np.array(twin.samples, np.float64).astype(np.float32)
    flags = (
        ACC_IN_G * (twin.acc == "g") | GYRO_IN_DEG * (twin.gyro == "deg/s") | NO_GYRO * (twin.gyro == "none")
    )
    return t, samples, flags


def _uniform(first: float, rate: float, count: int) -> F64:
    if not MIN_RATE_HZ <= rate <= MAX_RATE_HZ:
        raise PayloadError(f"rate {rate:g} Hz; expected {MIN_RATE_HZ:g}-{MAX_RATE_HZ:g}")
    if not abs(first) <= MAX_TIME_S:
        raise PayloadError(f"first timestamp {first:g}; expected seconds")
    return first + _offsets(rate, count)


@functools.lru_cache(maxsize=64)  # few rates and counts are in use
def _offsets(rate: float, count: int) -> F64:
    """Seconds since the first sample, (count,)."""
    offsets: F64 = np.arange(count) / rate
    offsets.flags.writeable = False
    return offsets


def _check_times(t: F64) -> None:
    if not np.abs(t).max() <= MAX_TIME_S:
        raise PayloadError("timestamps are not finite seconds")


def _scale(flags: int) -> np.ndarray:
    acc = G if flags & ACC_IN_G else 1.0
    gyro = math.pi / 180 if flags & GYRO_IN_DEG else 1.0
    return np.array([acc] * 3 + [gyro] * 3, np.float32)
