"""Real recordings through each app's dialect over a real broker: labels as on the native path."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from apps import APPS, Phone
from conftest import Hard, free_port, start_mosquitto, wait_for
from hard.datasets import features
from hard.model import load_model
from hard.recordings import Recording, read_recording
from test_daemon import Subscriber

pytestmark = [pytest.mark.mosquitto, pytest.mark.data]

CONFIG = """
sources:
  mqtt:
    topics:
      - {filter: sensor-logger, codec: sensor-logger}
      - {filter: android/sensor, codec: android-sensor}
      - {filter: android/sensor/+, codec: android-sensor}
      - {filter: phyphox/+, codec: phyphox}
      - {filter: hyperimu/+, codec: hyperimu}
      - {filter: lab/+, codec: auto, acc_unit: g, gyro_unit: deg/s}
"""


@pytest.fixture(scope="module")
def recording() -> Recording:
    from conftest import recordings

    found = recordings()
    assert found
    return read_recording(found / "hapt/RawData/acc_exp07_user04.txt.gz")


class Native:
    """What the native path says of any 2.56 s of a recording: after a gap, an app's windows lie elsewhere."""

    def __init__(self, recording: Recording) -> None:
        self._model = load_model("lstm-waist")
        self._windowing = self._model.card.windowing
        (self._stream,) = features([recording], self._windowing)
        self.windows = (len(self._stream) - self._windowing.window) // self._windowing.hop + 1

    def label(self, end_s: float) -> str | None:
        """Of the window whose last sample is nearest to this time since the recording's start."""
        end = round(end_s * self._windowing.rate_hz) + 1
        return self._labels(end % self._windowing.hop).get(end)

    @functools.cache  # noqa: B019  (lives as long as the module's tests)
    def _labels(self, phase: int) -> dict[int, str]:
        """Of the windows a hop apart that end so many samples after a whole hop, each after the others."""
        window, hop, card = self._windowing.window, self._windowing.hop, self._model.card
        state, out = np.zeros((1, card.state), np.float32), {}
        for end in range(window + phase, len(self._stream) + 1, hop):
            probabilities, state = self._model.step(self._stream[None, end - window : end], state)
            out[end] = card.labels[int(probabilities[0].argmax())]
        return out


@pytest.fixture(scope="module")
def native(recording: Recording) -> Native:
    return Native(recording)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[int]:
    port = free_port()
    process = start_mosquitto(tmp_path, port)
    yield port
    process.terminate()
    process.wait(10)


@pytest.mark.parametrize("app", APPS)
def test_an_app_is_labelled_as_the_native_path(
    app: str, hard: Hard, broker: int, recording: Recording, native: Native, tmp_path: Path
) -> None:
    """At least 95 % of the recording's windows come out, labelled as the native path labels that moment."""
    config = tmp_path / "hard.yaml"
    config.write_text(CONFIG)
    hard.start("run", "--broker", f"mqtt://127.0.0.1:{broker}", "--config", str(config))
    seen = Subscriber(broker, "hard/+/activity", "hard/status")
    wait_for(lambda: seen.last("hard/status") == b"online", what="the daemon")
    encoder, device = APPS[app]
    for topic, payload in encoder(Phone(recording, seed=7)):
        assert seen.broker.publish(topic, payload)
    assert seen.broker.flush(20)

    def same() -> int:
        labels = [label for label in seen.labels(device) if label["probabilities"]]  # but for `stale`
        ends = [label["window_end"]["device_s"] for label in labels]
        first_s = min(ends, default=0.0) - 2.54  # the app's clock at the start
        said = [max(p := label["probabilities"], key=p.get) for label in labels]
        return sum(native.label(end_s - first_s) == a for end_s, a in zip(ends, said, strict=True))

    wait_for(lambda: same() >= 0.95 * native.windows, 45, f"95 % of the labels of {device}")
    seen.broker.stop()
