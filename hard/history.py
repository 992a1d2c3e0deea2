"""Predictions -> labels and events: each device's steady activity over time, and its silence."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from hard.settings import SmoothingSettings
from hard.smoothing import Smoother, Steady
from hard.types import UNKNOWN, Event, Label, Prediction

STALE: Final = "stale"
OFFLINE: Final = "offline"


class _Track(msgspec.Struct, gc=False):
    label: Label  # the newest with a window behind it
    entered_t: float  # device seconds at which its activity began
    arrival_s: float  # monotonic arrival of its window's last sample
    seq: int
    silence: str | None = None  # STALE, OFFLINE, or None while windows come


class History:
    """What each device did and since when. Owner: one thread."""

    def __init__(
        self,
        smoother: Smoother,
        *,
        stale_s: float = 10.0,
        offline_s: float = 60.0,
    ) -> None:
        self._smoother = smoother
        self._stale_s = stale_s
        self._offline_s = offline_s
        self._tracks: dict[str, _Track] = {}

    def label(self, prediction: Prediction, utc_s: float, now_s: float, events: list[Event]) -> Label:
        """The label for a prediction made now: `utc_s` epoch seconds, `now_s` monotonic seconds.

        What it begins or ends is appended to `events`. A device that was silent, or whose smoothing started
        anew after a gap, ends its activity with its last window and begins one with this. One without
        probabilities is of no window: its device sends, but nothing can be recognised.
        """
        p = prediction
        track = self._tracks.get(p.device)
        if p.probabilities:
            steady, latency_s = self._smoother.update(p), now_s - p.arrival_s
        else:
            ended = track is not None and track.label.activity != UNKNOWN
            steady, latency_s = Steady(UNKNOWN, 0.0, p.reason, restarted=ended), 0.0
        end_s = utc_s - (now_s - p.end_s)
        label = Label(
            p, steady.activity, steady.confidence, steady.reason, end_s, end_s, track.seq + 1 if track else 1,
            latency_s * 1000.0,
        )  # fmt: skip
        if track is None:
            self._tracks[p.device] = _Track(label, p.t_end, p.arrival_s, 1)
            _say(events, "enter", label, p.t_end)
            return label
        if self._goes_on(track, steady):
            label = msgspec.structs.replace(label, since_s=track.label.since_s)
        else:
            anew = steady.restarted or track.silence is not None
            if track.silence is None:
                _leave(events, track, track.label if anew else label)
            track.entered_t = p.t_end
            _say(events, "enter", label, p.t_end)
        track.label, track.arrival_s, track.seq, track.silence = label, p.arrival_s, label.seq, None
        return label

    def silent(self, now_s: float, events: list[Event]) -> list[Label]:
        """Labels of the devices that have just become stale or offline; `now_s` monotonic seconds.

        A stale device's activity ended with its last window.
        """
        out = []
        for track in self._tracks.values():
            silent_s = now_s - track.arrival_s
            if silent_s < self._stale_s:
                continue
            reason = OFFLINE if silent_s >= self._offline_s else STALE
            if track.silence in (reason, OFFLINE):  # offline stays offline, whatever `use` makes of it
                continue
            if track.silence is None:
                _leave(events, track, track.label)
            track.silence = reason
            track.seq += 1
            out.append(quiet(track.label, reason, track.seq))
        return out

    def end(self, events: list[Event]) -> None:
        """Nothing more will come: what each device does ends with its last window."""
        for track in self._tracks.values():
            if track.silence is None:
                _leave(events, track, track.label)

    def without_windows(self, since_s: float) -> list[str]:
        """Devices that have had no window since then (monotonic), whether or not samples came."""
        return [device for device, track in self._tracks.items() if track.arrival_s < since_s]

    def use(self, smoothing: SmoothingSettings, *, stale_s: float, offline_s: float) -> None:
        """Other settings from the next window on; every device keeps its activity."""
        self._smoother.use(smoothing)
        self._stale_s = stale_s
        self._offline_s = offline_s

    def forget(self, devices: list[str]) -> None:
        self._smoother.forget(devices)
        for device in devices:
            self._tracks.pop(device, None)

    @staticmethod
    def _goes_on(track: _Track, steady: Steady) -> bool:
        return steady.activity == track.label.activity and not steady.restarted and track.silence is None


def _leave(events: list[Event], track: _Track, at: Label) -> None:
    """The end of the track's activity, when `at`'s window ended."""
    t = at.prediction.t_end
    _say(events, "exit", track.label, t, at.window_end_s, t - track.entered_t)


def _say(
    events: list[Event],
    kind: Literal["enter", "exit"],
    label: Label,
    t: float,
    utc_s: float | None = None,
    dwell_s: float | None = None,
) -> None:
    if label.activity != UNKNOWN:
        at_s = label.window_end_s if utc_s is None else utc_s
        events.append(Event(label.prediction.device, kind, label.activity, t, at_s, dwell_s))


def quiet(last: Label, reason: str, seq: int) -> Label:
    """The label of a silent device: no window, so nothing recognised; the times are the last window's."""
    nothing = msgspec.structs.replace(
        last.prediction, activity=UNKNOWN, confidence=0.0, probabilities={}, reason=reason
    )
    since_s = last.since_s if last.activity == UNKNOWN else last.window_end_s
    return msgspec.structs.replace(
        last, prediction=nothing, activity=UNKNOWN, confidence=0.0, reason=reason, since_s=since_s,
        seq=seq, latency_ms=0.0,
    )  # fmt: skip
