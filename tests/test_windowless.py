"""Devices that send and have no window: named, with the reason, and only they."""

from __future__ import annotations

import numpy as np
import pytest

from hard.codecs.native import encode
from hard.model import Model, load_model
from hard.sinks.payload import encode as encode_label
from hard.synthetic import SyntheticPhone
from hard.types import Message
from test_engine import engine, messages


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model("lstm-waist")


def test_a_device_that_never_has_a_window_is_unknown_and_says_why(model: Model) -> None:
    """Every fourth message of half a second is lost; the daemon knew nothing of such a device but `gap`."""
    running, sink, _ = engine(model)
    sent = {"whole": list(messages("whole", 0, 60.0, [25])), "holes": list(messages("holes", 1, 60.0, [25]))}
    sent["absurd"] = [
        Message("hard/absurd/imu", encode(np.arange(25) / 50 + k / 2, np.full((25, 6), 1e4), None), 0.0)
        for k in range(120)
    ]
    for k in range(120):
        now_s = 100.0 + k / 2
        kept = [ms[k] for name, ms in sent.items() if k < 80 and (name != "holes" or k % 4)]
        running.tick([Message(m.topic, m.payload, now_s) for m in kept], now_s)
        if k % 2:
            running.listen(now_s)
            running.evict(now_s)
    of = {name: [x for x in sink.labels if x.prediction.device == name] for name in sent}
    assert {x.activity for x in of["holes"] + of["absurd"]} == {"unknown"}
    said = [x for x in of["holes"] if x.reason != "stale"]
    assert 20 < len(said) <= 31  # about one a second from the tenth on
    assert said[0].reason == "no window: 5 gaps in 10 s; see `hard check --listen`"
    assert len({round(x.since_s) for x in said}) == 1
    assert [x.reason for x in of["holes"]][-1] == of["whole"][-1].reason == "stale"
    assert "samples late or impossible" in (of["absurd"][0].reason or "")
    assert not any("no window" in (x.reason or "") for x in of["whole"])
    assert sink.forgotten == []
    running.tick([Message(m.topic, m.payload, 170.0) for m in sent["holes"]], 170.0)
    assert sink.labels[-1].activity != "unknown"
    for x in sink.labels:
        encode_label(x)


def test_an_activity_ends_with_its_last_window_where_windows_end_and_samples_do_not(model: Model) -> None:
    running, sink, _ = engine(model)
    sent = list(messages("holes", 1, 60.0, [25]))
    for k, message in enumerate(sent):
        now_s = 100.0 + k / 2
        if k < 60 or k % 4:
            running.tick([Message(message.topic, message.payload, now_s)], now_s)
        running.listen(now_s)
    last = next(x for x in reversed(sink.labels) if x.prediction.probabilities)
    exit_ = sink.events[-1]
    assert (exit_.type, exit_.t) == ("exit", last.prediction.t_end)
    assert "no window" in (sink.labels[-1].reason or "")


def test_a_device_that_pauses_is_not_told_of(model: Model) -> None:
    """It needs 2.56 s to have a window again, whether it slept for six seconds or an hour."""
    running, sink, _ = engine(model)
    t, samples = SyntheticPhone(0).read(0, 1000)
    now_s = 100.0
    for pause_s in (0.0, 4.0, 6.0, 30.0, 3600.0):
        for end_s in np.arange(now_s, now_s + pause_s, 1.0):
            running.listen(float(end_s))
        now_s += pause_s
        for k in range(0, 1000, 25):
            payload = encode(t[k : k + 25] + now_s, samples[k : k + 25])
            at_s = now_s + k / 50
            running.tick([Message("hard/a/imu", payload, at_s)], at_s)
            running.listen(at_s)
        now_s += 20.0
    assert not any("no window" in (x.reason or "") for x in sink.labels)
