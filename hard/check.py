"""`hard check --listen`: watch a broker or ports for a while, then say what every stream is."""

from __future__ import annotations

import json
import time

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from hard.broker import Broker, BrokerUrl
from hard.codecs import CodecOptions
from hard.codecs.auto import AutoCodec
from hard.handoff import Inbox
from hard.listen import Finding, Listener
from hard.registry import make_codec
from hard.runtime import Stop
from hard.settings import Settings
from hard.sources.ports import by_device
from hard.stats import Counters, Drop
from hard.types import HardError, Message

CONNECT_S = 5.0
OWN = ("activity", "event", "totals", "status", "health")  # what hard itself publishes below its prefix
SAYS = (b"online", b"offline", b"stopped", b'{"v":')  # how that begins

PASS, WARN, FAIL = 0, 1, 2


def listen(settings: Settings, url: BrokerUrl | None, seconds: float, as_json: bool) -> int:
    """Listen to every topic of a broker, or (no URL) to the serial ports of the settings.

    Returns 0 where all is well, 1 where a stream has a problem, 2 where none was heard.
    """
    counters, stop, console = Counters(), Stop(), Console()
    if not as_json:
        what = (
            str(url) if url else ", ".join(p.port or "" for p in by_device(settings.sources.serial).values())
        )
        console.print(f"listening to {what} for {seconds:g} s ...", highlight=False)
    with stop.on_signals():
        if url:
            listener = _hear_broker(settings, url, seconds, stop, counters)
        else:
            listener = _hear_ports(settings, seconds, stop, counters)
    findings = listener.findings()
    if as_json:
        report = {"streams": msgspec.to_builtins(findings)}
        for kind, topics in (("unreadable", listener.unreadable), ("empty", listener.empty())):
            report[kind] = {topic: {"messages": n, "why": why} for topic, (n, why) in topics.items()}
        print(json.dumps(report))
    else:
        _show(console, findings, listener)
        if not findings:
            console.print(f"no stream was heard: {_ask(listener, url, counters)}")
    if not findings:
        return FAIL
    return WARN if any(f.problems for f in findings) or listener.unreadable else PASS


def _ask(listener: Listener, url: BrokerUrl | None, counters: Counters) -> str:
    """Where to look for a stream that is not there."""
    if listener.unreadable or listener.empty():
        return "what came is above, with the reason why it is none"
    if url:
        return "is the app recording, and its broker address and topic right?"
    if counters[Drop.LONG_LINE]:
        return "what comes has no line ends: is the baud rate right?"
    return "does the board send, and are port and baud rate right?"


def _hear_broker(
    settings: Settings, url: BrokerUrl, seconds: float, stop: Stop, counters: Counters
) -> Listener:
    topics = [t for t in settings.sources.mqtt.topics if t.codec != "auto"]
    configured = [(t.filter, t.codec, make_codec(t.codec, t, counters)) for t in topics]
    listener = Listener(configured, AutoCodec(CodecOptions(), counters), settings.imu.max_gap_s)
    prefix = settings.output.prefix

    def take(topic: str, payload: bytes) -> None:
        last = topic.rpartition("/")[2]
        own = last in OWN and (topic.startswith(f"{prefix}/") or payload.startswith(SAYS))  # or another's
        if payload and not own and not topic.startswith(("$", "homeassistant/")):
            listener.take(Message(topic, payload, time.monotonic()))

    broker = Broker(url, counters)
    broker.listen({"#": 0}, take)
    broker.start()
    try:
        if not broker.wait_ready(CONNECT_S):
            raise HardError(
                f"no broker answers at {url}; start one with `hard run`, or name one with --broker"
            )
        stop.event.wait(seconds)
    finally:
        broker.stop()
    return listener


def _hear_ports(settings: Settings, seconds: float, stop: Stop, counters: Counters) -> Listener:
    from hard.sources.serial import SerialSource

    inbox = Inbox(settings.engine.inbox_messages, settings.engine.inbox_mb << 20, counters)
    source = SerialSource(settings.sources.serial, None, inbox, counters)
    lines = [
        (f"serial/{device}", "csv-lines", make_codec("csv-lines", port, counters))
        for device, port in source.ports.items()
    ]
    listener = Listener(lines, AutoCodec(CodecOptions(), counters), settings.imu.max_gap_s)
    end_s = time.monotonic() + seconds
    source.start()
    try:
        while not stop.event.is_set() and (left_s := end_s - time.monotonic()) > 0:
            for message in inbox.drain(min(left_s, 0.2)):
                listener.take(message)
    finally:
        source.stop()
    return listener


def _show(console: Console, findings: list[Finding], listener: Listener) -> None:
    for f in findings:
        facts = Table.grid(padding=(0, 2))
        facts.add_column(style="dim", no_wrap=True)
        facts.add_column()
        facts.add_row("topic", Text(f"{f.topic} ({f.dialect}, {f.messages} messages)"))
        for sensor, hz in f.rate_hz.items():
            facts.add_row("rate", Text(f"{sensor} {hz:g} Hz, jitter {f.jitter_ms[sensor]:g} ms"))
        facts.add_row("clock", Text(f.clock))
        if f.acc_norm is not None:
            rest = f"up is {f.up}" if f.up else "no gravity in it"
            facts.add_row("acceleration", Text(f"median size {f.acc_norm:g} m/s², {rest}"))
        for problem in f.problems:
            facts.add_row(Text("wrong", "red"), Text(problem))
        if not f.problems:
            facts.add_row(Text("fine", "green"), Text("lay the phone down, screen up: up must then be +z"))
        console.print(Text(f.device, "bold"), facts, "")
    for topic, (n, why) in listener.empty().items():
        console.print(Text.assemble(("no samples ", "yellow"), f"{topic}: {n} messages; {why}"))
    for topic, (n, why) in listener.unreadable.items():
        console.print(Text.assemble(("unreadable ", "red"), f"{topic}: {n} messages; {why}"))
