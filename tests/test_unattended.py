"""What may happen to a daemon in months: brokers that come late, hang, or take nothing for a while."""

from __future__ import annotations

import json
import socket
import threading

import pytest

from conftest import Mosquitto, wait_for
from hard.broker import Broker, BrokerUrl
from hard.daemon.leftovers import Leftovers
from hard.handoff import Board
from hard.settings import OutputSettings
from hard.stats import Counters, Drop
from hard.types import Label
from test_assured import read_packets
from test_client import CONNACK, V311
from test_daemon import Subscriber

DISCONNECT = 0xE0
GHOST = {
    "v": 1, "device": "ghost", "activity": "walking", "confidence": 0.98,
    "raw": {"activity": "walking", "confidence": 0.94}, "probabilities": {"walking": 0.94},
    "since": "2026-11-20T05:39:13.381Z", "window_end": {"device_s": 10.22, "utc": "2026-11-20T05:39:21.061Z"},
    "seq": 7, "model": {"name": "lstm-waist", "sha256": "295cd34e7135"}, "latency_ms": 2.13, "rate_hz": 50.01,
    "gaps": 0, "reason": None,
}  # fmt: skip


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
    wait_for(lambda: dict(seen.messages) == dict(messages), what="500 labels")
    seen.broker.stop()
    broker.stop()


@pytest.mark.mosquitto
def test_what_an_earlier_run_left_is_found_also_where_the_broker_comes_late(server: Mosquitto) -> None:
    """As after a power cut, where the broker's machine starts longer than ours."""
    broker = Broker(BrokerUrl("127.0.0.1", server.port), Counters())
    broker.start()
    emitted: list[Label] = []
    leftovers = Leftovers(broker, OutputSettings(stale_s=0.1, offline_s=0.2), Board(), emitted.extend)
    stop = threading.Event()
    looking = threading.Thread(target=leftovers.run, args=(stop,))
    looking.start()
    wait_for(lambda: broker.turns >= 5, 30, "five attempts to connect")  # after 0, 1, 3, 7 and 12 s
    server.start()
    other = Subscriber(server.port, "hard/+/activity")
    assert other.broker.publish("hard/ghost/activity", json.dumps(GHOST).encode(), qos=1, retain=True)
    wait_for(lambda: emitted, 30, "the label of the ghost")
    assert [(x.prediction.device, x.reason, x.seq) for x in emitted] == [("ghost", "offline", 8)]
    stop.set()
    looking.join()
    other.broker.stop()
    broker.stop()


@pytest.mark.mosquitto
def test_a_message_larger_than_the_broker_allows_costs_itself_and_not_the_connection(
    server: Mosquitto,
) -> None:
    """A retained one would cost every connection to come, too."""
    server.start("allow_anonymous true\nmax_packet_size 2000")
    counters = Counters()
    broker = Broker(BrokerUrl("127.0.0.1", server.port, mqtt5=True), counters, presence="hard/status")
    broker.publish("before", bytes(3000), qos=1, retain=True)
    broker.start()
    assert broker.wait_ready(10)
    late = Subscriber(server.port, "hard/#")
    broker.publish("after", bytes(3000), qos=1, retain=True)
    most = 2000 - len("hard/a/activity") - 10
    assert broker.publish_many([("hard/a/activity", bytes(n)) for n in (3000, most)], 1) == 1
    wait_for(lambda: late.last("hard/a/activity") == bytes(most), what="what fits")
    assert broker.flush(10)
    assert (broker.losses, counters[Drop.REFUSED]) == (0, 3)
    late.broker.stop()
    broker.stop()
