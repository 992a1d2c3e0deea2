"""Messages come out of the connection as they went in, however the network cut them."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import paho.mqtt.client as mqtt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from hard.broker import Broker, BrokerUrl
from hard.mqtt.client import Client
from hard.stats import Counters

V311, V5 = MQTTProtocolVersion.MQTTv311, MQTTProtocolVersion.MQTTv5
CONNACK = {V311: bytes([0x20, 2, 0, 0]), V5: bytes([0x20, 3, 0, 0, 0])}
PINGRESP = bytes([0xD0, 0])
Wire = list[tuple[bytes, bytes, int]]  # topic, payload, QoS

messages = st.lists(
    st.tuples(
        st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=30).map(str.encode),
        st.one_of(st.binary(max_size=20), st.integers(100, 20_000).map(lambda n: b"x" * n)),
        st.sampled_from([0, 0, 0, 1]),
    ),
    max_size=30,
)


def packet(topic: bytes, payload: bytes, qos: int, mid: int, protocol: MQTTProtocolVersion) -> bytes:
    """A PUBLISH as section 3.3 of the standards says."""
    body = len(topic).to_bytes(2, "big") + topic
    body += mid.to_bytes(2, "big") if qos else b""
    body += bytes([5, 2, 0, 0, 0, 9]) if protocol == V5 else b""  # a message expiry of 9 s
    body += payload
    length, size = len(body), bytearray()
    while True:
        size.append(length % 128 | (128 if length >= 128 else 0))
        length //= 128
        if not length:
            return bytes([0x30 | qos << 1]) + bytes(size) + body


@contextlib.contextmanager
def server(parts: list[bytes]) -> Iterator[int]:
    """A loopback server that sends these bytes, a part at a time, to who connects; yields its port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        peer, _ = listener.accept()
        with peer:
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for part in parts:
                peer.sendall(part)
            while peer.recv(4096):
                pass

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        thread.join(10)
        listener.close()


@pytest.mark.parametrize("protocol", [V311, V5], ids=["3.1.1", "5"])
@settings(max_examples=40, deadline=None)
@given(sent=messages, cuts=st.lists(st.integers(1, 400), max_size=40))
def test_every_message_arrives_whole_and_in_order(
    protocol: MQTTProtocolVersion, sent: Wire, cuts: list[int]
) -> None:
    wire = b"".join(
        packet(t, p, qos, i + 1, protocol) + PINGRESP * (i % 3 == 1) for i, (t, p, qos) in enumerate(sent)
    )
    end = packet(b"end", b"", 0, 0, protocol)
    wire += end
    parts = [CONNACK[protocol]]
    for cut in cuts:
        parts.append(wire[:cut])
        wire = wire[cut:]
    got: list[tuple[bytes, bytes]] = []
    client = Client(CallbackAPIVersion.VERSION2, "test", protocol=protocol)
    client.take = got.extend
    with server([*parts, wire]) as port:
        client.connect("127.0.0.1", port)
        while not got or got[-1] != (b"end", b""):
            assert client.loop(5.0) == mqtt.MQTT_ERR_SUCCESS
        client.disconnect()
        client.loop(1.0)
    assert got[:-1] == [(topic, payload) for topic, payload, _ in sent]


@pytest.mark.parametrize("mqtt5", [False, True], ids=["3.1.1", "5"])
def test_a_block_of_messages_arrives_as_messages(mosquitto: int, mqtt5: bool) -> None:
    """Through a real broker, both ways, retained and not, from empty to larger than a read of the socket."""
    url = BrokerUrl("127.0.0.1", mosquitto, mqtt5=mqtt5)
    block = [(f"a/{n}/b", b"%d " % n * size) for n, size in enumerate([1, 5, 40, 3000, 30_000])]
    got: dict[str, bytes] = {}
    complete = threading.Event()

    def take(topic: str, payload: bytes) -> None:
        got[topic] = payload
        if len(got) == len(block):
            complete.set()

    counters = Counters()
    sender = Broker(url, counters)
    receiver = Broker(url, counters)
    receiver.listen({"a/+/b": 0}, take)
    try:
        sender.start()
        assert sender.wait_ready(10)
        assert sender.publish_many(block, retain=True) == len(block)
        assert sender.flush(10)
        receiver.start()  # after it: these are the retained ones
        assert complete.wait(10)
        assert got == dict(block)
        got.clear()
        complete.clear()
        assert sender.publish_many(block) == len(block)
        assert complete.wait(10)
        assert got == dict(block)
    finally:
        sender.stop()
        receiver.stop()
    assert counters.drops() == {}


def test_what_goes_out_does_not_wait_while_reading_rests() -> None:
    """What comes while the client rests stays in the socket, labels leave, and `stop` ends it."""
    first, second = (packet(b"in", payload, 0, 0, V311) for payload in (b"1", b"2"))
    got: list[bytes] = []
    taken, left = threading.Event(), threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))
    broker = Broker(BrokerUrl("127.0.0.1", listener.getsockname()[1]), Counters())

    def take(_topic: str, payload: bytes) -> None:
        got.append(payload)
        broker.rest(60.0)
        taken.set()

    def serve() -> None:
        peer, _ = listener.accept()
        with peer:
            peer.recv(4096)  # CONNECT
            peer.sendall(CONNACK[V311] + first)
            if not taken.wait(10):
                return
            peer.sendall(second)
            said = b""
            while b"label" not in said and (part := peer.recv(4096)):
                said += part
                if said.count(b"\x82") == 1 and b"label" not in said:
                    broker.publish_many([("out", b"label")])
            left.set()
            with contextlib.suppress(ConnectionResetError):  # "2" was never read
                while peer.recv(4096):
                    pass

    broker.listen({"in": 0}, take)
    thread = threading.Thread(target=serve)
    thread.start()
    try:
        broker.start()
        assert left.wait(10)
        assert got == [b"1"]
    finally:
        broker.stop()
        thread.join(10)
        listener.close()
    assert not thread.is_alive()


def test_events_do_not_wait_for_acknowledgements_that_are_not_read_yet() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    broker = Broker(BrokerUrl("127.0.0.1", listener.getsockname()[1]), Counters())
    events = [b"event-%03d" % i for i in range(150)]  # paho's own limit is 20
    all_came = threading.Event()

    def serve() -> None:
        peer, _ = listener.accept()
        with peer:
            peer.recv(4096)  # CONNECT
            peer.sendall(CONNACK[V311])
            said = b""
            while not all(event in said for event in events) and (part := peer.recv(65_536)):
                said += part
            all_came.set()
            while peer.recv(4096):
                pass

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        broker.start()
        assert broker.wait_ready(10)
        for event in events:
            assert broker.publish("out", event, qos=1)
        assert all_came.wait(10)
    finally:
        broker.stop()
        thread.join(10)
        listener.close()


def test_messages_behind_an_acknowledgement_are_taken_together() -> None:
    """However many messages are in flight: paho's loop_read would take as many packets in its slower way."""
    acks = b"".join(bytes([0x40, 2, 0, mid]) for mid in range(1, 6))
    wire = acks + b"".join(packet(b"in", b"%d" % i, 0, 0, V311) for i in range(50))
    takes: list[int] = []
    client = Client(CallbackAPIVersion.VERSION2, "test", protocol=V311)
    client.take = lambda messages: takes.append(len(messages))
    with server([CONNACK[V311]]) as port:
        client.connect("127.0.0.1", port)
        while not client.is_connected():
            assert client.loop(5.0) == mqtt.MQTT_ERR_SUCCESS
        for _ in range(20):
            client.publish("out", b"event", qos=1)
        client._unread, client._read_to = wire, 0
        assert client.loop_read() == mqtt.MQTT_ERR_SUCCESS
        client.disconnect()
        client.loop(1.0)
    assert takes == [50]
