"""A camera in the daemon: source -> slot -> video engine -> sinks; imports torch and OpenCV."""

from __future__ import annotations

from collections.abc import Sequence

from hard.handoff import Latest
from hard.history import History
from hard.model import load_video_model
from hard.runtime import Runtime
from hard.settings import Settings
from hard.sinks import Sink
from hard.smoothing import Smoother
from hard.sources.cameras import parse
from hard.sources.webcam import WebcamSource
from hard.video import VideoRecognizer
from hard.video_engine import VideoEngine


class Sight:
    """The camera, its model and its engine. Owner: the main thread; camera and engine have their own."""

    def __init__(self, settings: Settings, runtime: Runtime, *, shown: bool) -> None:
        """Load the model, find the camera; HardError where either cannot be. `shown`: frames go to `view`."""
        v, webcam = settings.video, settings.sources.webcam
        self._settings = settings
        self._runtime = runtime
        address = parse(webcam.camera, webcam.device)
        self.device = address.device
        self.model = load_video_model(v.model)
        self.model.warm_up()
        self.view = Latest() if shown else None
        self._samples = Latest()
        rate_hz = self.model.card.clip.rate_hz
        runtime.models_of["sight"] = lambda: [self.model.card.name]
        runtime.named_sources["sight"] = lambda: [self.device]
        self.source = WebcamSource(address, webcam, rate_hz, self._samples, self.view, runtime.counters)

    @property
    def labels(self) -> list[str]:
        """Every activity that its model can tell."""
        return self.model.card.labels

    def start(self, sinks: Sequence[Sink]) -> None:
        """Start the engine, then the camera; they end the other way round."""
        v, o = self._settings.video, self._settings.output
        recognizer = VideoRecognizer(
            self.device, self.model, every=v.every_frames, max_gap_s=v.max_gap_s, min_rate_hz=v.min_rate_hz,
            counters=self._runtime.counters,
        )  # fmt: skip
        history = History(Smoother(v.smoothing()), stale_s=o.stale_s, offline_s=o.offline_s)
        engine = VideoEngine(self._samples, recognizer, history, sinks, self._runtime.counters)
        self._runtime.thread("video engine", engine.run, self._samples.wake)
        self._runtime.watch("video engine", lambda: engine.ticks)
        self._runtime.watch("camera", lambda: self.source.turns)
        self._runtime.problems["camera"] = self.source.problem
        self.source.start()
        self._runtime.at_end(self.source.stop)
