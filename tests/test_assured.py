"""Messages of QoS 1: each arrives at least once, in order, whatever happens to the connection meanwhile."""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from conftest import Mosquitto, wait_for
from hard.broker import Broker, BrokerUrl
from hard.mqtt.client import Client
from hard.mqtt.packets import encoded, varint
from hard.stats import Counters, Drop
from test_client import CONNACK, V5, V311
from test_daemon import Subscriber

EVENTS = [f"event {n}".encode() for n in range(300)]


def read_packets(peer: socket.socket, held: bytearray) -> Iterator[tuple[int, bytes]]:
    """The packets that a client sends, first byte and body, until it hangs up."""
    while True:
        length, body = varint(held, 1) if held else (0, 0)
        if body and len(held) >= body + length:
            yield held[0], bytes(held[body : body + length])
            del held[: body + length]
            continue
        part = peer.recv(65_536)
        if not part:
            return
        held += part


class Half:
    """A broker that answers a CONNECT, and then each message of QoS 1 as it is told to."""

    def __init__(self, acknowledge: Callable[[int, int], bytes | None]) -> None:
        """`acknowledge`: (number of the message, its id) -> what to send for it; None: hang up."""
        self._acknowledge = acknowledge
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.got: list[bytes] = []
        self.most_open = 0
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            with peer, contextlib.suppress(ConnectionError):
                self._talk(peer)

    def _talk(self, peer: socket.socket) -> None:
        for first, body in read_packets(peer, bytearray()):
            if first >> 4 == 1:
                peer.sendall(CONNACK[V311])
            elif first >> 4 == 3:
                assert first & 0x06 == 0x02
                text = 2 + int.from_bytes(body[:2], "big")
                mid = int.from_bytes(body[text : text + 2], "big")
                self.got.append(body[text + 2 :])
                answer = self._acknowledge(len(self.got), mid)
                if answer is None:
                    return
                peer.sendall(answer)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)
        assert not self._thread.is_alive()


def ack(mid: int, more: bytes = b"") -> bytes:
    body = mid.to_bytes(2, "big") + more
    return b"\x40" + encoded(len(body)) + body


def test_what_was_not_acknowledged_is_sent_again_in_order() -> None:
    half = Half(lambda n, mid: None if n in (7, 200) else ack(mid))
    broker = Broker(BrokerUrl("127.0.0.1", half.port), Counters())
    try:
        broker.start()
        assert broker.wait_ready(10)
        assert broker.publish_many([("e", event) for event in EVENTS], qos=1) == len(EVENTS)
        assert not broker.flush(0.0)
        wait_for(lambda: half.got[-1:] == EVENTS[-1:], 20, "the last event")
        wait_for(lambda: broker.flush(0.1), 10, "the last acknowledgement")
    finally:
        broker.stop()
        half.close()
    assert list(dict.fromkeys(half.got)) == EVENTS
    assert len(half.got) <= len(EVENTS) + 2 * 200  # again: what was on its way, twice
    assert broker._counters.drops() == {}


@settings(max_examples=25, deadline=None)
@given(
    cuts=st.lists(st.integers(1, 7) | st.just(200), min_size=1),
    bogus=st.sampled_from([b"", ack(60_000), ack(1)]),
)
def test_acknowledgements_may_come_in_pieces_twice_or_for_nothing(cuts: list[int], bogus: bytes) -> None:
    heard: list[tuple[int, int]] = []
    a, b = socket.socketpair()
    client = Client(CallbackAPIVersion.VERSION2, "test", protocol=MQTTProtocolVersion.MQTTv311)
    client.on_assured = lambda n, refused: heard.append((n, refused))
    with a, b:
        client._create_socket = lambda: a  # type: ignore[method-assign]  # in place of connecting
        client.connect_async("127.0.0.1", 1)
        client.reconnect()
        b.sendall(CONNACK[V311])
        while not client.is_connected():
            client.loop(1.0)
        client.publish_assured([(b"e", event) for event in EVENTS[:10]], retain=False)
        ids = list(client._sent)
        wire = bogus + b"".join(map(ack, ids)) + b"".join(map(ack, ids))
        at = 0
        for i in range(len(wire)):
            size = cuts[i % len(cuts)]
            b.sendall(wire[at : at + size])
            client.loop(0.2)
            at += size
            if at >= len(wire):
                break
    assert sum(n for n, _ in heard) == 10
    assert client.assured == 0


@pytest.mark.parametrize("most", [1, 20, 200])
def test_no_more_are_on_their_way_than_may_be(most: int) -> None:
    """MQTT 5's Receive Maximum: who sends more is cut off."""
    client = Client(CallbackAPIVersion.VERSION2, "test", protocol=V5)
    a, b = socket.socketpair()
    with a, b:
        client._create_socket = lambda: a  # type: ignore[method-assign]
        client.at_once = most
        client.connect_async("127.0.0.1", 1)
        client.reconnect()
        b.sendall(CONNACK[V5])
        while not client.is_connected():
            client.loop(1.0)
        client.publish_assured([(b"e", event) for event in EVENTS], retain=False)
        assert len(client._sent) == most
        done = 0
        while client.assured:
            first = next(iter(client._sent))
            b.sendall(ack(first))
            client.loop(1.0)
            done += 1
            assert len(client._sent) == min(most, len(EVENTS) - done)
    assert done == len(EVENTS)


@pytest.mark.mosquitto
@pytest.mark.parametrize("mqtt5", [False, True], ids=["3.1.1", "5"])
def test_events_outlive_a_broker_that_hangs(server: Mosquitto, mqtt5: bool) -> None:
    server.start()
    watching = Subscriber(server.port, "e/#")
    broker = Broker(BrokerUrl("127.0.0.1", server.port, mqtt5=mqtt5), Counters())
    try:
        broker.start()
        assert broker.wait_ready(10)
        server.signal(signal.SIGSTOP)
        assert broker.publish_many([(f"e/{n % 3}", event) for n, event in enumerate(EVENTS)], qos=1) == 300
        server.signal(signal.SIGCONT)
        wait_for(lambda: watching.last("e/2") == EVENTS[299], 20, "the last event")
        assert [payload for _, payload in watching.messages] == EVENTS
        wait_for(lambda: broker.flush(0.1), 10, "the last acknowledgement")
    finally:
        watching.broker.stop()
        broker.stop()
    assert broker._counters.drops() == {}


@pytest.mark.mosquitto
def test_what_an_mqtt5_broker_refuses_is_counted(server: Mosquitto) -> None:
    rules = server.folder / "acl"
    rules.write_text("topic write allowed/#\ntopic read #\n")
    server.start(f"allow_anonymous true\nacl_file {rules}")
    broker = Broker(BrokerUrl("127.0.0.1", server.port, mqtt5=True), Counters())
    try:
        broker.start()
        assert broker.wait_ready(10)
        broker.publish_many([("allowed/1", b"x"), ("forbidden/1", b"x"), ("forbidden/2", b"x")], qos=1)
        wait_for(lambda: broker.flush(0.1), 10, "the acknowledgements")
    finally:
        broker.stop()
    assert broker._counters.drops() == {Drop.REFUSED: 2}
