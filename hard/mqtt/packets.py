"""PUBLISH and PUBACK as bytes: what the connection writes and reads by itself, without paho's objects."""

from __future__ import annotations

from typing import Final

PUBLISH: Final = 0x30
RETAIN: Final = 0x01
QOS_1: Final = 0x02
QOS: Final = 0x06  # bits of a PUBLISH's first byte
PUBACK: Final = 0x40
MOST_AROUND: Final = 10  # bytes of a PUBLISH besides topic and payload, its properties empty
REFUSED: Final = 0x80  # from here on a reason says that the message was not taken


def varint(data: bytes, at: int) -> tuple[int, int]:
    """MQTT's variable byte integer here, and where it ends; (0, 0) where it is not complete or too long."""
    value = 0
    for i in range(at, min(at + 4, len(data))):
        byte = data[i]
        value |= (byte & 0x7F) << 7 * (i - at)
        if byte < 0x80:
            return value, i + 1
    return 0, 0


def encoded(length: int) -> bytes:
    """MQTT's variable byte integer."""
    out = bytearray()
    while length >= 0x80:
        out.append(length & 0x7F | 0x80)
        length >>= 7
    out.append(length)
    return bytes(out)


def oversize(topic: str, payload: bytes, most: int) -> bool:
    """Whether a PUBLISH may be larger than so many bytes; of one nearly as large, too."""
    return len(topic.encode()) + len(payload) + MOST_AROUND > most


def publish(head: int, topic: bytes, middle: bytes, payload: bytes) -> tuple[bytes, ...]:
    """The parts of a PUBLISH; head: its first byte; middle: its id and properties, what it has of them."""
    length = 2 + len(topic) + len(middle) + len(payload)
    return bytes((head,)), encoded(length), len(topic).to_bytes(2, "big"), topic, middle, payload
