"""A camera on the network: motion JPEG over HTTP on loopback, with all its moods."""

from __future__ import annotations

import http.server
import threading

import cv2
import numpy as np


class MjpegCamera:
    """Sends noisy pictures at 25 a second to whoever asks; switched off it refuses, and ends its streams."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/stream.mjpg"
        self.size = (320, 240)
        self.flowing = threading.Event()  # cleared: connected, but nothing comes
        self.flowing.set()
        self.same = False  # the same picture again and again
        self.torn = False  # every third picture is cut off in the middle
        self.sent = 0
        self._port = port
        self._off = threading.Event()
        self._server: http.server.ThreadingHTTPServer | None = None

    def start(self) -> None:
        self._off.clear()
        camera = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                """Say nothing."""

            def do_GET(self) -> None:  # http.server's name
                self.send_response(200)
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
                self.end_headers()
                try:
                    while not camera._off.wait(0.04):
                        if camera.flowing.is_set():
                            self.wfile.write(camera._part())
                            camera.sent += 1
                except OSError:
                    """The reader has gone."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", self._port), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        self._off.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def _part(self) -> bytes:
        width, height = self.size
        seed = 0 if self.same else self.sent
        image = np.random.default_rng(seed).integers(0, 255, (height // 8, width // 8, 3), np.uint8)
        image = cv2.resize(image, self.size, interpolation=cv2.INTER_NEAREST)
        jpeg = cv2.imencode(".jpg", image)[1].tobytes()
        if self.torn and self.sent % 3 == 0:
            jpeg = jpeg[: len(jpeg) // 2]
        head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
        return head.encode() + jpeg + b"\r\n"
