"""/healthz, /readyz and /metrics on loopback; nothing there is secret, and nothing can be changed."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any, Final

import msgspec

from hard.health import Health

if TYPE_CHECKING:
    from hard.daemon.metrics import Metrics

log = logging.getLogger(__name__)

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
HOST: Final = "127.0.0.1"
TURN_S: Final = 0.5
CLIENT_S: Final = 2.0  # whoever connects and says nothing is let go after this


class Endpoint(HTTPServer):
    """One request at a time, so that no number of clients takes more memory. Runs in its own thread.

    It is no stage that the watchdog goes by: anybody on this machine can keep it busy.
    """

    address_family = 2  # AF_INET
    request_queue_size = 16

    def __init__(self, port: int, examine: Callable[[], Health], metrics: Metrics) -> None:
        """OSError where the port is taken."""
        super().__init__((HOST, port), _Handler)
        self.examine = examine
        self.metrics = metrics
        self._stop = threading.Event()

    def run(self, stop: threading.Event) -> None:
        """Serve until the event; it is looked at every half second."""
        self.timeout = TURN_S
        self._stop = stop
        while not stop.is_set():
            self.handle_request()
        self.server_close()

    def get_request(self) -> tuple[socket.socket, Any]:
        """The next connection. OSError where no file descriptor is free, after a pause: it stays the next."""
        try:
            return super().get_request()
        except OSError:
            self._stop.wait(TURN_S)
            raise

    def handle_error(self, request: object, client_address: object) -> None:
        log.debug("http: a client went away", exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    timeout = CLIENT_S
    server: Endpoint
    server_version = "hard"
    sys_version = ""

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/metrics":
            self._answer(200, CONTENT_TYPE, self.server.metrics.render())
        elif path in ("/healthz", "/readyz"):
            health = self.server.examine()
            good = health.state != "stuck" if path == "/healthz" else health.ready and health.state != "stuck"
            self._answer(200 if good else 503, "application/json", msgspec.json.encode(health))
        else:
            self._answer(404, "text/plain", b"there is: /healthz, /readyz, /metrics\n")

    def do_HEAD(self) -> None:
        self.do_GET()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: a probe every few seconds is no news."""

    def _answer(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
