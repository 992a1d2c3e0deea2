"""What `hard run` can be told: frozen settings with their defaults; config/hard.yaml says what they mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from hard.codecs import CodecOptions
from hard.mqtt.topics import FILTER, MAX_CHARACTERS, TOPIC

FLOOR: Final = 0.02  # a window's probabilities count as at least this: no single window settles anything

Port = Annotated[int, Meta(ge=1, le=65535)]
Qos = Annotated[int, Meta(ge=0, le=2)]
Count = Annotated[int, Meta(ge=1)]
Seconds = Annotated[float, Meta(gt=0)]
TopicPrefix = Annotated[
    str,
    Meta(
        pattern=TOPIC,
        max_length=MAX_CHARACTERS,
        description="a topic such as hard or home/hard: no + or #, and no empty level",
    ),
]
DeviceName = Annotated[
    str,
    Meta(
        pattern=r"\A[^+#/$\x00-\x1f\x7f]{1,64}\Z",
        description="a name of 1 to 64 characters, such as wrist: no + # / $",
    ),
]
TopicFilter = Annotated[
    str,
    Meta(
        # alone, # would read our own labels, and everybody's everything; a share, a part of each device
        pattern=rf"(?!\A(?:#\Z|\$share/)){FILTER}",
        max_length=MAX_CHARACTERS,
        description="a topic filter such as hard/+/imu or phones/#: + stands for one whole level, # for all "
        "those after the first ones; no $share/",
    ),
]
"""An error says a description instead of the pattern."""


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A part of the settings."""


class TlsSettings(Section, frozen=True):
    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    insecure: bool = False


class BrokerSettings(Section, frozen=True):
    url: str | None = None
    username: str | None = None
    password: str | None = None
    password_file: str | None = None
    tls: TlsSettings = TlsSettings()
    protocol: Literal["3.1.1", "5"] = "3.1.1"
    keepalive_s: Annotated[int, Meta(ge=5, le=65535)] = 30
    max_queued: Count = 10_000

    def __repr__(self) -> str:
        return "BrokerSettings(...)"  # no password in a traceback


class EmbeddedSettings(Section, frozen=True):
    port: Port = 1883
    listen: Literal["loopback", "lan"] = "loopback"
    username: Annotated[str, Meta(min_length=1)] = "hard"
    password: Annotated[str, Meta(min_length=8)] | None = None

    def __repr__(self) -> str:
        return "EmbeddedSettings(...)"


class TopicSettings(CodecOptions, frozen=True, kw_only=True):
    filter: TopicFilter
    codec: str = "auto"


APP_TOPICS: Final = (
    TopicSettings(filter="hard/+/imu", codec="native"),
    TopicSettings(filter="sensor-logger", codec="sensor-logger"),
    TopicSettings(filter="android/sensor", codec="android-sensor"),
    TopicSettings(filter="android/sensor/+", codec="android-sensor"),
    TopicSettings(filter="phyphox/+", codec="phyphox"),
    TopicSettings(filter="hyperimu/+", codec="hyperimu"),
)


def native_topic(topics: Sequence[TopicSettings], device: str) -> str | None:
    """Where these take the native format of a device from; None where they do not."""
    for topic in sorted(topics, key=lambda t: t.codec != "native"):
        *levels, last = topic.filter.split("/")
        if last == "#":
            levels, last = [*levels, "+"] if levels else ["hard", "+"], "imu"
        levels = ["hard" if level == "+" else level for level in levels[:-1]] + levels[-1:]
        if topic.codec in ("native", "auto") and levels and levels[-1] in ("+", device):
            return "/".join([*levels[:-1], device, "imu" if last == "+" else last])
    return None


class MqttSourceSettings(Section, frozen=True):
    topics: Annotated[
        tuple[TopicSettings, ...], Meta(description="a list such as [{filter: hard/+/imu, codec: native}]")
    ] = APP_TOPICS
    qos: Qos = 0
    max_payload_bytes: Count = 262_144


class PortSettings(CodecOptions, frozen=True, kw_only=True):
    """One serial port."""

    port: str | None = None
    baud: Annotated[int, Meta(ge=300, le=4_000_000)] = 115_200
    device: DeviceName | None = None


class SerialSourceSettings(PortSettings, frozen=True, kw_only=True):
    ports: Annotated[
        tuple[PortSettings, ...], Meta(description="a list such as [{port: /dev/ttyUSB0, device: wrist}]")
    ] = ()


class WebcamSettings(Section, frozen=True):
    """One camera; `camera` may hold a password."""

    camera: str = "0"
    device: DeviceName | None = None
    loop: bool = False
    width: Annotated[int, Meta(ge=16, le=8192)] = 640
    height: Annotated[int, Meta(ge=16, le=8192)] = 480
    rate_hz: Annotated[float, Meta(ge=1.0, le=240.0)] = 30.0
    timeout_s: Annotated[float, Meta(ge=0.5, le=60.0)] = 3.0
    frozen_s: Annotated[float, Meta(ge=1.0)] | None = 5.0

    def __repr__(self) -> str:
        return "WebcamSettings(...)"


class SourcesSettings(Section, frozen=True):
    enabled: Annotated[
        tuple[str, ...], Meta(min_length=1, description="a list such as [mqtt] or [mqtt, serial]")
    ] = ("mqtt",)
    mqtt: MqttSourceSettings = MqttSourceSettings()
    serial: SerialSourceSettings = SerialSourceSettings()
    webcam: WebcamSettings = WebcamSettings()


class ImuSettings(Section, frozen=True):
    model: str = "lstm-waist"
    acc_model: str = "lstm-acc"
    elsewhere_model: str | None = "lstm-pocket"
    max_gap_s: Annotated[float, Meta(ge=0.05, le=2.0)] = 0.2
    min_rate_hz: Annotated[float, Meta(ge=5.0, le=50.0)] = 19.0
    max_devices: Count = 20_000
    evict_after_s: Seconds = 300.0


class EngineSettings(Section, frozen=True):
    tick_ms: Annotated[float, Meta(ge=1.0, le=1000.0)] = 20.0
    inbox_messages: Count = 100_000
    inbox_mb: Count = 64
    max_age_s: Seconds = 5.0
    runtime: Literal["torch", "onnx"] = "torch"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"


class SmoothingSettings(Section, frozen=True):
    """Tuned on predictions for HAPT's training people by models that did not see them; see smoothing.py."""

    time_constant_s: Annotated[float, Meta(gt=0.0, le=60.0)] = 0.5
    settle_s: Annotated[float, Meta(ge=0.0, le=60.0)] = 3.0
    still_time_constant_s: Annotated[float, Meta(gt=0.0, le=600.0)] = 4.0
    hysteresis: Annotated[float, Meta(ge=1.0)] = 28.0
    min_hold_s: Annotated[float, Meta(ge=0.0, le=600.0)] = 2.0
    min_confidence: Annotated[float, Meta(ge=0.0, lt=1.0)] = 0.35
    restart_s: Seconds = 10.0

    def __post_init__(self) -> None:
        if self.hysteresis >= 1 / FLOOR:
            raise ValueError(
                f"hysteresis {self.hysteresis:g} is never reached: a window counts at most {1 / FLOOR:g} to 1"
            )
        if self.min_confidence > 0.5:
            raise ValueError(
                f"min_confidence {self.min_confidence:g} makes every change pass through unknown, since two "
                "activities share the confidence then; expected 0.5 or less"
            )
        if self.still_time_constant_s < self.time_constant_s:
            raise ValueError(
                f"still_time_constant_s {self.still_time_constant_s:g} must not be shorter than "
                f"time_constant_s {self.time_constant_s:g}: a still phone is to change its mind more slowly"
            )
        longest = max(self.still_time_constant_s, self.min_hold_s)
        if self.restart_s <= longest:
            raise ValueError(
                f"restart_s {self.restart_s:g} must exceed still_time_constant_s and min_hold_s ({longest:g})"
            )


class VideoSettings(Section, frozen=True):
    """How a camera's frames become steady labels; the last five as in SmoothingSettings."""

    model: str = "lrcn-webcam"
    every_frames: Annotated[int, Meta(ge=1, le=100)] = 5
    max_gap_s: Annotated[float, Meta(ge=0.1, le=10.0)] = 1.0
    min_rate_hz: Annotated[float, Meta(ge=0.0, le=30.0)] = 5.0
    time_constant_s: Annotated[float, Meta(gt=0.0, le=60.0)] = 0.7
    hysteresis: Annotated[float, Meta(ge=1.0)] = 2.0
    min_hold_s: Annotated[float, Meta(ge=0.0, le=600.0)] = 1.0
    min_confidence: Annotated[float, Meta(ge=0.0, lt=1.0)] = 0.35
    restart_s: Seconds = 5.0

    def __post_init__(self) -> None:
        self.smoothing()

    def smoothing(self) -> SmoothingSettings:
        """Nothing is known of stillness: a camera's time constant is always the same."""
        return SmoothingSettings(
            time_constant_s=self.time_constant_s,
            still_time_constant_s=self.time_constant_s,
            hysteresis=self.hysteresis,
            min_hold_s=self.min_hold_s,
            min_confidence=self.min_confidence,
            restart_s=self.restart_s,
        )


class OutputSettings(Section, frozen=True):
    prefix: TopicPrefix = "hard"
    qos: Qos = 0
    event_qos: Qos = 1
    retain: bool = True
    stale_s: Seconds = 10.0
    offline_s: Seconds = 60.0

    def __post_init__(self) -> None:
        if self.offline_s <= self.stale_s:
            raise ValueError(f"offline_s {self.offline_s:g} must be longer than stale_s {self.stale_s:g}")


class HealthSettings(Section, frozen=True):
    every_s: Seconds = 30.0
    stuck_s: Annotated[float, Meta(ge=2.0)] = 30.0
    port: Port | None = 9745


class TotalsSettings(Section, frozen=True):
    keep_days: Annotated[int, Meta(ge=1, le=36_500)] = 400
    write_every_s: Annotated[float, Meta(ge=1.0, le=3600.0)] = 30.0


class HomeAssistantSettings(Section, frozen=True):
    enabled: bool = False
    prefix: TopicPrefix = "homeassistant"
    birth_topic: TopicPrefix = "homeassistant/status"
    expire_after_s: Count = 30
    remove_forgotten: bool = False
    exclude: tuple[str, ...] = ()
    max_devices: Count = 500


class Settings(Section, frozen=True):
    """Everything `hard run` can be told; config/hard.yaml says what each key means."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["auto", "text", "json", "journal"] = "auto"
    state_dir: str | None = None
    broker: BrokerSettings = BrokerSettings()
    embedded: EmbeddedSettings = EmbeddedSettings()
    sources: SourcesSettings = SourcesSettings()
    imu: ImuSettings = ImuSettings()
    engine: EngineSettings = EngineSettings()
    smoothing: SmoothingSettings = SmoothingSettings()
    video: VideoSettings = VideoSettings()
    output: OutputSettings = OutputSettings()
    homeassistant: HomeAssistantSettings = HomeAssistantSettings()
    totals: TotalsSettings = TotalsSettings()
    health: HealthSettings = HealthSettings()

    def __post_init__(self) -> None:
        if self.imu.evict_after_s <= self.output.offline_s:
            raise ValueError(
                f"imu.evict_after_s {self.imu.evict_after_s:g} must be longer than output.offline_s "
                f"{self.output.offline_s:g}: a forgotten device cannot be said to be offline"
            )
