"""What may happen to a daemon in months: brokers that come late, hang, or take nothing for a while."""

from __future__ import annotations

import socket
import threading

import pytest

from conftest import Mosquitto, wait_for
from hard.broker import Broker, BrokerUrl
from hard.stats import Counters, Drop
from test_assured import read_packets
from test_client import CONNACK, V311
from test_daemon import Subscriber

DISCONNECT = 0xE0


def test_a_daemon_that_stops_says_so_also_where_the_broker_owes_acknowledgements() -> None:
    """As a far one does, of the thousands of events that a stop makes: else it is `online` for ever."""
    heard: list[tuple[int, bytes]] = []

    def serve() -> None:
        peer, _ = listener.accept()
        with peer:
            peer.sendall(CONNACK[V311])
            heard.extend(read_packets(peer, bytearray()))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = threading.Thread(target=serve)
        serving.start()
        url = BrokerUrl("127.0.0.1", listener.getsockname()[1])
        broker = Broker(url, Counters(), presence="hard/status")
        broker.start()
        assert broker.wait_ready(10)
        broker.publish_many([(f"hard/{n}/event", b"exit") for n in range(1000)], qos=1)
        broker.stop()
        serving.join(10)
    presence = [body for first, body in heard if first >> 4 == 3 and b"hard/status" in body]
    assert heard[-1][0] == DISCONNECT
    assert presence[-1].endswith(b"stopped")


@pytest.mark.mosquitto
def test_the_last_label_of_a_device_reaches_the_broker_also_where_the_queue_was_full(
    server: Mosquitto,
) -> None:
    """As when thousands fall silent at once: none of them says anything afterwards."""
    server.start()
    counters = Counters()
    broker = Broker(BrokerUrl("127.0.0.1", server.port), counters, max_queued=20)
    broker.start()
    assert broker.wait_ready(10)
    seen = Subscriber(server.port, "hard/+/activity")
    messages = [(f"hard/{n}/activity", b"offline %d" % n) for n in range(500)]
    assert broker.publish_many(messages, retain=True) == 20
    assert counters[Drop.OUTBOX_FULL] == 480
    wait_for(lambda: {t: p for t, p in seen.messages} == dict(messages), what="500 labels")
    seen.broker.stop()
    broker.stop()
