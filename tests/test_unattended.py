"""What may happen to a daemon in months: brokers that come late, hang, or take nothing for a while."""

from __future__ import annotations

import socket
import threading

from hard.broker import Broker, BrokerUrl
from hard.stats import Counters
from test_assured import read_packets
from test_client import CONNACK, V311

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
