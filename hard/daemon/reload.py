"""Other settings without a restart: what can change does, what cannot is named, what is wrong is refused."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

import msgspec

from hard.daemon.motion import Motion
from hard.daemon.outputs import Outputs
from hard.health import Examiner
from hard.sdnotify import Notifier
from hard.settings import Settings
from hard.sources import WEBCAM
from hard.types import HardError

log = logging.getLogger(__name__)

LIVE: Final = (
    "log_level", "sources.enabled", "sources.mqtt", "sources.serial", "smoothing", "imu.model",
    "imu.acc_model", "imu.elsewhere_model", "imu.min_rate_hz", "output.stale_s", "output.offline_s",
)  # fmt: skip
"""Settings, or sections of them, that take effect at once; the others with the next start."""


class Reloader:
    """What SIGHUP does. Owner: the main thread."""

    def __init__(
        self,
        load: Callable[[], Settings],
        settings: Settings,
        motion: Motion | None,
        outputs: Outputs,
        notifier: Notifier,
        examiner: Examiner,
    ) -> None:
        """`load` reads the configuration again, from where `settings` came."""
        self._load = load
        self._settings = self._started = settings
        self._motion = motion
        self._outputs = outputs
        self._notifier = notifier
        self._examiner = examiner
        self.done = 0  # finished reloads, refused ones too

    def reload(self) -> None:
        """Read the configuration again and follow it, or say why not and go on as before."""
        self._notifier.reloading()
        try:
            self._follow(self._load())
        except HardError as e:
            self._examiner.refused = str(e).encode("utf-8", "replace").decode()  # paths may be any bytes
            log.error("configuration refused, the old one stays: %s", e, extra={"kind": "refused"})
        except Exception as e:  # whatever it is, the settings that run are good
            self._examiner.refused = f"{type(e).__name__}: {e}"
            log.exception("configuration refused, the old one stays", extra={"kind": "refused"})
        finally:
            self.done += 1
            self._notifier.ready()

    def _follow(self, new: Settings) -> None:
        names = changed(self._settings, new)
        waiting = [name for name in changed(self._started, new) if not is_live(name)]
        if _parts(new) != _parts(self._settings):
            raise HardError("sources.enabled: a camera, or the first source of motion, comes or goes with a "
                            "restart only")  # fmt: skip
        if self._motion is not None:
            before = self._motion.labels
            self._motion.change(new)
            if self._motion.labels != before:
                self._outputs.relabel(before, self._motion.labels)
        self._outputs.change(new)
        logging.getLogger().setLevel(new.log_level.upper())
        self._settings = new
        self._examiner.refused = None
        self._examiner.loaded_utc = time.time()
        done = [name for name in names if name not in waiting]
        log.info("configuration reloaded: %s", ", ".join(done) or "no change", extra={"kind": "reloaded"})
        if waiting:
            log.warning("not in force before the next restart: %s", ", ".join(waiting))


def _parts(settings: Settings) -> tuple[bool, bool]:
    """Whether there is motion, and whether there is video."""
    enabled = settings.sources.enabled
    return any(name != WEBCAM for name in enabled), WEBCAM in enabled


def changed(old: msgspec.Struct, new: msgspec.Struct, prefix: str = "") -> list[str]:
    """The keys whose values differ, such as smoothing.hysteresis."""
    out: list[str] = []
    for field in msgspec.structs.fields(old):
        a, b = getattr(old, field.name), getattr(new, field.name)
        if a != b:
            nested = isinstance(a, msgspec.Struct) and isinstance(b, msgspec.Struct)
            out += changed(a, b, f"{prefix}{field.name}.") if nested else [prefix + field.name]
    return out


def is_live(name: str) -> bool:
    return any(name == live or name.startswith(f"{live}.") for live in LIVE)
