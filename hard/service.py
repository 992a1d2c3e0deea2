"""systemd units: the shipped ones with paths filled in, and drop-ins for what a configuration needs."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from hard.settings import Settings
from hard.types import HardError

RUNNING: Final = Path("/run/systemd/system")
SYSTEM_UNITS: Final = "etc/systemd/system"
USER_UNITS: Final = "systemd/user"  # below ~/.config
CONFIG: Final = "etc/hard"
INSTANCE: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
TEMPLATE: Final = "hard@.service"
DROP_INS: Final = ("instance.conf", "devices.conf", "paths.conf", "reload.conf")  # that we write
HOMES: Final = ("/home/", "/root/", "/run/user/")  # what ProtectHome= hides
TEMPORARY: Final = ("/tmp/", "/var/tmp/")  # what PrivateTmp= hides
NOTIFY_RELOAD: Final = 253  # the systemd that knows Type=notify-reload
SYSTEM_ONLY: Final = (
    "DynamicUser", "ConfigurationDirectory", "LoadCredential", "SetCredential", "CapabilityBoundingSet",
    "AmbientCapabilities", "PrivateUsers", "PrivateTmp", "PrivateMounts", "PrivateDevices", "DevicePolicy",
    "ProtectSystem", "ProtectHome", "ProtectHostname", "ProtectClock", "ProtectKernelTunables",
    "ProtectKernelModules", "ProtectKernelLogs", "ProtectControlGroups", "ProtectProc", "ProcSubset",
    "RemoveIPC", "KeyringMode", "MemoryMax", "TasksMax", "StateDirectoryMode",
)  # fmt: skip
"""What a user's own systemd cannot do, or not without a system daemon's rights."""


class Unit:
    """What is to be put where: the main unit first, then its drop-ins."""

    def __init__(
        self, name: str, folder: Path, files: Mapping[Path, str], config: Path, state: str, stated: bool
    ) -> None:
        self.name = name  # for systemctl: hard, hard@kitchen
        self.folder = folder
        self.files = files  # absolute paths
        self.config = config
        self.state = state  # where systemd has it keep its state
        self.stated = stated  # whether the settings name a state folder


def plan(
    settings: Settings,
    *,
    user: bool = False,
    instance: str | None = None,
    config: Path | None = None,
    root: Path = Path("/"),
    systemd: int | None = None,
) -> Unit:
    """The unit for these settings. `root`: where / is, for tests and images; `systemd`: its version."""
    if instance is not None and not INSTANCE.fullmatch(instance):
        raise HardError(f"instance {instance!r}: expected letters, digits, _ . or -")
    template = "hard.service" if instance is None else TEMPLATE
    name = "hard" if instance is None else f"hard@{instance}"
    if user:
        folder, at = _config_home() / USER_UNITS, _config_home() / "hard"
    else:
        folder, at = root / SYSTEM_UNITS, Path("/") / CONFIG
    file = f"{instance or 'hard'}.yaml"
    command = hard_command()
    if re.search(r"[\"'\\]", command[0]):
        raise HardError(
            f"{command[0]}: systemd takes no program with a quote or \\ in its path; install elsewhere"
        )
    words = " ".join([_quoted(command[0]), *map(_argument, command[1:])])
    text = shipped(template).replace("/usr/local/bin/hard", words)
    if user:
        text = text.replace("/etc/hard/%i.yaml", "%E/hard/%i.yaml")
        text = text.replace("/etc/hard/hard.yaml", "%E/hard/hard.yaml")
    own = None if config is None else f"ExecStart={words} run --config {_argument(str(config))}"
    if own and instance is None:
        text = re.sub("^ExecStart=.*", lambda _: own, text, flags=re.M)
    files = {folder / template: _for_user(text) if user else text}
    drop_ins = {} if user else _drop_ins(settings, command, config)
    if instance is not None:  # tells that it is installed, whatever else it needs
        drop_ins["instance.conf"] = f"# hard service install --instance {instance}\n" + (
            f"[Service]\nExecStart=\n{own}\n" if own else ""
        )
    if systemd is not None and systemd >= NOTIFY_RELOAD:
        drop_ins["reload.conf"] = "[Service]\nType=notify-reload\nExecReload=\n"
    for drop_in, content in drop_ins.items():
        files[folder / f"{name}.service.d" / drop_in] = content
    state = f"{_state_home() if user else '/var/lib'}/{'hard' if instance is None else f'hard-{instance}'}"
    return Unit(name, folder, files, config or at / file, state, settings.state_dir is not None)


def install(unit: Unit, *, user: bool, root: Path = Path("/")) -> list[str]:
    """Write the files, and a configuration where there is none; returns what was done and what is next."""
    done: list[str] = []
    try:
        _clear(unit.folder / f"{unit.name}.service.d")  # of an earlier configuration
        for path, text in unit.files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
            done.append(f"wrote {path}")
        config = unit.config if user else root / unit.config.relative_to("/")
        if not config.exists():
            new = not config.parent.exists()
            config.parent.mkdir(parents=True, exist_ok=True)
            stated = f"state_dir: {json.dumps(unit.state, ensure_ascii=False)}"
            config.write_text(default_config().replace("state_dir: null", stated), "utf-8")
            if not user:  # whatever root's umask is: the service runs as another user
                config.chmod(0o644)
                if new:
                    config.parent.chmod(0o755)
            done.append(f"wrote {config}: every setting with its default, and the state folder")
        elif not unit.stated:
            done.append(f"add to {config}, so that commands find it:  state_dir: {unit.state}")
    except OSError as e:
        raise HardError(f"{e.filename}: {e.strerror}; run it with sudo, or with --user") from None
    systemctl = "systemctl --user" if user else "systemctl"
    if RUNNING.exists() and root == Path("/"):
        subprocess.run([*systemctl.split(), "daemon-reload"], check=False, capture_output=True)
    done.append(f"next: {systemctl} enable --now {unit.name}")
    if user:
        done.append("and, to run without a login: loginctl enable-linger")
    return done


def uninstall(unit: Unit, *, user: bool, root: Path = Path("/")) -> list[str]:
    """Stop and disable it, and remove the files; configuration and state stay.

    The template of instances goes with the last of them.
    """
    there = _instances(unit.folder)
    others = sorted(there - {unit.name})
    template = unit.folder / TEMPLATE
    if template in unit.files and unit.name not in there:
        which = f"; there is: {', '.join(others)}" if others else ""
        raise HardError(f"{unit.name} is not installed in {unit.folder}{which}")
    shared = {template} if others else set()
    systemctl = ["systemctl", "--user"] if user else ["systemctl"]
    running = RUNNING.exists() and root == Path("/")
    if running:
        subprocess.run([*systemctl, "disable", "--now", unit.name], check=False, capture_output=True)
    done: list[str] = []
    try:
        main = next(iter(unit.files))
        if main.exists() and main not in shared:
            main.unlink()
            done.append(f"removed {main}")
        done += [f"removed {path}" for path in _clear(unit.folder / f"{unit.name}.service.d")]
    except OSError as e:
        raise HardError(f"{e.filename}: {e.strerror}; run it with sudo, or with --user") from None
    if running:
        subprocess.run([*systemctl, "daemon-reload"], check=False, capture_output=True)
    if not done:
        raise HardError(f"{unit.name} is not installed in {unit.folder}")
    if shared & unit.files.keys():
        done.append(f"left: {template}, for {', '.join(others)}")
    return [
        *done,
        f"left: {unit.config.parent} (configuration), {unit.state} (daily totals, the broker's store)",
    ]


def installed(root: Path = Path("/")) -> list[str]:
    """The services that are in place, the machine's and this user's, such as hard@kitchen.service."""
    found: list[str] = []
    for folder, whose in ((root / SYSTEM_UNITS, ""), (_config_home() / USER_UNITS, " of this user")):
        names = ["hard"] if (folder / "hard.service").exists() else []
        found += [f"{name}.service{whose}" for name in [*names, *sorted(_instances(folder))]]
    return found


def settings_of_service(root: Path = Path("/")) -> Path | None:
    """The settings of the service that is installed, a user's own before the machine's; not of an instance.

    None where there is none, or they cannot be read.
    """
    home = _config_home()
    for folder in (home / USER_UNITS, root / SYSTEM_UNITS):
        try:
            text = (folder / "hard.service").read_text("utf-8")
        except (OSError, UnicodeDecodeError):
            continue
        found = re.search(r"^ExecStart=.* run --config (.+)$", text, re.M)
        if found:
            config = _unquoted(found[1], str(home))
            path = root / config.lstrip("/") if folder != home / USER_UNITS else Path(config)
            return path if os.access(path, os.R_OK) else None
    return None


def credential_file(config: Path) -> Path | None:
    """The password that the unit for these settings hands over; None where they are no unit's."""
    if config.absolute().parent != Path("/") / CONFIG:
        return None
    return config.with_name("mqtt-password" if config.stem == "hard" else f"{config.stem}.mqtt-password")


def _config_home() -> Path:
    """Where this user's configuration is."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config"))


def _state_home() -> str:
    return os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")


def _clear(drop_ins: Path) -> list[Path]:
    """Remove what we put there, and nothing that `systemctl edit` did; returns what there was."""
    ours = [path for name in DROP_INS if (path := drop_ins / name).exists()]
    for path in ours:
        path.unlink()
    with contextlib.suppress(OSError):  # not empty, or not there
        drop_ins.rmdir()
    return ours


def _instances(folder: Path) -> set[str]:
    """The instances that are installed or enabled, such as hard@kitchen."""
    found = [p.parent for p in folder.glob("hard@?*.service.d/instance.conf")]
    found += folder.glob("*.wants/hard@?*.service")
    return {path.name.removesuffix(".d").removesuffix(".service") for path in found}


def systemd_version() -> int | None:
    """Of the installed systemd; None where there is none."""
    try:
        out = subprocess.run(
            ["systemctl", "--version"], capture_output=True, text=True, timeout=5, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.match(r"systemd (\d+)", out.stdout)
    return int(found[1]) if found else None


def hard_command() -> list[str]:
    """How a service starts us: the script beside this Python, or the module."""
    script = Path(sys.executable).parent / "hard"
    return [str(script)] if script.exists() else [sys.executable, "-m", "hard"]


def shipped(name: str) -> str:
    """A unit file of the package."""
    return _share("systemd", name)


def default_config() -> str:
    """config/hard.yaml, every key with its default."""
    return _share("config", "hard.yaml")


def _share(folder: str, name: str) -> str:
    here = Path(__file__).resolve().parent
    for path in (here / "share" / name, here.parent / folder / name):
        if path.is_file():
            return path.read_text("utf-8")
    raise HardError(f"{name}: not in this installation; reinstall hard")


def _drop_ins(settings: Settings, command: Sequence[str], config: Path | None) -> dict[str, str]:
    """What the restrictions of the shipped unit would keep from this configuration."""
    out: dict[str, str] = {}
    devices: list[str] = []
    groups: list[str] = []
    if "serial" in settings.sources.enabled:
        devices += ["char-ttyUSB", "char-ttyACM", "char-ttyAMA", "char-ttyS"]
        groups.append("dialout")
    if "webcam" in settings.sources.enabled:
        devices += ["char-video4linux", "char-media"]
        groups.append("video")
    if devices:
        lines = ["[Service]", "PrivateDevices=no", f"SupplementaryGroups={' '.join(groups)}"]
        out["devices.conf"] = "\n".join([*lines, *(f"DeviceAllow={d} rw" for d in devices)]) + "\n"
    needed = _needed(command) + (_folders(config) if config else [])
    hidden = [p for p in dict.fromkeys(needed) if f"{p}/".startswith(HOMES + TEMPORARY)]
    if hidden:
        home = ["ProtectHome=tmpfs"] if any(f"{p}/".startswith(HOMES) for p in hidden) else []
        lines = ["[Service]", *home, *(f"BindReadOnlyPaths={_quoted(p)}" for p in hidden)]
        out["paths.conf"] = "\n".join(lines) + "\n"
    return out


def _needed(command: Sequence[str]) -> list[str]:
    """Folders that the command needs to start: its virtual environment, that one's Python, the package."""
    package = Path(__file__).resolve().parent
    inside = package.is_relative_to(Path(sys.prefix).resolve())
    found = [Path(command[0]).parent.parent, Path(sys.base_prefix)]
    found += [] if inside else [package.parent]
    return list(dict.fromkeys(str(p) for p in found))


def _folders(config: Path) -> list[str]:
    """Where a configuration is, and where it is really; HardError where the service would see a home whole.

    Bound as a file it would be the one that it was at the start: editors save by renaming a new one over it.
    """
    folders = [config.parent, config.resolve().parent]
    for folder in folders:
        if re.fullmatch(r"/root|/home(/[^/]+)?|/run/user(/[^/]+)?|(/var)?/tmp", str(folder)):
            own = folder / "hard" / config.name
            raise HardError(
                f"{config}: the service would have to see all of {folder}; move it to a folder of its own, "
                f"such as {own}, or to /{CONFIG}"
            )
    return list(map(str, folders))


def _for_user(text: str) -> str:
    """A unit for a user's own systemd: without what only a system's can do."""
    lines = [
        line
        for line in text.splitlines()
        if line.partition("=")[0] not in SYSTEM_ONLY
        and not line.startswith(("# an empty", "After=", "Wants="))
    ]
    return "\n".join(lines).replace("WantedBy=multi-user.target", "WantedBy=default.target") + "\n"


def _quoted(word: str) -> str:
    """As unit files want a path."""
    word = word.replace("%", "%%")
    if re.fullmatch(r"[\w@%+=,./-]+", word):
        return word
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _argument(word: str) -> str:
    """As ExecStart= wants what follows the program."""
    return _quoted(word).replace("$", "$$")


def _unquoted(argument: str, config_home: str) -> str:
    """What `_argument` made, or `%E` in a user's unit, as it was."""
    if argument.startswith('"'):
        argument = re.sub(r"\\(.)", r"\1", argument[1:-1])
    return re.sub(r"%%|%E|\$\$", lambda m: config_home if m[0] == "%E" else m[0][0], argument)
