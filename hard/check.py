"""`hard check --listen`: watch a broker for a while, then say what every stream is and what is wrong."""

from __future__ import annotations

import json
import time

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from hard.app import Stop
from hard.broker import Broker, BrokerUrl
from hard.codecs import CodecOptions
from hard.codecs.auto import AutoCodec
from hard.config import Settings
from hard.listen import Finding, Listener
from hard.registry import make_codec
from hard.stats import Counters
from hard.types import HardError, Message

CONNECT_S = 5.0
OWN = ("activity", "event", "totals", "status", "health")  # what hard itself publishes below its prefix

PASS, WARN, FAIL = 0, 1, 2


def listen(url: BrokerUrl, settings: Settings, seconds: float, as_json: bool) -> int:
    """Listen to every topic: 0 where all is well, 1 where a stream has a problem, 2 where none was heard."""
    counters, stop = Counters(), Stop()
    configured = [(t.filter, t.codec, make_codec(t.codec, t, counters))
                  for t in settings.sources.mqtt.topics if t.codec != "auto"]  # fmt: skip
    listener = Listener(configured, AutoCodec(CodecOptions(), counters))
    prefix = settings.output.prefix

    def take(topic: str, payload: bytes) -> None:
        own = topic.startswith(f"{prefix}/") and topic.rpartition("/")[2] in OWN
        if payload and not own and not topic.startswith(("$", "homeassistant/")):
            listener.take(Message(topic, payload, time.monotonic()))

    broker = Broker(url, counters)
    broker.listen({"#": 0}, take)
    console = Console()
    with stop.on_signals():
        broker.start()
        try:
            if not broker.wait_ready(CONNECT_S):
                raise HardError(
                    f"no broker answers at {url}; start one with `hard run`, or name one with --broker"
                )
            if not as_json:
                console.print(f"listening to {url} for {seconds:g} s ...", highlight=False)
            stop.event.wait(seconds)
        finally:
            broker.stop()
    findings = listener.findings()
    if as_json:
        unreadable = {topic: {"messages": n, "why": why} for topic, (n, why) in listener.unreadable.items()}
        print(json.dumps({"streams": msgspec.to_builtins(findings), "unreadable": unreadable}))
    else:
        _show(console, findings, listener.unreadable)
    if not findings:
        return FAIL
    return WARN if any(f.problems for f in findings) or listener.unreadable else PASS


def _show(console: Console, findings: list[Finding], unreadable: dict[str, tuple[int, str]]) -> None:
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
    for topic, (n, why) in unreadable.items():
        console.print(Text.assemble(("unreadable ", "red"), f"{topic}: {n} messages; {why}"))
    if not findings:
        console.print("no stream was heard: is the app recording, and its broker address and topic right?")
