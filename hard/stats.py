"""Counters: every kind of loss has a name here, and nothing is dropped without one."""

from __future__ import annotations

import enum
import threading


class Drop(enum.StrEnum):
    """Why data did not become a label. The text after each name is what an operator reads."""

    INBOX_FULL = "inbox_full"  # messages: the engine fell behind, the oldest went
    PAYLOAD_TOO_LARGE = "payload_too_large"  # messages: over sources.mqtt.max_payload_bytes
    BAD_PAYLOAD = "bad_payload"  # messages: the codec could not read them
    BAD_LINE = "bad_line"  # lines: not numbers, or another number of them than the stream's
    LONG_LINE = "long_line"  # lines: over 4 kB on a serial port
    NOT_LEARNED = "not_learned"  # samples: held until rate and units were known, which they never were
    BAD_DEVICE = "bad_device"  # messages: no usable device name in the topic
    TOO_MANY_DEVICES = "too_many_devices"  # chunks: over imu.max_devices
    NOT_FINITE = "not_finite"  # samples: NaN or infinity
    ABSURD = "absurd"  # samples: beyond what a phone's sensor can measure
    LATE = "late"  # samples: duplicated or older than what was already used
    UNPAIRED = "unpaired"  # readings: no value of the other sensors at their time
    RATE_TOO_HIGH = "rate_too_high"  # samples: more than 1,024 in a hop
    GAP = "gap"  # restarts: silence longer than imu.max_gap_s (video.max_gap_s) on the device's clock
    CLOCK_JUMP = "clock_jump"  # restarts: the device's clock went back
    STALE_HOP = "stale_hop"  # windows: older than engine.max_age_s, filtered but not classified
    BAD_FRAME = "bad_frame"  # frames: of a camera, not to be decoded
    FRAME_REPLACED = "frame_replaced"  # frames: the video engine fell behind, a newer one took their place
    OUTBOX_FULL = "outbox_full"  # labels: the broker does not take them fast enough
    NOT_CONNECTED = "not_connected"  # labels: no broker to take them
    REFUSED = "refused"  # messages: an MQTT 5 broker did not take them, or would not: they are too large
    TOTALS_NOT_WRITTEN = "totals_not_written"  # writes: the disk failed; the seconds wait for the next


class Counters:
    """Named totals since start; any thread may add."""

    def __init__(self) -> None:
        self._totals: dict[str, int] = {}
        self._lock = threading.Lock()

    def add(self, name: str, n: int = 1) -> None:
        if n:
            with self._lock:
                self._totals[name] = self._totals.get(name, 0) + n

    def __getitem__(self, name: str) -> int:
        return self._totals.get(name, 0)

    def snapshot(self) -> dict[str, int]:
        """All non-zero totals, by name."""
        with self._lock:
            return dict(sorted(self._totals.items()))

    def drops(self) -> dict[str, int]:
        """The non-zero totals that are losses, by name."""
        names = {str(drop) for drop in Drop}
        return {name: n for name, n in self.snapshot().items() if name in names}
