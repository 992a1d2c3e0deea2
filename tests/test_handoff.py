"""The inbox is bounded, drops the oldest and counts; nothing gets lost between threads."""

from __future__ import annotations

import threading

from hard.handoff import Inbox
from hard.stats import Counters, Drop
from hard.types import Message


def message(n: int, size: int = 0) -> Message:
    return Message(str(n), bytes(size), 0.0)


def test_a_full_inbox_drops_the_oldest_and_counts() -> None:
    counters = Counters()
    inbox = Inbox(3, 1 << 20, counters)
    for n in range(5):
        inbox.put(message(n))
    assert [m.topic for m in inbox.drain(0)] == ["2", "3", "4"]
    assert counters.drops() == {Drop.INBOX_FULL: 2}
    assert not inbox.drain(0)


def test_an_inbox_is_bounded_in_bytes() -> None:
    counters = Counters()
    inbox = Inbox(100, 1000, counters)
    for n in range(5):
        inbox.put(message(n, 400))
    assert [m.topic for m in inbox.drain(0)] == ["3", "4"]
    inbox.put(message(9, 400))
    assert [m.topic for m in inbox.drain(0)] == ["9"]
    assert counters[Drop.INBOX_FULL] == 3


def test_every_message_of_every_thread_arrives_once_in_its_order() -> None:
    inbox = Inbox(1_000_000, 1 << 30, Counters())
    senders = [
        threading.Thread(target=lambda k=k: [inbox.put(message(10_000 * k + n)) for n in range(2000)])
        for k in range(4)
    ]
    got: list[int] = []
    for sender in senders:
        sender.start()
    while len(got) < 8000:
        got += [int(m.topic) for m in inbox.drain(5.0)]
    for sender in senders:
        sender.join()
    for k in range(4):
        assert [n for n in got if n // 10_000 == k] == [10_000 * k + n for n in range(2000)]


def test_wake_ends_a_wait() -> None:
    inbox = Inbox(10, 1000, Counters())
    ended = threading.Event()
    waiter = threading.Thread(target=lambda: (inbox.drain(60.0), ended.set()))
    waiter.start()
    while not ended.wait(0.01):
        inbox.wake()
    waiter.join()
