"""The values that travel through the pipeline: units, shapes and who owns them."""

from __future__ import annotations

import enum
import math
from typing import Annotated, Literal, TypeAlias

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

F32: TypeAlias = NDArray[np.float32]
F64: TypeAlias = NDArray[np.float64]
U8: TypeAlias = NDArray[np.uint8]

G = 9.80665  # standard gravity, m/s²: one g
MAX_TIME_S = 1e11  # of any device's clock, either way: beyond, seconds are milli- or nanoseconds, or nonsense
UNKNOWN = "unknown"  # the activity where none can be told


class HardError(Exception):
    """A mistake that a person can mend; the text is one line and names the fix."""


class Message(msgspec.Struct, frozen=True, gc=False):
    """One payload as it arrived; immutable, so any thread may keep it."""

    topic: str
    payload: bytes
    arrival_s: float  # time.monotonic() at arrival


class Chunk(msgspec.Struct, frozen=True, gc=False):
    """Consecutive samples of one device, in SI units; nobody writes to the arrays after creation.

    Acceleration is specific force in the Android convention: +9.8 m/s² on the axis that points up at rest.
    """

    device: str
    t: F64  # (n,) seconds, on the device's own clock
    samples: F32  # (n, 6) ax ay az [m/s²], gx gy gz [rad/s]
    arrival_s: float  # time.monotonic() at arrival of the message that carried it
    gyro: bool = True  # False: the device has no gyroscope; those columns are zero


class Frame(msgspec.Struct, frozen=True):
    """One picture of a camera; nobody writes to the pixels after creation."""

    pixels: U8  # (h, w, 3) BGR, of any size
    t: float  # seconds on the camera's own clock: since it was started, or in a file's playback
    place: int | None  # on the model's grid in time (see video.Grid); None: only to be shown
    arrival_s: float  # time.monotonic() when it was grabbed
    rate_hz: float  # measured, of all frames that the camera gives


class Sensor(enum.Enum):
    """What a phone app may send as a stream of its own."""

    ACC = "total acceleration"  # specific force: gravity included
    LINEAR = "acceleration without gravity"
    GRAVITY = "gravity"
    GYRO = "angular velocity"

    __hash__ = object.__hash__  # members are singletons; Enum's own takes ten times as long


class Readings(msgspec.Struct, frozen=True, gc=False):
    """Consecutive values of one sensor of one device; hard.align joins them into Chunks.

    Acceleration in the Android convention, as in Chunk; nobody writes to the arrays after creation.
    """

    device: str
    sensor: Sensor
    t: F64  # (n,) seconds, on the device's own clock, the same for all its sensors
    xyz: F64  # (n, 3) m/s² or rad/s
    arrival_s: float


class Windowing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a model wants its windows; comes from the model's card."""

    rate_hz: float = 50.0
    window: int = 128  # samples
    hop: int = 64  # samples
    cutoff_hz: float = 0.3  # gravity low-pass, Butterworth
    order: int = 3

    def __post_init__(self) -> None:
        if self.hop < 2 or self.window < self.hop or self.window % self.hop:
            raise ValueError(
                f"window {self.window} is to be a multiple of hop {self.hop}, and that 2 samples or more"
            )
        if not 0 < self.cutoff_hz < self.rate_hz / 2 or self.order < 1:
            raise ValueError(
                f"cutoff_hz {self.cutoff_hz:g} is to be above 0 and below half of rate_hz {self.rate_hz:g}, "
                f"and order {self.order} at least 1"
            )


class Clip(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a video model wants its clips; comes from the model's card."""

    frames: int = 20  # evenly spaced in time
    rate_hz: float = 10.0  # of those frames: 20 at 10 Hz span 1.9 s
    size: int = 64  # pixels; a frame is squeezed to a square, whatever its aspect


class MotionRange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The most motion, over a window, that a model saw in training; comes from the model's card."""

    max_body_g: float  # rms body acceleration
    max_gyro_rad_s: float  # rms angular velocity
    max_tilt_deg: float | None = None  # between the mean accelerations of its two halves; None: no bound


class Worn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a model wants a phone to be carried; comes from the model's card."""

    up: Annotated[
        list[float], Meta(min_length=3, max_length=3)
    ]  # in the phone's axes, while its person walks
    within_deg: Annotated[float, Meta(gt=0.0, le=90.0)]  # and how far it may be off


class Windows(msgspec.Struct, frozen=True):
    """A batch of N windows, ready for a model, in the order of each device's time."""

    x: F32  # (N, window, 9) body acceleration [g], gyroscope [rad/s], total acceleration [g]
    devices: list[str]
    t_end: F64  # (N,) device seconds of each window's last sample
    arrival_s: F64  # (N,) monotonic arrival of the message that completed it
    end_s: F64  # (N,) monotonic time of each window's last sample, by the device's clock
    rate_hz: F64  # (N,) measured input rate over the last hop
    gaps: list[int]  # restarts of the device's window so far


class Prediction(msgspec.Struct, frozen=True, gc=False):
    """What a model says of one window; `reason` tells why an activity is `unknown`."""

    device: str
    t_end: float  # device seconds of the window's last sample
    activity: str
    confidence: float  # probability of `activity`; 0 where it is `unknown`
    probabilities: dict[str, float]
    rate_hz: float
    gaps: int
    arrival_s: float
    end_s: float  # monotonic time of the window's last sample, by the device's clock
    model: str
    model_hash: str  # first 12 digits of its sha256
    reason: str | None = None
    movement_g: float = math.inf  # rms body acceleration of the window; infinite: not measured
    passing: bool = False  # `unknown` between two postures: the steady label goes on by the probabilities
    averaging_s: float = math.inf  # the smoother averages for no longer; see the model's card


class Label(msgspec.Struct, frozen=True, gc=False):
    """A device's steady activity at a window's end, as subscribers get it, with the window's prediction."""

    prediction: Prediction
    activity: str  # steady; see smoothing.py
    confidence: float  # steady, 0-1; 0 where the activity is `unknown`
    reason: str | None  # why the activity is `unknown`
    since_s: float  # UTC seconds (epoch) of the end of the first window with this steady activity
    window_end_s: float  # UTC seconds (epoch), estimated from the arrival
    seq: int  # counts the device's labels from 1
    latency_ms: float  # from the reading of the window's last sample to the moment of publishing


class DayTotals(msgspec.Struct, frozen=True, gc=False):
    """What a device did on one day; nobody writes to `seconds` after creation."""

    device: str
    day: str  # local, ISO 8601
    seconds: dict[str, float]  # by steady activity


class Event(msgspec.Struct, frozen=True, gc=False):
    """A person begins or ends a steady activity; `unknown` is none, and has no events."""

    device: str
    type: Literal["enter", "exit"]
    activity: str
    t: float  # device seconds, the end of a window
    utc_s: float  # the same moment in UTC seconds (epoch), estimated from the arrival
    dwell_s: float | None = None  # of an exit: device seconds since its enter
