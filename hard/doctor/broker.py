"""The way to the broker, one stage after the other: DNS, TCP, TLS, CONNECT, subscribe, publish and back."""

from __future__ import annotations

import secrets
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from typing import Final

from hard.broker import Broker
from hard.doctor.line import Line, Status, fail, mended, ok, warn
from hard.mqtt.address import BrokerUrl, explain_failure, tls_context
from hard.settings import Settings
from hard.stats import Counters

STAGE_S: Final = 5.0


def broker_lines(settings: Settings, url: BrokerUrl) -> Iterator[Line]:
    """A line a stage; the first that fails is the last."""
    began_s = time.monotonic()
    try:
        found = socket.getaddrinfo(url.host, url.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as e:
        yield fail(
            "broker DNS",
            f"{url.host}: {getattr(e, 'strerror', None) or e}",
            "check the name in broker.url, and /etc/resolv.conf",
        )
        return
    addresses = sorted({str(info[4][0]) for info in found})
    yield ok("broker DNS", f"{url.host} is {', '.join(addresses)}, {_ms(began_s)}")
    began_s = time.monotonic()
    try:
        connection = socket.create_connection((url.host, url.port), STAGE_S)
    except OSError as e:
        yield fail("broker TCP", f"{url}: {e.strerror or e}", "is the broker running, its port right, and no "
                   "firewall between? (mosquitto.conf: listener 1883)")  # fmt: skip
        return
    yield ok("broker TCP", f"{url} answers, {_ms(began_s)}")
    with connection:
        if url.tls:
            line = _tls(url, connection)
            yield line
            if line.status == Status.FAIL:
                return
    yield from _mqtt(settings, url)


def _tls(url: BrokerUrl, connection: socket.socket) -> Line:
    try:
        with tls_context(url).wrap_socket(connection, server_hostname=url.host) as wrapped:
            version, certificate = wrapped.version(), wrapped.getpeercert()
    except (OSError, ssl.SSLError) as e:
        return mended("broker TLS", explain_failure(e, True))
    until = str((certificate or {}).get("notAfter", ""))
    left_d = (ssl.cert_time_to_seconds(until) - time.time()) / 86_400 if until else None
    if left_d is not None and left_d < 14:
        return warn(
            "broker TLS",
            f"{version}; the broker's certificate ends in {left_d:.0f} days",
            "renew it on the broker",
        )
    days = f", certificate good for {left_d:.0f} days" if left_d is not None else ""
    insecure = " (not verified: broker.tls.insecure)" if url.insecure else ""
    return ok("broker TLS", f"{version}{days}{insecure}")


def _mqtt(settings: Settings, url: BrokerUrl) -> Iterator[Line]:
    """CONNECT, the subscriptions that the daemon makes, and a message there and back."""
    came = threading.Event()
    topic = f"{settings.output.prefix}/check/{secrets.token_hex(4)}"
    broker = Broker(url, Counters())
    filters = {topic: 1}
    if "mqtt" in settings.sources.enabled:
        filters |= {t.filter: settings.sources.mqtt.qos for t in settings.sources.mqtt.topics}
    broker.listen(filters, lambda name, _payload: came.set() if name == topic else None)
    began_s = time.monotonic()
    broker.start()
    try:
        _wait(lambda: broker.connected or broker.trouble is not None)
        if not broker.connected:
            yield mended("broker CONNECT", broker.trouble or "no answer; is that port an MQTT broker's?")
            return
        user = f" as {url.username!r}" if url.username else ", without a user"
        yield ok("broker CONNECT", f"accepted{user}, {_ms(began_s)}")
        began_s = time.monotonic()
        if not broker.wait_ready(STAGE_S) or broker.denied:
            yield fail("broker subscribe", f"refused: {', '.join(broker.denied) or 'no answer'}",
                       "let this user read these topics, in its acl_file")  # fmt: skip
            return
        yield ok("broker subscribe", f"{len(filters)} topics, {_ms(began_s)}")
        began_s = time.monotonic()
        broker.publish(topic, b"hard check", qos=1)
        if not came.wait(STAGE_S):
            yield fail("broker publish", f"{topic} did not come back",
                       f"let this user write {settings.output.prefix}/#, in its acl_file")  # fmt: skip
            return
        yield ok("broker publish", f"there and back in {_ms(began_s)}")
    finally:
        broker.stop()


def _wait(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + STAGE_S
    while not condition() and time.monotonic() < deadline_s:
        time.sleep(0.01)


def _ms(began_s: float) -> str:
    return f"{(time.monotonic() - began_s) * 1000:.0f} ms"
