"""The systemd units: their score, what is filled in, and the daemon under the same restrictions."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from conftest import ROOT, Hard, listening, start_mosquitto, wait_for
from hard.config import load_settings
from hard.doctor.line import Status
from hard.doctor.machine import systemd_lines
from hard.service import install, installed, plan, uninstall
from hard.types import HardError
from test_daemon import Subscriber

sys.path.insert(0, str(ROOT))

from tools.lab import may_mount

needs_systemd = pytest.mark.skipif(
    not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed"
)
DEVICES = {"HARD__SOURCES__ENABLED": "[mqtt, serial, webcam]"}


def exposure(unit: Path) -> float:
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", str(unit)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = re.search(r"Overall exposure level for .*: ([\d.]+)", done.stdout)
    assert found
    return float(found[1])


def merged(folder: Path, environ: dict[str, str]) -> Path:
    """The installed unit with its drop-ins, as one file: systemd-analyze 252 reads no drop-ins offline."""
    unit = plan(load_settings(None, environ), root=folder)
    (main, *drop_ins) = unit.files.values()
    body, _, install = main.partition("[Install]")
    path = folder / "merged.service"
    path.write_text(body + "\n".join(d.replace("[Service]\n", "") for d in drop_ins) + "[Install]" + install)
    return path


@needs_systemd
@pytest.mark.parametrize(("environ", "most"), [({}, 1.2), (DEVICES, 1.8)], ids=["mqtt only", "devices"])
def test_exposure_is_low(tmp_path: Path, environ: dict[str, str], most: float) -> None:
    assert exposure(merged(tmp_path, environ)) <= most


@needs_systemd
def test_systemd_understands_every_line(tmp_path: Path) -> None:
    """Of both units; the command is one that exists."""
    for name in ("hard.service", "hard@.service"):
        text = (ROOT / "systemd" / name).read_text().replace("/usr/local/bin/hard", "/bin/true")
        unit = tmp_path / name.replace("@", "@kitchen")
        unit.write_text(text)
        done = subprocess.run(
            ["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False
        )
        complaints = [line for line in done.stderr.splitlines() if name.partition(".")[0].rstrip("@") in line]
        assert complaints == []


def test_the_template_differs_by_its_instance_only() -> None:
    one, many = (
        (ROOT / "systemd" / name).read_text().splitlines() for name in ("hard.service", "hard@.service")
    )
    different = [b for a, b in zip(one, many, strict=True) if a != b]
    assert all("%i" in line or line.startswith("#") for line in different)


def test_devices_are_opened_for_the_sources_that_need_them_only() -> None:
    def drop_ins(environ: dict[str, str]) -> str:
        return "".join(list(plan(load_settings(None, environ)).files.values())[1:])

    assert "DeviceAllow" not in drop_ins({})
    serial = drop_ins({"HARD__SOURCES__ENABLED": "[serial]"})
    assert "SupplementaryGroups=dialout\n" in serial
    assert "char-ttyACM rw" in serial
    assert "video" not in serial
    assert "SupplementaryGroups=dialout video\n" in drop_ins(DEVICES)


def test_a_newer_systemd_gets_notify_reload() -> None:
    settings = load_settings(None, {})
    assert not any("notify-reload" in text for text in plan(settings, systemd=252).files.values())
    assert any("Type=notify-reload" in text for text in plan(settings, systemd=253).files.values())


def test_install_and_uninstall_leave_nothing_but_settings(hard: Hard, tmp_path: Path) -> None:
    root = tmp_path / "root"
    done = hard.run("service", "install", "--root", str(root), HARD__SOURCES__ENABLED="[mqtt, serial]")
    assert done.returncode == 0, done.stderr
    assert "next: systemctl enable --now hard" in done.stdout
    unit = (root / "etc/systemd/system/hard.service").read_text()
    assert re.search(r"^ExecStart=/.*hard.* run --config /etc/hard/hard.yaml$", unit, re.M)
    assert (root / "etc/systemd/system/hard.service.d/devices.conf").exists()
    assert settings_lines(root / "etc/hard/hard.yaml") == ["-state_dir: null", '+state_dir: "/var/lib/hard"']
    again = hard.run("service", "install", "--root", str(root))  # the sources have changed: a drop-in goes
    assert again.returncode == 0
    assert not (root / "etc/systemd/system/hard.service.d/devices.conf").exists()
    done = hard.run("service", "uninstall", "--root", str(root))
    assert done.returncode == 0
    assert "/var/lib/hard (" in done.stdout
    assert [p for p in root.rglob("*") if p.is_file()] == [root / "etc/hard/hard.yaml"]
    assert hard.run("service", "uninstall", "--root", str(root)).returncode == 1


def test_the_service_can_read_its_settings_whatever_root_s_umask_is(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        install(plan(load_settings(), root=tmp_path), user=False, root=tmp_path)
    finally:
        os.umask(before)
    assert (tmp_path / "etc/hard/hard.yaml").stat().st_mode & 0o777 == 0o644
    assert (tmp_path / "etc/hard").stat().st_mode & 0o777 == 0o755


def test_settings_that_are_refused_do_not_keep_a_service(hard: Hard, tmp_path: Path) -> None:
    root = tmp_path / "root"
    for name in ("hard", "kitchen"):
        where = ["--root", str(root), *([] if name == "hard" else ["--instance", name])]
        done = hard.run("service", "install", *where, HARD__SOURCES__ENABLED="[serial]")
        assert done.returncode == 0, done.stderr
        (root / f"etc/hard/{name}.yaml").write_text("smoothing: {hysteresis: 99}")
        assert hard.run("service", "install", *where).returncode == 1
        done = hard.run("service", "uninstall", *where, HARD__TYPO="1")
        assert done.returncode == 0, done.stderr
        assert re.search(r"^removed .*/devices\.conf$", done.stdout, re.M)
    assert {p.name for p in root.rglob("*") if p.is_file()} == {"hard.yaml", "kitchen.yaml"}


def settings_lines(path: Path) -> list[str]:
    """What differs from the settings as they are shipped; comments do not count."""
    ours, theirs = path.read_text().splitlines(), (ROOT / "config/hard.yaml").read_text().splitlines()
    changed = [line for pair in zip(theirs, ours, strict=True) if pair[0] != pair[1] for line in pair]
    return [sign + line.partition("#")[0].rstrip() for sign, line in zip("-+", changed, strict=True)]


def test_an_instance_has_settings_and_state_of_its_own(hard: Hard, tmp_path: Path) -> None:
    root = tmp_path / "root"
    done = hard.run("service", "install", "--instance", "kitchen", "--root", str(root))
    assert "next: systemctl enable --now hard@kitchen" in done.stdout
    assert settings_lines(root / "etc/hard/kitchen.yaml")[1:] == ['+state_dir: "/var/lib/hard-kitchen"']
    assert "StateDirectory=hard-%i" in (root / "etc/systemd/system/hard@.service").read_text()
    wrong = hard.run("service", "install", "--instance", "../x", "--root", str(root))
    assert "expected letters, digits" in wrong.stderr


@pytest.mark.parametrize("user", [False, True])
def test_settings_of_their_own_place_are_one_unit_s_alone(user: bool) -> None:
    settings, config = load_settings(None, {}), Path("/srv/my hard.yaml")
    (alone, *_) = plan(settings, user=user, config=config).files.values()
    assert re.findall(r"^ExecStart=.* run --config (.*)$", alone, re.M) == ['"/srv/my hard.yaml"']
    template, *drop_ins = plan(settings, user=user, instance="a", config=config).files.values()
    assert template == next(iter(plan(settings, user=user, instance="b").files.values()))
    assert any(
        re.search(r'^ExecStart=\nExecStart=.* run --config "/srv/my hard.yaml"$', text, re.M)
        for text in drop_ins
    )


@needs_systemd
@pytest.mark.parametrize("name", ["my env", "100% it's", 'a "quoted" $b', "a:b\\c"])
def test_systemd_takes_paths_of_any_name(hard: Hard, tmp_path: Path, name: str) -> None:
    """Of the environment and the settings, both hidden from the service without a drop-in."""
    folder, env, site = tmp_path / name, tmp_path / "my $100% env", Path(yaml.__file__).parent.parent
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", env], check=True)
    folder.mkdir()
    (folder / "hard.yaml").write_text("{}")
    hard.command = [str(env / "bin/python"), "-m", "hard"]
    done = hard.run(
        "service", "install", "--root", str(tmp_path / "root"), "--config", str(folder / "hard.yaml"),
        PYTHONPATH=f"{ROOT}:{site}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    unit = tmp_path / "root/etc/systemd/system/hard.service"
    bound = unit.with_name("hard.service.d") / "paths.conf"
    assert bound.read_text().count("BindReadOnlyPaths=") >= 3  # the environment, Python, the settings
    body, _, rest = unit.read_text().partition("[Install]")
    unit.write_text(body + bound.read_text().replace("[Service]\n", "") + "[Install]" + rest)
    done = subprocess.run(
        ["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False
    )
    assert [line for line in done.stderr.splitlines() if "hard.service" in line] == []
    env.rename(tmp_path / "it's")
    hard.command = [str(tmp_path / "it's/bin/python"), "-m", "hard"]
    done = hard.run("service", "print", PYTHONPATH=f"{ROOT}:{site}")
    assert "systemd takes no program with a quote" in done.stderr


def test_settings_in_a_home_are_bound_with_their_folder_and_never_with_the_home() -> None:
    """A file bound alone stays the one that it was, though an editor has put a new one in its place."""
    settings = load_settings(None, {})
    files = plan(settings, config=Path("/home/anna/hard/hard.yaml")).files
    bound = next(text for path, text in files.items() if path.name == "paths.conf")
    assert "BindReadOnlyPaths=/home/anna/hard\n" in bound
    assert "hard.yaml" not in bound
    for folder in ("/home/anna", "/root", "/tmp", "/run/user/1000"):
        with pytest.raises(HardError, match=rf"all of {folder}; .* such as {folder}/hard/hard.yaml, or"):
            plan(settings, config=Path(folder) / "hard.yaml")
        plan(settings, user=True, config=Path(folder) / "hard.yaml")


def test_the_template_goes_with_its_last_instance(hard: Hard, tmp_path: Path) -> None:
    root = tmp_path / "root"
    template = root / "etc/systemd/system/hard@.service"
    for name in ("a", "b"):
        assert hard.run("service", "install", "--instance", name, "--root", str(root)).returncode == 0

    def uninstall(name: str) -> subprocess.CompletedProcess[str]:
        return hard.run("service", "uninstall", "--instance", name, "--root", str(root))

    other = uninstall("c")
    assert other.returncode == 1
    assert "hard@c is not installed in " in other.stderr
    assert other.stderr.endswith("; there is: hard@a, hard@b\n")
    assert template.exists()
    first = uninstall("a")
    assert first.returncode == 0
    assert f"left: {template}, for hard@b" in first.stdout
    assert template.exists()
    assert uninstall("a").returncode == 1
    wants = root / "etc/systemd/system/multi-user.target.wants"
    wants.mkdir()
    (wants / "hard@by-hand.service").symlink_to(template)
    assert uninstall("b").returncode == 0
    assert template.exists()
    (wants / "hard@by-hand.service").unlink()
    assert hard.run("service", "install", "--instance", "b", "--root", str(root)).returncode == 0
    assert uninstall("b").returncode == 0
    assert {p.name for p in root.rglob("*") if p.is_file()} == {"a.yaml", "b.yaml"}


def test_what_an_administrator_edited_stays(hard: Hard, tmp_path: Path) -> None:
    root = tmp_path / "root"
    edited = root / "etc/systemd/system/hard.service.d/override.conf"
    edited.parent.mkdir(parents=True)
    edited.write_text("[Service]\nNice=5\n")
    for what in ("install", "install", "uninstall"):
        assert hard.run("service", what, "--root", str(root)).returncode == 0
        assert edited.read_text() == "[Service]\nNice=5\n"
    assert [p.name for p in edited.parent.iterdir()] == ["override.conf"]


def test_a_user_s_own_systemd_gets_what_it_can_do(hard: Hard, tmp_path: Path) -> None:
    done = hard.run("service", "install", "--user", XDG_CONFIG_HOME=str(tmp_path), HOME=str(tmp_path))
    assert done.returncode == 0, done.stderr
    unit = (tmp_path / "systemd/user/hard.service").read_text()
    assert "DynamicUser" not in unit
    assert "SystemCallFilter" in unit
    assert "WantedBy=default.target" in unit
    assert (tmp_path / "hard/hard.yaml").exists()


def test_check_finds_every_service_that_install_put_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    settings, root = load_settings(None, {}), tmp_path / "root"
    units = {
        "hard.service": (False, None),
        "hard@attic.service": (False, "attic"),
        "hard@kitchen.service": (False, "kitchen"),
        "hard.service of this user": (True, None),
        "hard@attic.service of this user": (True, "attic"),
    }
    assert installed(root) == []
    for one, (user, instance) in units.items():
        unit = plan(settings, user=user, instance=instance, root=root)
        install(unit, user=user, root=root)
        assert installed(root) == [one]
        uninstall(unit, user=user, root=root)
        assert installed(root) == []
    for user, instance in units.values():
        install(plan(settings, user=user, instance=instance, root=root), user=user, root=root)
    assert installed(root) == list(units)


@needs_systemd
def test_check_names_the_services(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    settings = load_settings(None, {})
    (line,) = systemd_lines(tmp_path, tmp_path)
    assert (line.status, line.remedy) == (Status.WARN, "sudo hard service install, or with --user")
    install(plan(settings, user=True, instance="attic"), user=True, root=tmp_path)
    (line,) = systemd_lines(tmp_path, tmp_path)
    assert line.status == Status.PASS
    assert line.what.endswith("; installed: hard@attic.service of this user")


def sandboxed(hard: Hard, state: Path, *arguments: str, **environ: str) -> subprocess.Popen[str]:
    """`hard run` under the shipped unit's restrictions, as far as this machine allows."""
    needed = dict.fromkeys([str(ROOT), sys.prefix, sys.base_prefix])
    binds = [word for path in needed for word in ("--bind", path)]
    environ |= {k: v for k, v in hard.env.items() if k.startswith("HARD__") and k != "HARD__STATE_DIR"}
    return subprocess.Popen(
        [sys.executable, "tools/sandbox.py", "systemd/hard.service", "--state", str(state), *binds, "--",
         sys.executable, "-m", "hard", "run", *arguments],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)} | environ,
    )  # fmt: skip


@needs_systemd
@pytest.mark.mosquitto
@pytest.mark.data
@pytest.mark.parametrize("embedded", [False, True], ids=["mosquitto", "embedded"])
def test_a_recording_is_labelled_under_the_unit_s_restrictions(
    hard: Hard, port: int, tmp_path: Path, data: Path, embedded: bool
) -> None:
    """MemoryDenyWriteExecute included: torch does without oneDNN then, and gives the same labels."""
    path, state = data / "motionsense/A_DeviceMotion_data/wlk_15/sub_3.csv.gz", tmp_path / "state"
    broker = None if embedded else start_mosquitto(tmp_path, port)
    where = (
        {"HARD__EMBEDDED__PORT": str(port)} if embedded else {"HARD__BROKER__URL": f"mqtt://127.0.0.1:{port}"}
    )
    process = sandboxed(hard, state, **where)
    try:
        wait_for(lambda: listening(port) or process.poll() is not None, what="the broker")
        seen = Subscriber(port, "hard/+/activity", "hard/status")
        wait_for(
            lambda: seen.last("hard/status") == b"online" or process.poll() is not None, 30, "the daemon"
        )
        url = f"mqtt://127.0.0.1:{port}"
        done = hard.run("replay", str(path), "--as", "alice", "--speed", "40", "--broker", url)
        assert done.returncode == 0, done.stderr
        offline = [json.loads(line) for line in hard.run("classify", str(path), "--json").stdout.splitlines()]
        wait_for(lambda: len(seen.labels("alice")) >= len(offline), what="the last label")
        live = [(label["raw"]["activity"], label["activity"]) for label in seen.labels("alice")]
        assert live == [(line["raw"]["activity"], line["activity"]) for line in offline]
        seen.broker.stop()
    finally:
        process.terminate()
        _, err = process.communicate(timeout=15)
        if broker:
            broker.kill()
            broker.wait()
    assert process.returncode == 0, err
    applied = json.loads(err.splitlines()[0])["applied"]
    assert "oneDNN is off" in err
    assert {"NoNewPrivileges", "MemoryDenyWriteExecute", "RestrictAddressFamilies"} <= set(applied)
    if may_mount():
        assert {"DynamicUser", "PrivateUsers", "PrivateDevices", "CapabilityBoundingSet="} <= set(applied)
