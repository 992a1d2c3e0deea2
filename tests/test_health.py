"""How the daemon says how it is: hard/health, /healthz, /readyz, /metrics, and its log in three forms."""

from __future__ import annotations

import json
import logging
import os
import re
import resource
import signal
import socket
import struct
import threading
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from conftest import Hard, free_port, wait_for
from hard.daemon.endpoint import Endpoint
from hard.daemon.metrics import Metrics
from hard.daemon.progress import Progress
from hard.health import Health
from hard.journal import MESSAGE_IDS, JournalHandler, wanted
from hard.log import Repeats, Spread
from hard.runtime import Stage
from test_daemon import Subscriber, run_embedded

METRICS = (
    "hard_windows_total", "hard_inference_duration_seconds", "hard_end_to_end_latency_seconds",
    "hard_source_rate_hz", "hard_source_last_sample_age_seconds", "hard_samples_dropped_total",
    "hard_resample_gap_seconds_total",
    "hard_label_total", "hard_mqtt_connected", "hard_build_info", "process_resident_memory_bytes",
)  # fmt: skip


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as e:
        return e.code, e.read().decode()
    except OSError:
        return 0, ""


def test_the_report_the_endpoint_and_the_metrics(hard: Hard, port: int) -> None:
    http = free_port()
    process = run_embedded(hard, port, "--simulate", "2", HARD__HEALTH__PORT=str(http))
    seen = Subscriber(port, "hard/health")
    wait_for(lambda: get(http, "/readyz")[0] == 200, what="/readyz")
    two = 'hard_source_devices{source="mqtt"} 2.0'
    wait_for(lambda: two in get(http, "/metrics")[1], what="both phones")
    text = get(http, "/metrics")[1]
    assert [name for name in METRICS if name not in text] == []
    assert 'hard_windows_total{modality="imu",source="mqtt"}' in text
    assert "synthetic" not in text  # devices are not labels: their number has no bound
    values = dict(re.findall(r"^(\w+(?:\{[^}]*\})?) ([-+.\de]+)$", text, re.M))
    assert float(values["hard_mqtt_connected"]) == 1.0
    assert float(values['hard_source_rate_hz{source="mqtt"}']) == pytest.approx(50, abs=1)
    assert float(values['hard_state{state="ok"}']) == 1.0
    status, body = get(http, "/healthz")
    health = json.loads(body)
    assert (status, health["state"], health["ready"]) == (200, "ok", True)
    assert health["sources"]["mqtt"]["devices"] == 2
    assert 100 < health["rss_mb"] < 1000
    assert get(http, "/secrets")[0] == 404
    report = json.loads(wait_for(lambda: seen.last("hard/health"), what="hard/health"))
    assert set(report) == set(health) == set(Health.__struct_fields__)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=10)
    wait_for(
        lambda: json.loads(seen.last("hard/health") or b"{}")["state"] == "stopped", what="the last report"
    )
    seen.broker.stop()


def test_an_endpoint_s_port_that_is_taken_costs_the_endpoint_only(hard: Hard, port: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        process = run_embedded(hard, port, "--for", "1", HARD__HEALTH__PORT=str(taken))
        _, err = process.communicate(timeout=30)
    assert process.returncode == 0
    assert (
        f"no /healthz and /metrics: port {taken} on 127.0.0.1: Address already in use; set health.port" in err
    )


def test_a_client_that_says_nothing_does_not_hold_up_the_endpoint(hard: Hard, port: int) -> None:
    http = free_port()
    run_embedded(hard, port, HARD__HEALTH__PORT=str(http))
    wait_for(lambda: get(http, "/readyz")[0] == 200, what="/readyz")
    with socket.create_connection(("127.0.0.1", http)):
        assert get(http, "/healthz")[0] == 200  # after two seconds


def test_a_stage_is_stuck_when_its_count_stands() -> None:
    count = {"engine": 0, "camera": 0}
    stages = [
        Stage("engine", lambda: count["engine"]),
        Stage("camera", lambda: count["camera"], may_wait_s=10.0),
    ]
    progress = Progress(lambda: stages, stuck_s=10.0)
    assert progress.stuck(0.0) == []
    count["engine"] += 1
    assert progress.stuck(11.0) == []
    assert progress.stuck(20.5) == ["camera"]
    assert progress.stuck(21.5) == ["engine", "camera"]
    count["camera"] += 1
    assert progress.stuck(22.0) == ["engine"]
    stages.pop(0)
    assert progress.stuck(23.0) == []


def test_json_lines_are_json(hard: Hard, port: int) -> None:
    process = run_embedded(hard, port, "--simulate", "1", "--for", "60", HARD__LOG_FORMAT="json")
    assert process.stderr
    seen: list[dict[str, object]] = []
    for text in process.stderr:
        seen.append(json.loads(text))
        if seen[-1].get("kind") == "activity":
            break
    process.terminate()
    seen += [json.loads(text) for text in process.communicate(timeout=15)[1].splitlines()]
    assert any(str(line["message"]).startswith("ready in") for line in seen)
    (label, *_) = [line for line in seen if line.get("kind") == "activity"]
    assert (label["device"], label["level"], label["logger"]) == ("synthetic-1", "info", "hard.labels")


def fields(datagram: bytes) -> dict[str, str]:
    """What journald reads from a datagram of its native protocol."""
    out: dict[str, str] = {}
    while datagram:
        line, _, rest = datagram.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            (size,) = struct.unpack("<Q", rest[:8])
            value, rest = rest[8 : 8 + size], rest[9 + size :]
        out[name.decode()] = value.decode()
        datagram = rest
    return out


def test_the_journal_gets_priority_device_and_message_id(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    logger = logging.Logger("hard.labels")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind(str(path))
        journal.settimeout(5)
        handler = JournalHandler(path)
        logger.addHandler(handler)
        logger.info(
            "%s walking", "alice", extra={"device": "alice", "activity": "walking", "kind": "activity"}
        )
        told = fields(journal.recv(65536))
        try:
            raise ValueError("two\nlines")
        except ValueError:
            logger.exception("broken")
        broken = fields(journal.recv(65536))
    assert (told["MESSAGE"], told["PRIORITY"], told["DEVICE"]) == ("alice walking", "6", "alice")
    assert told["MESSAGE_ID"] == MESSAGE_IDS["activity"]
    assert told["SYSLOG_IDENTIFIER"] == "hard"
    assert broken["PRIORITY"] == "3"
    assert "two\nlines" in broken["MESSAGE"]
    logger.info("nobody listens")  # no error
    handler.close()


def test_the_journal_is_told_how_often_messages_were_left_out(tmp_path: Path) -> None:
    path, repeats = tmp_path / "socket", Repeats()
    for _ in range(Repeats.SAME + 3):
        repeats.allow(record("again"), 0.0)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind(str(path))
        journal.settimeout(5)
        handler = JournalHandler(path)
        for left_out in repeats.summaries(11.0):
            handler.handle(left_out)
        told = fields(journal.recv(65536))
        handler.close()
    assert told["MESSAGE"] == "3 more like this: again"
    assert told["MESSAGE_ID"] == MESSAGE_IDS["lost"]


def test_message_ids_are_distinct_ids_of_128_bits() -> None:
    assert len(set(MESSAGE_IDS.values())) == len(MESSAGE_IDS)
    assert all(re.fullmatch("[0-9a-f]{32}", value) for value in MESSAGE_IDS.values())


def test_only_the_journal_s_own_stream_is_the_journal() -> None:
    assert not wanted({})
    assert not wanted({"JOURNAL_STREAM": "1:2"})


class Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(self.format(record))


def record(text: str, line: int = 1) -> logging.LogRecord:
    return logging.LogRecord("hard", logging.WARNING, "file.py", line, text, (), None)


def test_a_message_that_repeats_is_left_out_and_counted() -> None:
    repeats = Repeats()
    allowed = [repeats.allow(record("again"), now_s=n * 0.01) for n in range(100)]
    assert allowed == [True] * Repeats.SAME + [False] * (100 - Repeats.SAME)
    assert repeats.summaries(5.0) == []
    assert [r.getMessage() for r in repeats.summaries(11.0)] == [
        f"{100 - Repeats.SAME} more like this: again"
    ]
    assert repeats.allow(record("again"), 12.0)


def test_one_line_of_code_does_not_flood_the_log_with_different_texts() -> None:
    repeats = Repeats()
    allowed = sum(repeats.allow(record(f"device {n}"), now_s=0.0) for n in range(10_000))
    assert allowed == Repeats.LIKE
    assert repeats.allow(record("another line", line=2), 0.0)
    assert [r.getMessage() for r in repeats.summaries(11.0)] == [
        f"{10_000 - Repeats.LIKE} more like this: device 0"
    ]


def test_secrets_are_blotted_out_of_text_and_traceback() -> None:
    lines = Lines()
    logger = logging.Logger("hard")
    spread = Spread(lines, ["s3cret-canary"])
    logger.addHandler(spread)
    logger.warning("password %s", "s3cret-canary")
    try:
        raise ValueError("s3cret-canary in an error")
    except ValueError:
        logger.exception("broken by %s", "s3cret-canary")
    spread.hide(["later-canary"])
    logger.warning("later-canary")
    told = "\n".join(lines.texts + spread.lines())
    assert "canary" not in told
    assert "ValueError: ******** in an error" in told


class Clock(threading.Event):
    """Ends the first time that somebody waits for it."""

    def wait(self, timeout: float | None = None) -> bool:
        self.set()
        return True


def test_without_a_free_file_descriptor_the_endpoint_waits() -> None:
    """Else it takes a whole core, since whoever could not be let in is there at once again."""
    port = free_port()
    endpoint = Endpoint(port, lambda: pytest.fail("asked"), Metrics(str, str))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    clock = Clock()
    serving = threading.Thread(target=endpoint.run, args=(clock,))
    with socket.create_connection(("127.0.0.1", port)):
        first_free = os.open(os.devnull, os.O_RDONLY)
        os.close(first_free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (first_free, hard))
        try:
            serving.start()
            serving.join(10)
            waits = not serving.is_alive()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            clock.set()
            serving.join(10)
    assert waits
