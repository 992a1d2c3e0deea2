"""Commands from a shell find the daemon of a service that is installed, and its state."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import ROOT, Hard, Mosquitto, free_port, listening, wait_for
from hard.config import load_settings, reach
from hard.embedded import embedded_address
from hard.service import install, plan, settings_of_service
from hard.settings import EmbeddedSettings
from hard.types import HardError

sys.path.insert(0, str(ROOT))

from tools.lab import may_mount


@contextmanager
def somebody_else() -> Iterator[None]:
    """Another user than the owner of what there is."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


class Service:
    """A service of one's own systemd: installed, and started as that would."""

    def __init__(self, hard: Hard, home: Path) -> None:
        self.hard, self.home, self.port = hard, home, free_port()
        self.config, self.state = home / "config/hard/hard.yaml", home / ".local/state/hard"
        del hard.env["HARD__STATE_DIR"]
        hard.env |= {"HOME": str(home), "XDG_CONFIG_HOME": str(home / "config")}
        assert hard.run("service", "install", "--user").returncode == 0
        text = self.config.read_text().replace("port: 1883", f"port: {self.port}")
        self.config.write_text(text)

    def start(self) -> subprocess.Popen[str]:
        unit = (self.home / "config/systemd/user/hard.service").read_text()
        (line,) = [line for line in unit.splitlines() if line.startswith("ExecStart=")]
        command = line.partition("=")[2].replace("%E", str(self.home / "config"))
        self.hard.command, before = shlex.split(command)[:-3], self.hard.command
        # as systemd 252 does for a user's unit; the settings win
        process = self.hard.start(*shlex.split(command)[-3:], STATE_DIRECTORY=str(self.home / "config/hard"))
        self.hard.command = before
        wait_for(lambda: listening(self.port) or process.poll() is not None, what="the broker")
        wait_for(lambda: (self.state / "daemon.json").exists(), what="the daemon")
        return process


def test_commands_find_the_service_and_its_state(hard: Hard, tmp_path: Path) -> None:
    service = Service(hard, tmp_path)
    process = service.start()
    told = f"settings: {service.config}, of the service that is installed\n"
    done = hard.run("check")
    assert f"PASS config           {service.config}" in done.stdout
    assert f"PASS daemon           process {process.pid}" in done.stdout
    assert "FAIL" not in done.stdout
    assert done.stderr == told
    done = hard.run("calibrate", "--list")
    assert done.stderr == f"{told}no device is calibrated in {service.state}\n"
    done = hard.run("personalize", "alice")
    assert str(service.state / "recordings/alice") in done.stderr
    assert hard.run("watch", "--for", "0.5").returncode == 0
    done = hard.run("reload")
    assert (done.stdout, done.stderr) == ("reloaded\n", told)
    good = service.config.read_text()
    for wrong, why in (("typo: 1", "unknown key"), ("[", "not YAML")):
        service.config.write_text(f"{good}{wrong}\n")
        done = hard.run("reload")
        assert done.returncode == 1
        assert "refused, the old settings stay" in done.stderr
        assert why in done.stderr
    process.terminate()
    process.wait(10)
    assert not (tmp_path / "config/hard/totals.sqlite3").exists()


def test_a_bundle_of_wrong_settings_has_the_service_s_log(hard: Hard, tmp_path: Path) -> None:
    service = Service(hard, tmp_path)
    process = service.start()
    process.terminate()
    process.wait(10)
    service.config.write_text(service.config.read_text() + "typo: 1\n")
    assert hard.run("check", "--bundle", str(tmp_path / "out.zip")).returncode == 2
    with zipfile.ZipFile(tmp_path / "out.zip") as z:
        assert "stopping" in z.read("last.log").decode()


def test_hard_run_by_hand_and_who_names_a_state_folder_leave_the_service_alone(
    hard: Hard, tmp_path: Path
) -> None:
    service = Service(hard, tmp_path)
    service.config.write_text("typo: 1\n")
    done = hard.run("run", "--for", "1", HARD__EMBEDDED__PORT=str(free_port()))
    assert done.returncode == 0, done.stderr
    done = hard.run("calibrate", "--list", HARD__STATE_DIR=str(tmp_path / "other"))
    assert done.stderr == f"no device is calibrated in {tmp_path}/other\n"
    assert hard.run("calibrate", "--list").returncode == 1
    assert hard.run("service", "uninstall", "--user").returncode == 0
    assert hard.run("calibrate", "--list").returncode == 0


def test_settings_of_their_own_that_name_no_state_folder_are_told_of_it(hard: Hard, tmp_path: Path) -> None:
    del hard.env["HARD__STATE_DIR"]
    arguments = ["service", "install", "--root", str(tmp_path / "root"), "--instance", "a"]
    (tmp_path / "root/etc/hard").mkdir(parents=True)
    for text, hint in (("{}", True), ("state_dir: /srv/hard", False)):
        (tmp_path / "root/etc/hard/a.yaml").write_text(text)
        done = hard.run(*arguments)
        assert done.returncode == 0, done.stderr
        assert ("state_dir: /var/lib/hard-a" in done.stdout) is hint


@given(name=st.text(st.characters(exclude_categories=["C", "Z"], exclude_characters="/"), min_size=1))
def test_the_settings_that_a_unit_names_are_found_whatever_their_name(
    tmp_path_factory: pytest.TempPathFactory, name: str
) -> None:
    root = tmp_path_factory.mktemp("root")
    config = Path("/srv") / f"a {name}.yaml"
    unit = plan(load_settings(None, {}), config=config, root=root)
    try:
        install(unit, user=False, root=root)
    except HardError:
        return  # too long for a file
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(root / "nobody"))
        assert settings_of_service(root) == root / str(config).lstrip("/")
        (root / str(config).lstrip("/")).unlink()
        assert settings_of_service(root) is None


@pytest.mark.mosquitto
@pytest.mark.skipif(not may_mount(), reason="may not mount")
def test_the_machine_s_service_is_found_with_the_password_that_systemd_hands_to_it(
    hard: Hard, server: Mosquitto, tmp_path: Path
) -> None:
    """/etc is a folder of the test's, in a mount namespace of its own."""
    server.start(server.set_password("hard", "secret-77") + "\n")
    assert hard.run("service", "install", "--root", str(tmp_path)).returncode == 0
    state = tmp_path / "state"
    (tmp_path / "etc/hard/hard.yaml").write_text(
        f"state_dir: {state}\nbroker: {{url: 'mqtt://127.0.0.1:{server.port}', username: hard}}\n"
    )
    (tmp_path / "etc/hard/mqtt-password").write_text("secret-77\n")
    del hard.env["HARD__STATE_DIR"]
    hard.env |= {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / "config")}
    script = f'mount --bind {tmp_path}/etc /etc && exec "$@"'
    hard.command = ["unshare", "--mount", "sh", "-c", script, "sh", *hard.command]
    done = hard.run("check")
    assert "PASS config           /etc/hard/hard.yaml" in done.stdout
    assert "PASS broker publish" in done.stdout, done.stdout
    assert str(state) in done.stdout
    (tmp_path / "etc/hard/mqtt-password").write_text("\n")  # as the unit's default has it: none
    assert "FAIL broker" in hard.run("check").stdout


def test_a_state_folder_of_a_service_is_for_sudo(tmp_path: Path) -> None:
    state = tmp_path / "state"
    assert reach(state) == state  # there is none yet
    state.mkdir()
    tmp_path.chmod(0o755)
    state.chmod(0o700 if os.geteuid() == 0 else 0)
    with somebody_else():
        with pytest.raises(HardError, match=r"state: Permission denied; .* sudo"):
            reach(state)
        assert embedded_address(EmbeddedSettings(), state).password is None  # nobody on this machine needs it
        with pytest.raises(HardError, match="sudo"):
            embedded_address(EmbeddedSettings(listen="lan"), state)
    state.chmod(0o700)
