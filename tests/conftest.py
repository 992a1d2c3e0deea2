"""Real parts for the tests: brokers on free loopback ports, the installed command, the recordings."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")  # read when NumPy and torch load: two cores, and other tests beside

ROOT = Path(__file__).resolve().parent.parent
settings.register_profile("hard", deadline=None, print_blob=True)
settings.load_profile("hard")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip, visibly, what needs recordings, mosquitto or a screen where they are absent."""
    no_data = pytest.mark.skip(reason="no recordings; HARD_DATA names their folder")
    no_mosquitto = pytest.mark.skip(reason="mosquitto is not installed")
    no_screen = pytest.mark.skip(reason="Xvfb, xdotool or ImageMagick is not installed")
    screen = all(shutil.which(name) for name in ("Xvfb", "xdotool", "import"))
    for item in items:
        if item.get_closest_marker("xvfb") and not screen:
            item.add_marker(no_screen)
        if item.get_closest_marker("data") and not recordings():
            item.add_marker(no_data)
        if item.get_closest_marker("mosquitto") and not shutil.which("mosquitto"):
            item.add_marker(no_mosquitto)


def recordings() -> Path | None:
    from hard.datasets import data_dir
    from hard.types import HardError

    try:
        return data_dir()
    except HardError:
        return None


@pytest.fixture(scope="session")
def data() -> Path:
    found = recordings()
    assert found is not None
    return found


@pytest.fixture
def port() -> int:
    return free_port()


def free_port() -> int:
    """One below those that the system gives to connections, which would have it before it is listened on."""
    while True:
        port = 20_000 + secrets.randbelow(12_000)
        with socket.socket() as s, contextlib.suppress(OSError):
            s.bind(("127.0.0.1", port))
            return port


def listening(port: int) -> bool:
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


def wait_for(condition, timeout_s: float = 15.0, what: str = "the condition"):
    """Poll until true; fails the test after the time-out."""
    deadline_s = time.monotonic() + timeout_s
    while not (value := condition()):
        if time.monotonic() > deadline_s:
            pytest.fail(f"{what} did not come within {timeout_s:g} s")
        time.sleep(0.01)
    return value


def start_mosquitto(
    folder: Path, port: int, settings: str = "allow_anonymous true"
) -> subprocess.Popen[bytes]:
    """A real mosquitto on loopback that remembers nothing; its log is mosquitto.log in the folder."""
    config = folder / "mosquitto.conf"
    # as root it would become a user who cannot read the folder
    config.write_text(f"listener {port} 127.0.0.1\nuser root\nlog_type all\n{settings}\n")
    with (folder / "mosquitto.log").open("ab") as log:
        process = subprocess.Popen(["mosquitto", "-c", str(config)], stderr=log)
    wait_for(lambda: listening(port), what="mosquitto")
    return process


class Mosquitto:
    """A mosquitto that a test starts, kills and starts again on the same port."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.port = port
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, settings: str = "allow_anonymous true") -> None:
        self._process = start_mosquitto(self.folder, self.port, settings)

    def set_password(self, user: str, password: str) -> str:
        """The settings that ask for this user and password; a running broker takes a new one at once."""
        file = self.folder / "passwords"
        file.touch(0o600)
        subprocess.run(["mosquitto_passwd", "-b", str(file), user, password], check=True, capture_output=True)
        if self._process:
            self._process.send_signal(signal.SIGHUP)
        return f"allow_anonymous false\npassword_file {file}"

    def kill(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait(10)
            self._process = None

    def signal(self, number: signal.Signals) -> None:
        assert self._process
        self._process.send_signal(number)

    def log(self) -> str:
        return (self.folder / "mosquitto.log").read_text("utf-8", "replace")


@pytest.fixture
def server(tmp_path: Path, port: int) -> Iterator[Mosquitto]:
    """A real mosquitto, not started yet."""
    made = Mosquitto(tmp_path, port)
    yield made
    made.kill()


@pytest.fixture
def mosquitto(tmp_path: Path, port: int) -> Iterator[int]:
    """Port of a real mosquitto on loopback."""
    process = start_mosquitto(tmp_path, port)
    yield port
    process.terminate()
    process.wait(10)


@pytest.fixture(scope="session")
def video_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a video model with random weights."""
    from random_lrcn import write_model

    return write_model(tmp_path_factory.mktemp("models"))


@pytest.fixture
def screen() -> Iterator[str]:
    """A display of its own, such as ":99"."""
    yield from start_screen("-noreset")


@pytest.fixture
def fickle_screen() -> Iterator[str]:
    """One that ends when its last client leaves, as that of xinit does."""
    yield from start_screen("-terminate")


def start_screen(option: str) -> Iterator[str]:
    read, write = os.pipe()
    command = ["Xvfb", "-displayfd", str(write), "-screen", "0", "1280x800x24", "-nolisten", "tcp", option]
    process = subprocess.Popen(command, pass_fds=[write], stderr=subprocess.DEVNULL)
    os.close(write)
    with os.fdopen(read) as pipe:
        number = pipe.readline().strip()
    assert number, "Xvfb did not start"
    yield f":{number}"
    process.terminate()
    process.wait(10)


class Hard:
    """The `hard` command in a process of its own, its state in a temporary folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: list[subprocess.Popen[str]] = []
        command = Path(sys.executable).parent / "hard"
        self.command = [str(command)] if command.exists() else [sys.executable, "-m", "hard"]
        self.env = {k: v for k, v in os.environ.items() if not k.startswith("HARD__")}
        self.env |= {"HARD__STATE_DIR": str(folder / "state"), "COLUMNS": "200", "HARD__HEALTH__PORT": "null"}

    def start(self, *arguments: str, **env: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*self.command, *arguments],
            cwd=ROOT,
            env=self.env | env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._running.append(process)
        return process

    def run(self, *arguments: str, timeout_s: float = 60.0, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.command, *arguments],
            cwd=ROOT,
            env=self.env | env,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def end(self) -> None:
        for process in self._running:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
            process.communicate()


@pytest.fixture
def hard(tmp_path: Path) -> Iterator[Hard]:
    commands = Hard(tmp_path)
    yield commands
    commands.end()
