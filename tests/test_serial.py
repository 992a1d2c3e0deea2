"""The serial source over real ptys and TCP: lines, reconnection, several sources at once, real recordings."""

from __future__ import annotations

import os
import pty
import signal
import socket
import threading
import time
import tty
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from conftest import Hard, wait_for
from hard.handoff import Inbox
from hard.recordings import read_recording
from hard.settings import PortSettings, SerialSourceSettings
from hard.sources.serial import MAX_LINE, Lines, PortReader, SerialSource, explain
from hard.stats import Counters, Drop
from hard.synthetic import SyntheticPhone
from hard.types import G, HardError
from test_daemon import Subscriber
from test_live import live, offline, send_synthetic


def text(t: np.ndarray, samples: np.ndarray) -> bytes:
    """Lines of milliseconds, m/s² and rad/s, after the tail of a line that was under way."""
    rows = (",".join(f"{v:.9g}" for v in row) for row in np.column_stack([t * 1000, samples]))
    return b"7,0.5\r\n" + "".join(f"{row}\r\n" for row in rows).encode()


class Board:
    """A microcontroller on a pty, at a path that stays when it is plugged out and in."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "board"
        self._main = -1

    def plug_in(self) -> None:
        self._main, side = pty.openpty()
        tty.setraw(side)
        self.path.unlink(missing_ok=True)
        self.path.symlink_to(os.ttyname(side))
        os.close(side)

    def plug_out(self) -> None:
        self.path.unlink(missing_ok=True)
        if self._main >= 0:
            os.close(self._main)
        self._main = -1

    def print(self, data: bytes) -> None:
        """Blocks while nobody reads, as the pty's buffer holds 4 kB."""
        while data:
            data = data[os.write(self._main, data) :]


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Board]:
    made = Board(tmp_path)
    made.plug_in()
    yield made
    made.plug_out()


class Bridge:
    """A serial port behind TCP, as ser2net offers it."""

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self.url = f"socket://127.0.0.1:{self.port}"
        self.connection: socket.socket | None = None

    def accept(self) -> None:
        self._server.settimeout(20)
        self.connection, _ = self._server.accept()

    def print(self, data: bytes) -> None:
        assert self.connection
        self.connection.sendall(data)

    def close(self) -> None:
        if self.connection:
            self.connection.close()
            self.connection = None
        self._server.close()

    def open_again(self) -> None:
        self._server = socket.create_server(("127.0.0.1", self.port))


@pytest.fixture
def bridge() -> Iterator[Bridge]:
    made = Bridge()
    yield made
    made.close()


@pytest.fixture
def read() -> Iterator[Callable[..., tuple[Inbox, Counters]]]:
    """Starts a source in this process, and stops it."""
    sources: list[SerialSource] = []

    def start(*ports: PortSettings) -> tuple[Inbox, Counters]:
        counters = Counters()
        inbox = Inbox(10_000, 1 << 22, counters)
        sources.append(SerialSource(SerialSourceSettings(ports=ports), None, inbox, counters))
        sources[-1].start()
        return inbox, counters

    yield start
    for source in sources:
        source.stop()


def lines_of(inbox: Inbox, wanted: int) -> list[bytes]:
    """The lines that arrive, until there are as many as wanted."""
    got: list[bytes] = []

    def enough() -> bool:
        for message in inbox.drain(0.01):
            assert message.payload.endswith(b"\n")
            got.extend(message.payload.splitlines())
        return len(got) >= wanted

    wait_for(enough, what=f"{wanted} lines")
    return got


def reached(counters: Counters, name: str, total: int) -> None:
    wait_for(lambda: counters[name] == total, what=f"{name} {total}")


def test_lines_of_a_pty_arrive_without_the_first_that_was_under_way(board: Board, read) -> None:
    inbox, counters = read(PortSettings(port=str(board.path), device="wrist"))
    reached(counters, "serial_opened", 1)
    board.print(b"2.5,3\r\na,1\r\n\r\nb,2\nc,")
    assert lines_of(inbox, 2) == [b"a,1", b"b,2"]
    board.print(b"3\n")
    assert lines_of(inbox, 1) == [b"c,3"]
    assert counters.drops() == {}


def test_a_board_that_is_plugged_out_and_in_is_read_again(board: Board, read, caplog) -> None:
    inbox, counters = read(PortSettings(port=str(board.path)))
    for turn in (1, 2, 3):
        reached(counters, "serial_opened", turn)  # what was sent before is flushed, as for any terminal
        board.print(b"x\n%d\n" % turn)
        assert lines_of(inbox, 1) == [b"%d" % turn]
        board.plug_out()
        reached(counters, "serial_outages", turn)
        board.plug_in()
    said = [r.getMessage() for r in caplog.records if "trying again" in r.getMessage()]
    assert len(said) == 3  # one line an outage


def test_a_port_that_is_absent_is_waited_for(tmp_path: Path, read) -> None:
    board = Board(tmp_path)
    inbox, counters = read(PortSettings(port=str(board.path)))
    reached(counters, "serial_outages", 1)
    board.plug_in()
    reached(counters, "serial_opened", 1)
    board.print(b"x\n1\n")
    assert lines_of(inbox, 1) == [b"1"]
    board.plug_out()


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # pyserial leaves a socket that the other side closed
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_bridge_that_goes_and_returns_is_read_again(bridge: Bridge, read) -> None:
    inbox, counters = read(PortSettings(port=bridge.url))
    for turn in (1, 2):
        bridge.accept()
        reached(counters, "serial_opened", turn)
        bridge.print(b"x\n%d\n" % turn)
        assert lines_of(inbox, 1) == [b"%d" % turn]
        bridge.close()
        reached(counters, "serial_outages", turn)
        bridge.open_again()


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_bridge_that_fell_silent_is_connected_to_again(bridge: Bridge) -> None:
    """The other machine lost its power: nothing ends the connection, and nothing comes."""
    counters = Counters()
    reader = PortReader("x", PortSettings(port=bridge.url), Inbox(9, 999, counters), counters, silent_s=0.1)
    reader.start()
    bridge.accept()
    reached(counters, "serial_outages", 1)
    bridge.accept()
    reached(counters, "serial_opened", 2)
    reader.stopped.set()
    reader.join(5)
    assert not [t for t in threading.enumerate() if t.name == "serial x"]


def test_a_board_that_is_unplugged_is_no_standstill(tmp_path: Path) -> None:
    """It is tried again after 1, 2, 4, 5, 5 ... s: health.stuck_s may be less than that."""
    counters = Counters()
    reader = PortReader("x", PortSettings(port=str(tmp_path / "no")), Inbox(9, 999, counters), counters)
    reader.start()
    wait_for(lambda: reader.turns >= 12, timeout_s=6.0, what="turns while it waits")
    reader.stopped.set()
    reader.join(1)
    assert not [t for t in threading.enumerate() if t.name == "serial x"]


def test_stop_ends_within_a_second_while_reading_and_while_waiting(board: Board, tmp_path: Path) -> None:
    counters = Counters()
    ports = (PortSettings(port=str(board.path)), PortSettings(port=str(tmp_path / "absent")))
    source = SerialSource(SerialSourceSettings(ports=ports), None, Inbox(10, 1000, counters), counters)
    source.start()
    reached(counters, "serial_opened", 1)
    reached(counters, "serial_outages", 1)
    began_s = time.monotonic()
    source.stop()
    source.stop()
    assert time.monotonic() - began_s < 1
    assert not [t for t in threading.enumerate() if t.name.startswith("serial ")]


def test_a_port_in_use_is_not_shared(board: Board, read) -> None:
    _, counters = read(
        PortSettings(port=str(board.path), device="a"), PortSettings(port=f"{board.path}", device="b")
    )
    reached(counters, "serial_outages", 1)
    reached(counters, "serial_opened", 1)
    assert counters["serial_opened"] == 1


def test_a_line_without_end_is_counted_once_and_forgotten() -> None:
    for size in (1, 1000, 5000, 20_000):
        counters = Counters()
        reader = Lines(counters)
        data = b"x\n" + b"9" * (3 * MAX_LINE) + b"\n1,2\n" + b"8" * MAX_LINE + b"\n"
        got = b"".join(reader.feed(data[i : i + size]) for i in range(0, len(data), size))
        assert got == b"1,2\n" + b"8" * MAX_LINE + b"\n"
        assert counters.drops() == {Drop.LONG_LINE: 1}


def test_endless_noise_does_not_grow() -> None:
    reader = Lines(Counters())
    for _ in range(1000):
        assert reader.feed(b"\x55" * 4096) == b""
    assert reader.long == 1


def test_what_is_wrong_with_a_port_comes_with_the_fix() -> None:
    counters = Counters()
    inbox = Inbox(1, 1, counters)
    with pytest.raises(HardError, match="protocol 'sokcet' not known"):
        PortReader("x", PortSettings(port="sokcet://a:1"), inbox, counters)
    for number, fix in ((2, "plug it in, or see `hard devices`"), (13, "group dialout"), (11, "in use")):
        assert fix in explain("/dev/x", OSError(number, "text"))


@pytest.fixture
def subscriber(mosquitto: int) -> Iterator[Subscriber]:
    made = Subscriber(mosquitto, "hard/+/activity", "hard/status")
    yield made
    made.broker.stop()


def run(hard: Hard, mosquitto: int, subscriber: Subscriber, *arguments: str):
    process = hard.start("run", "--broker", f"mqtt://127.0.0.1:{mosquitto}", *arguments)
    wait_for(lambda: subscriber.last("hard/status") == b"online", what="online")
    return process


def windows(subscriber: Subscriber, device: str) -> dict[float, str]:
    """Raw activity by window: the newest label comes again when the broker connects, or as `stale`."""
    labels = [x for x in subscriber.labels(device) if x["reason"] != "stale"]
    return {x["window_end"]["device_s"]: x["raw"]["activity"] for x in labels}


def read_until(process, *texts: str) -> str:
    """What the daemon logs, until each of these texts has come."""
    log = ""
    while not all(text in log for text in texts):
        line = process.stderr.readline()
        assert line, f"the daemon ended: {log}"
        log += line
    return log


@pytest.mark.mosquitto
def test_serial_alone_labels_over_mqtt_and_does_not_listen_to_phones(
    hard: Hard, mosquitto: int, subscriber: Subscriber, bridge: Bridge
) -> None:
    process = run(hard, mosquitto, subscriber, "--source", "serial", "--port", bridge.url)
    bridge.accept()
    begun = read_until(process, f"{bridge.url} open")
    send_synthetic(mosquitto, "phone")
    t, samples = SyntheticPhone(0, dwell_s=5.0).read(0, 600)
    bridge.print(text(t, samples))
    device = f"127.0.0.1-{bridge.port}"
    wait_for(lambda: len(windows(subscriber, device)) == (600 - 128) // 64 + 1, what="all labels")
    assert subscriber.labels("phone") == []
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=10)
    assert process.returncode == 0, err
    assert f"serial board {device}: {bridge.url} at 115200 baud" in out
    assert "connect a phone" not in out
    assert (
        f"{device}: 7 values a line, t in ms, acceleration in m/s2, angular velocity in rad/s" in begun + err
    )
    assert "messages" in err
    assert "bad_line" not in err


@pytest.mark.mosquitto
def test_the_data_forwarders_dialect_gets_its_rate_from_the_arrivals(
    hard: Hard, mosquitto: int, subscriber: Subscriber, board: Board
) -> None:
    """Six tab-separated values a line at 50 Hz, no timestamps, in g and deg/s, for seven seconds."""
    process = run(hard, mosquitto, subscriber, "--source", "serial", "--port", str(board.path))
    read_until(process, f"{board.path} open")
    t, samples = SyntheticPhone(0).read(0, 350)
    printed = samples / np.array([G] * 3 + [np.pi / 180] * 3)
    pause, start_s = threading.Event(), time.monotonic()
    for at, row in zip(t, printed, strict=True):
        pause.wait(max(0.0, start_s + at - time.monotonic()))  # the board's own clock
        board.print("\t".join(f"{v:.3f}" for v in row).encode() + b"\r\n")
    labels = wait_for(lambda: (got := subscriber.labels("board"))[3:] and got, what="four labels")
    assert [label["activity"] for label in labels] == ["walking"] * 4
    assert labels[0]["rate_hz"] == pytest.approx(50, rel=0.1)
    assert labels[3]["rate_hz"] == pytest.approx(50, rel=0.05)
    assert {label["gaps"] for label in labels} == {0}


@pytest.mark.mosquitto
def test_a_phone_and_two_boards_at_once_and_one_board_is_unplugged(
    hard: Hard, mosquitto: int, subscriber: Subscriber, board: Board, bridge: Bridge, tmp_path: Path
) -> None:
    file = tmp_path / "hard.yaml"
    file.write_text(
        f"sources:\n  serial:\n    port: {board.path}\n    device: wrist\n    ports:\n"
        f"    - {{port: '{bridge.url}', device: leg, columns: [gx, gy, gz, ax, ay, az, t]}}\n"
    )
    process = run(
        hard, mosquitto, subscriber, "--source", "mqtt", "--source", "serial", "--config", str(file)
    )
    bridge.accept()
    read_until(process, f"{board.path} open", f"{bridge.url} open")
    t, samples = SyntheticPhone(0, dwell_s=5.0).read(0, 600)
    wrist = text(t, samples)
    threading.Thread(target=board.print, args=(wrist,), daemon=True).start()
    swapped = np.column_stack([samples[:, 3:], samples[:, :3], t])
    bridge.print(b"x\n" + "".join(",".join(f"{v:.9g}" for v in row) + "\n" for row in swapped).encode())
    send_synthetic(mosquitto, "phone")
    whole = (600 - 128) // 64 + 1

    wait_for(lambda: len(windows(subscriber, "leg")) == whole, what="labels of the leg")
    wait_for(lambda: len(windows(subscriber, "wrist")) == whole, what="labels of the wrist")
    wait_for(lambda: subscriber.labels("phone"), what="labels of the phone")
    assert list(windows(subscriber, "leg").values()) == list(windows(subscriber, "wrist").values())
    board.plug_out()
    board.plug_in()
    again = b"\r\n" * 100_000 + text(t + 100.0, samples)  # opening flushes what is in the pty
    threading.Thread(target=board.print, args=(again,), daemon=True).start()
    wait_for(lambda: len(windows(subscriber, "wrist")) == 2 * whole, what="labels of the wrist again")


@pytest.mark.data
@pytest.mark.mosquitto
def test_a_recording_printed_as_lines_is_labelled_as_classify_labels_it(
    hard: Hard, mosquitto: int, subscriber: Subscriber, board: Board, data: Path
) -> None:
    """As an Edge Impulse board prints it: milliseconds, m/s² with two decimals, rad/s with four."""
    path = data / "hapt/RawData/acc_exp03_user02.txt.gz"
    expected = {end: raw for end, raw, _ in offline(hard, path)}
    recording = read_recording(path)
    rows = zip(recording.t.tolist(), recording.samples.tolist(), strict=True)
    printed = "x\r\n" + "".join(
        f"{t * 1000:.0f},{s[0]:.2f},{s[1]:.2f},{s[2]:.2f},{s[3]:.4f},{s[4]:.4f},{s[5]:.4f}\r\n"
        for t, s in rows
    )
    process = run(hard, mosquitto, subscriber, "--source", "serial", "--port", str(board.path))
    read_until(process, f"{board.path} open")
    threading.Thread(target=board.print, args=(printed.encode(),), daemon=True).start()
    wait_for(lambda: len(live(subscriber, "board")) >= len(expected), timeout_s=60, what="the last label")
    got = {end: raw for end, raw, _ in live(subscriber, "board")}
    assert got.keys() == expected.keys()
    agreed = sum(got[t] == expected[t] for t in expected) / len(expected)
    assert agreed >= 0.95
