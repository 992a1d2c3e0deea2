"""Everything that looks after a running daemon: systemd, health, its endpoint, reloads, where it is found."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hard import __version__
from hard.config import state_dir
from hard.daemon.link import Link
from hard.daemon.progress import Progress
from hard.daemon.reload import Reloader
from hard.daemon.runfile import RunFile, Running
from hard.daemon.supervisor import Supervisor
from hard.health import Examiner
from hard.log import Spread
from hard.runtime import Runtime
from hard.sdnotify import Notifier
from hard.settings import Settings

if TYPE_CHECKING:
    from hard.daemon.metrics import Metrics
    from hard.daemon.motion import Motion
    from hard.daemon.outputs import Outputs

log = logging.getLogger(__name__)

TURN_S: Final = 0.5


class Care:
    """Owner: the main thread, which calls `turn` several times a second."""

    def __init__(
        self, settings: Settings, link: Link, spread: Spread, config: Path | None, runtime: Runtime
    ) -> None:
        self._settings = settings
        self._runtime = runtime
        self._turns = 0
        self._turned_s = 0.0
        self._begun = 0  # reloads
        runtime.watch("main", lambda: self._turns)
        self._notifier = Notifier(os.environ)
        self._run_file = RunFile(state_dir(settings))
        progress = Progress(
            lambda: [s for group in runtime.stages.values() for s in group], settings.health.stuck_s
        )
        name = os.fsencode(config).decode("utf-8", "replace") if config else None  # paths may be any bytes
        self._examiner = Examiner(runtime, progress, link.broker, name)
        topic = f"{settings.output.prefix}/health"
        self._supervisor = Supervisor(
            self._notifier, self._examiner, runtime,
            lambda report: link.broker.publish(topic, report, qos=1, retain=True), spread,
            state_dir(settings), health_every_s=settings.health.every_s,
        )  # fmt: skip
        self._reloader: Reloader | None = None

    def hold(self) -> None:
        """Be found, before anybody is told that the daemon is online."""
        self._run_file.hold(self._running())
        self._runtime.at_end(self._run_file.drop)

    def start(
        self, load: Callable[[], Settings], motion: Motion | None, outputs: Outputs, metrics: Metrics
    ) -> None:
        """Begin to look after the parts, which run by now; end before they do."""
        self._reloader = Reloader(load, self._settings, motion, outputs, self._notifier, self._examiner)
        self._runtime.at_end(self._supervisor.stop)
        self._serve(metrics)

    def turn(self) -> None:
        now_s = time.monotonic()
        self._turns += 1
        if self._runtime.stop.hung_up.is_set() and self._reloader:
            self._runtime.stop.hung_up.clear()
            self._begun += 1
            self._run_file.update(self._running())
            self._reloader.reload()
            self._run_file.update(self._running())
        if now_s - self._turned_s >= TURN_S:
            self._turned_s = now_s
            self._supervisor.turn(now_s)

    def _serve(self, metrics: Metrics) -> None:
        """The HTTP endpoint; a port that is taken costs the endpoint, not the labels."""
        port = self._settings.health.port
        metrics.watch(self._examiner.examine)
        if port is None:
            return
        from hard.daemon.endpoint import HOST, Endpoint

        try:
            endpoint = Endpoint(port, self._examiner.examine, metrics)
        except OSError as e:
            log.warning(
                "no /healthz and /metrics: port %d on %s: %s; set health.port", port, HOST, e.strerror
            )
            return
        self._runtime.thread("http", endpoint.run)
        log.info("http://%s:%d/healthz, /readyz, /metrics", HOST, port)

    def _running(self) -> Running:
        r = self._reloader
        reloads, refused = (r.done, self._examiner.refused) if r else (0, None)
        return Running(os.getpid(), __version__, self._settings.health.port, self._begun, reloads, refused)
