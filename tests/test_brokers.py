"""Brokers that die, refuse, are absent or speak TLS: what happens, and the log line that a person sees."""

from __future__ import annotations

import json
import logging
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from certificates import Authority
from conftest import Hard, Mosquitto, wait_for
from hard.broker import Broker, BrokerUrl
from hard.stats import Counters, Drop
from test_daemon import Subscriber

pytestmark = pytest.mark.mosquitto

AGAIN = "; trying again every 1 to 5 s"
Connect = Callable[..., Broker]


@pytest.fixture
def connect(port: int, caplog: pytest.LogCaptureFixture) -> Iterator[Connect]:
    """A started Broker; its log lines are what a person sees."""
    caplog.set_level(logging.INFO, "hard.broker")
    made: list[Broker] = []

    def make(host: str = "127.0.0.1", *, max_queued: int = 10_000, **access: object) -> Broker:
        url = BrokerUrl(host, port, **access)
        made.append(Broker(url, Counters(), max_queued=max_queued, presence="hard/status"))
        made[-1].start()
        return made[-1]

    yield make
    for broker in made:
        broker.stop()


@pytest.fixture
def says(caplog: pytest.LogCaptureFixture, port: int) -> Callable[[str], None]:
    """Wait for a line of the log, and forget what came before it."""

    def wait(text: str, host: str = "127.0.0.1", scheme: str = "mqtt", end: str = "") -> None:
        start = text.replace("URL", f"{scheme}://{host}:{port}")
        wait_for(lambda: any(m.startswith(start) and m.endswith(end) for m in caplog.messages), 20, start)
        caplog.clear()

    return wait


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ca")


def tls(authority: Authority, alternative: str = "DNS:localhost,IP:127.0.0.1", more: str = "") -> str:
    cert, key = authority.sign("broker", alternative)
    return (
        f"allow_anonymous true\ncafile {authority.ca}\ncertfile {cert}\nkeyfile {key}\n"
        f"require_certificate {'true' if more else 'false'}"
    )


def seen(port: int, topic: str) -> bytes:
    """The retained payload of a topic, as a late subscriber gets it."""
    late = Subscriber(port, topic)
    try:
        wait_for(lambda: late.last(topic) is not None, what=topic)
        return late.last(topic) or b""
    finally:
        late.broker.stop()


def test_a_broker_that_dies_three_times_gets_the_newest_state_again(
    server: Mosquitto, connect: Connect, says
) -> None:
    server.start()
    broker = connect()
    says("connected to URL")
    for n in range(3):
        assert broker.wait_ready(10)
        assert broker.publish("hard/alice/activity", b"before %d" % n, retain=True)
        assert broker.flush(5)
        server.kill()  # it has nothing on disk
        says(f"URL: connection lost{AGAIN}")
        assert not broker.publish("hard/alice/activity", b"meanwhile %d" % n, retain=True)
        assert not broker.publish("hard/alice/event", b"not retained")
        says(f"URL: cannot connect: Connection refused{AGAIN}")
        server.start()
        says("connected to URL")
        assert seen(server.port, "hard/alice/activity") == b"meanwhile %d" % n
        assert seen(server.port, "hard/status") == b"online"


def test_filters_that_are_refused_leave_those_before(server: Mosquitto, port: int) -> None:
    """Now, and on the connect after: there a wrong one would end paho's thread."""
    server.start()
    topics: list[str] = []
    broker = Broker(BrokerUrl("127.0.0.1", port), Counters())
    broker.listen({"a/+": 0}, lambda topic, _: topics.append(topic))
    broker.start()
    assert broker.wait_ready(10)
    for _ in range(2):
        with pytest.raises(ValueError, match=r"^'b\+' is no topic filter"):
            broker.relisten(["a/+"], {"c": 0, "b+": 0})
    server.kill()
    wait_for(lambda: not broker.connected, what="the loss")
    server.start()
    assert broker.wait_ready(10)
    assert broker.publish("c", b"")
    assert broker.publish("a/x", b"")
    wait_for(lambda: topics == ["a/x"], what="the topic listened to")
    broker.stop()


def test_online_is_said_when_the_broker_has_answered_the_subscriptions(server: Mosquitto, port: int) -> None:
    server.start()
    broker = Broker(BrokerUrl("127.0.0.1", port), Counters(), presence="hard/status")
    broker.listen({f"{n}/+": 0 for n in range(20)}, lambda _topic, _payload: None)
    broker.start()
    assert seen(port, "hard/status") == b"online"
    broker.relisten(["0/+"], {"x/+": 0})
    assert broker.wait_subscribed(10)
    said = server.log()
    broker.stop()
    assert said.index("Sending SUBACK") < said.index("'hard/status'")
    assert "Sending UNSUBACK" in said


def test_a_broker_that_is_restarted_accuses_nobody(
    server: Mosquitto, connect: Connect, says, caplog: pytest.LogCaptureFixture
) -> None:
    """At its end mosquitto publishes every client's last will, to that client too."""
    server.start()
    broker = connect()
    assert broker.wait_ready(10)
    caplog.clear()
    server.signal(signal.SIGTERM)
    wait_for(lambda: caplog.messages, what="the loss")
    assert caplog.messages[0] == f"{broker.url}: connection lost{AGAIN}"
    server.kill()
    server.start()
    says("connected to URL")
    assert seen(server.port, "hard/status") == b"online"


def test_another_daemon_of_our_prefix_is_put_right_and_named(
    server: Mosquitto, connect: Connect, says
) -> None:
    server.start()
    assert connect().wait_ready(10)
    other = Subscriber(server.port, "hard/status")
    try:
        other.broker.publish("hard/status", b"stopped", 1, retain=True)
        wait_for(
            lambda: b"stopped" in [p for _, p in other.messages] and other.last("hard/status") == b"online"
        )
    finally:
        other.broker.stop()
    says(
        "URL: hard/status was 'stopped', which is wrong while this daemon runs", end="their own output.prefix"
    )
    assert seen(server.port, "hard/status") == b"online"


def test_a_refused_password_is_named_and_tried_again(server: Mosquitto, connect: Connect, says) -> None:
    server.start(server.set_password("hard", "right-password"))
    broker = connect(username="hard", password="wrong-password")
    says(
        "URL: refused user 'hard': Not authorized; check broker.username and the password "
        f"(broker.password_file, HARD__BROKER__PASSWORD, or the credential mqtt-password){AGAIN}"
    )
    server.set_password("hard", "wrong-password")  # now it is the right one
    says("connected to URL")
    assert broker.wait_ready(10)


def test_a_missing_user_is_named(server: Mosquitto, connect: Connect, says) -> None:
    server.start(server.set_password("hard", "password"))
    connect()
    says(
        "URL: refused us: Not authorized; it wants a user: set broker.username and broker.password_file"
        + AGAIN
    )


def test_an_outage_logs_each_kind_of_trouble_once(
    server: Mosquitto, connect: Connect, says, caplog: pytest.LogCaptureFixture
) -> None:
    connect(username="hard", password="x")
    says(f"URL: cannot connect: Connection refused{AGAIN}")
    server.start(server.set_password("hard", "y"))
    says("URL: refused user 'hard'")
    wait_for(lambda: server.log().count("not authorised") >= 2, what="a second try")
    assert caplog.messages == []


def test_a_broker_that_is_absent_at_start_is_found_when_it_comes(
    server: Mosquitto, connect: Connect, says
) -> None:
    broker = connect()
    says(f"URL: cannot connect: Connection refused{AGAIN}")
    assert not broker.publish("hard/alice/activity", b"early", retain=True)
    server.start()
    says("connected to URL")
    assert seen(server.port, "hard/alice/activity") == b"early"


def test_a_host_that_does_not_exist_is_named(connect: Connect, says) -> None:
    connect("no-such-host.invalid")
    says("URL: cannot connect: ", host="no-such-host.invalid")


@pytest.mark.parametrize("mqtt5", [False, True])
def test_mqtt_is_3_1_1_and_5_on_request(server: Mosquitto, connect: Connect, mqtt5: bool) -> None:
    server.start()
    got: list[tuple[str, bytes]] = []
    broker = connect(mqtt5=mqtt5)
    listener = Broker(BrokerUrl("127.0.0.1", server.port, mqtt5=mqtt5), Counters())
    listener.listen({"a/+": 1}, lambda topic, payload: got.append((topic, payload)))
    listener.listen_to("b", lambda topic, payload: got.append((topic, payload + b" apart")))
    listener.start()
    try:
        assert listener.wait_ready(10)
        assert broker.wait_ready(10)
        assert broker.publish("a/x", b"1", qos=2)
        assert broker.publish("b", b"2", qos=1)
        wait_for(lambda: sorted(got) == [("a/x", b"1"), ("b", b"2 apart")], what="both messages")
    finally:
        listener.stop()
    assert f"(p{5 if mqtt5 else 2}, c1, k30)" in server.log()


def test_tls_with_ones_own_ca(server: Mosquitto, connect: Connect, says, authority: Authority) -> None:
    server.start(tls(authority))
    broker = connect("localhost", tls=True, ca=str(authority.ca))
    says("connected to URL", host="localhost", scheme="mqtts")
    assert broker.wait_ready(10)
    assert broker.publish("a", b"1", qos=1)
    assert broker.flush(5)
    assert broker._client.socket().getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_broker_of_another_ca_is_not_trusted(
    server: Mosquitto, connect: Connect, says, authority: Authority, tmp_path: Path
) -> None:
    server.start(tls(authority))
    other = Authority(tmp_path / "other", "other")
    broker = connect("localhost", tls=True, ca=str(other.ca), username="hard", password="secret")
    says(
        "URL: the broker's certificate is not accepted: self-signed certificate in certificate chain; set "
        f"broker.tls.ca to the certificate of the CA that signed it{AGAIN}",
        host="localhost",
        scheme="mqtts",
    )
    assert not broker.connected


def test_a_certificate_for_another_name_is_not_accepted(
    server: Mosquitto, connect: Connect, says, authority: Authority
) -> None:
    server.start(tls(authority, "DNS:elsewhere.example"))
    connect("localhost", tls=True, ca=str(authority.ca))
    says("URL: the broker's certificate is not accepted: Hostname mismatch", host="localhost", scheme="mqtts")


def test_insecure_takes_any_certificate_and_says_so(
    server: Mosquitto, connect: Connect, says, authority: Authority
) -> None:
    server.start(tls(authority, "DNS:elsewhere.example"))
    broker = connect("localhost", tls=True, insecure=True)
    says("URL: broker.tls.insecure: anyone can pose as this broker", host="localhost", scheme="mqtts")
    assert broker.wait_ready(10)


def test_a_client_certificate(server: Mosquitto, connect: Connect, says, authority: Authority) -> None:
    server.start(tls(authority, more="client certificates"))
    connect("localhost", tls=True, ca=str(authority.ca)).wait_ready(0.1)
    says(
        "URL: closed the connection; it may want a client certificate: set broker.tls.cert and "
        f"broker.tls.key{AGAIN}",
        host="localhost",
        scheme="mqtts",
    )
    cert, key = authority.sign("hard")
    broker = connect("localhost", tls=True, ca=str(authority.ca), cert=str(cert), key=str(key))
    assert broker.wait_ready(10)


def test_tls_to_a_port_without_it(server: Mosquitto, connect: Connect, says) -> None:
    server.start()
    connect(tls=True)
    end = f"; a port without TLS is mqtt://{AGAIN}"  # a reset, an end of file: as the timing has it
    says("URL: cannot connect: ", scheme="mqtts", end=end)


def test_no_tls_to_a_port_with_it(server: Mosquitto, connect: Connect, says, authority: Authority) -> None:
    server.start(tls(authority))
    connect()
    says(f"URL: closed the connection before answering; a port with TLS is mqtts://{AGAIN}")


def test_a_broker_that_does_not_keep_up_costs_counted_labels(
    server: Mosquitto, connect: Connect, says
) -> None:
    server.start()
    broker = connect(max_queued=10)
    assert broker.wait_ready(10)
    server.signal(signal.SIGSTOP)
    sent = [broker.publish("hard/alice/activity", bytes(1 << 20), retain=True) for _ in range(40)]
    server.signal(signal.SIGCONT)
    assert broker.flush(10)
    assert sent[:9] == [True] * 9  # our presence may still be the tenth
    assert 1 <= broker._counters[Drop.OUTBOX_FULL] == sent.count(False)
    assert broker.publish("hard/alice/activity", b"{}")


def test_more_retained_topics_than_the_queue_holds_are_all_renewed(
    server: Mosquitto, connect: Connect, says
) -> None:
    broker = connect(max_queued=20)
    topics = {f"hard/{n}/activity" for n in range(500)}
    for topic in topics:
        broker.publish(topic, topic.encode(), retain=True)
    server.start()
    watching = Subscriber(server.port, "hard/+/activity")
    try:
        wait_for(lambda: {t for t, p in watching.messages if p == t.encode()} == topics, what="500 topics")
    finally:
        watching.broker.stop()
    assert broker._counters[Drop.OUTBOX_FULL] == 0


def test_a_topic_cleared_while_the_broker_was_away_is_cleared(server: Mosquitto) -> None:
    server.start()
    other = Subscriber(server.port, "hard/ghost/activity")
    broker = Broker(BrokerUrl("127.0.0.1", server.port), Counters())
    try:
        assert other.broker.publish("hard/ghost/activity", b"old", retain=True)
        wait_for(lambda: other.last("hard/ghost/activity") == b"old", what="the old label")
        assert not broker.publish("hard/ghost/activity", b"", retain=True)  # not connected yet
        broker.start()
        wait_for(lambda: other.last("hard/ghost/activity") == b"", what="the clearing")
    finally:
        other.broker.stop()
        broker.stop()


def test_the_daemon_gets_through_every_trouble_and_says_so(hard: Hard, server: Mosquitto) -> None:
    """Absent, then refusing, then there, then dead and back: all in one run, in the lines on stderr."""
    environ = {
        "HARD__BROKER__URL": f"mqtt://127.0.0.1:{server.port}",
        "HARD__BROKER__USERNAME": "hard",
        "HARD__BROKER__PASSWORD": "0123",
    }
    process = hard.start("run", "--simulate", "1", "--for", "90", **environ)  # the lines end in any case
    assert process.stderr
    lines = iter(process.stderr.readline, "")

    def said(text: str) -> bool:
        return any(f"WARNING mqtt://127.0.0.1:{server.port}: {text}" in line for line in lines)

    assert said("cannot connect: Connection refused; trying again every 1 to 5 s")
    locked = server.set_password("hard", "another")
    server.start(locked)
    assert said("refused user 'hard': Not authorized; check broker.username and the password")
    server.set_password("hard", "0123")
    assert any("connected to" in line for line in lines)
    server.kill()
    assert said("connection lost; trying again every 1 to 5 s")
    server.start()
    assert any("connected to" in line for line in lines)
    assert json.loads(seen(server.port, "hard/synthetic-1/activity"))["device"] == "synthetic-1"
    assert seen(server.port, "hard/status") == b"online"
    process.terminate()
    process.communicate(timeout=20)
    assert process.returncode == 0
