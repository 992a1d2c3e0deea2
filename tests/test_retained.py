"""Retained state: the newest payload is the last one published, whoever publishes when."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hard.mqtt.retained import Retained

puts = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3)), max_size=12)


@given(before=puts, during=puts, room=st.integers(1, 5))
def test_the_last_payload_published_is_the_newest(
    before: list[tuple[str, int]], during: list[tuple[str, int]], room: int
) -> None:
    """`during` are another thread's puts and publishes, each in the middle of one of ours."""
    retained, published, newest = Retained(), dict[str, bytes](), dict[str, bytes]()
    waiting = list(during)

    def put(topic: str, n: int) -> None:
        newest[topic] = b"%d" % n if n else b""
        retained.put([(topic, newest[topic])], 0)

    def publish(topic: str, payload: bytes, _qos: int) -> bool:
        if waiting:
            put(*waiting[0])
            other, _ = waiting.pop(0)
            published[other] = newest[other]
        published[topic] = payload  # ours comes last: the worst case
        return True

    for topic, n in before:
        put(topic, n)
    retained.renew()
    for _ in range(100):
        retained.pump(publish, room)
    assert published == newest | {topic: published[topic] for topic in published.keys() - newest.keys()}


def test_the_number_of_topics_is_bounded() -> None:
    retained, published = Retained(max_topics=3), list[str]()
    for topic in "abcad":
        retained.put([(topic, b"x")], 0)
    retained.renew()
    retained.pump(lambda topic, _payload, _qos: published.append(topic) is None, 10)
    assert published == ["c", "a", "d"]


def test_a_topic_that_was_cleared_is_not_renewed_again() -> None:
    retained, published = Retained(), list[bytes]()
    retained.put([("a", b"")], 0)
    for _ in range(2):
        retained.renew()
        retained.pump(lambda _topic, payload, _qos: published.append(payload) is None, 10)
    assert published == [b""]
