"""Run a command under the restrictions of a systemd unit, without systemd, as far as the machine allows.

python tools/sandbox.py systemd/hard.service --state DIR [--bind PATH]... -- hard run --broker mqtt://127.0.0.1:1883

Needs root for mounts, devices, /proc and the other user; without it no-new-privileges, the filter of calls
and MemoryDenyWriteExecute remain. What was applied is printed as one JSON line on stderr. Not covered:
control groups (DeviceAllow=, MemoryMax=, TasksMax=), RemoveIPC=, KeyringMode=, ProtectHostname=.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final, NoReturn

import click

UID: Final = 61_234  # of the range that DynamicUser= takes from
NODES: Final = ("null", "zero", "full", "random", "urandom", "tty")
WRITABLE: Final = ("/tmp", "/var/tmp", "/dev/shm", "/proc")
STAGE: Final = Path("/mnt")

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_REMOUNT, MS_BIND, MS_MOVE = 1, 2, 4, 32, 4096, 8192
MS_REC, MS_PRIVATE = 16384, 1 << 18
CLONE_NEWNS, CLONE_NEWUSER, NAMESPACES = 0x00020000, 0x10000000, 0x7E020080
PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS, PR_SET_MDWE = 24, 38, 65
SCMP_ACT_ALLOW, SCMP_CMP_NE, SCMP_CMP_EQ, SCMP_CMP_MASKED_EQ = 0x7FFF0000, 1, 4, 7
SCMP_ACT_EPERM = 0x00050000 | errno.EPERM
PROT_WRITE, PROT_EXEC = 2, 4
AF = {"AF_UNIX": 1, "AF_INET": 2, "AF_INET6": 10, "AF_NETLINK": 16}

libc = ctypes.CDLL(None, use_errno=True)


class Unit:
    """The [Service] section: every value of every key."""

    def __init__(self, path: Path) -> None:
        self._values: dict[str, list[str]] = {}
        for line in path.read_text("utf-8").splitlines():
            key, equals, value = line.partition("=")
            if equals and not line.startswith("#"):
                self._values.setdefault(key, []).append(value)

    def on(self, key: str) -> bool:
        return self._values.get(key, ["no"])[-1] not in ("no", "false", "0")

    def words(self, key: str) -> list[str]:
        return [word for value in self._values.get(key, []) for word in value.split()]

    def lines(self, key: str) -> list[str]:
        return self._values.get(key, [])


class Cmp(ctypes.Structure):
    _fields_ = (
        ("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64)
    )  # fmt: skip


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("unit", type=click.Path(path_type=Path, exists=True))
@click.option("--state", type=click.Path(path_type=Path), required=True, help="The StateDirectory.")
@click.option(
    "--bind", "binds", multiple=True, type=click.Path(path_type=Path), help="Read-only, as in a drop-in."
)
@click.argument("command", nargs=-1, required=True)
def main(unit: Path, state: Path, binds: tuple[Path, ...], command: tuple[str, ...]) -> NoReturn:
    """Apply UNIT's restrictions to this process and become COMMAND."""
    settings, applied = Unit(unit), []
    state.mkdir(parents=True, exist_ok=True)
    if os.geteuid() == 0:
        os.chown(state, UID, UID)
        for steps in (_mounts(settings, state.resolve(), [p.resolve() for p in binds]), _user(settings)):
            for name, step in steps:
                step()
                applied.append(name)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    applied.append("NoNewPrivileges")
    if settings.on("MemoryDenyWriteExecute") and libc.prctl(PR_SET_MDWE, 1, 0, 0, 0) == 0:
        applied.append("MemoryDenyWriteExecute (prctl)")
    applied += _seccomp(settings)
    print(json.dumps({"applied": applied}), file=sys.stderr, flush=True)
    os.umask(0o077)
    os.chdir("/")
    os.execvpe(command[0], command, os.environ | {"STATE_DIRECTORY": str(state.resolve()), "HOME": "/"})


def _mounts(unit: Unit, state: Path, binds: list[Path]) -> list[tuple[str, Callable[[], None]]]:
    """ProtectSystem, ProtectHome, PrivateTmp, PrivateDevices, ProtectProc, ProcSubset: in this order."""
    kept = [state, *binds]

    def begin() -> None:
        _check(libc.unshare(CLONE_NEWNS), "unshare")
        _mount(None, "/", None, MS_REC | MS_PRIVATE)
        _mount("tmpfs", str(STAGE), "tmpfs", 0)
        for i, path in enumerate([*kept, *(Path("/dev", node) for node in NODES)]):
            place = STAGE / str(i)
            place.mkdir() if path.is_dir() else place.touch()
            _mount(str(path), str(place), None, MS_BIND | MS_REC)

    def hide() -> None:
        for folder in ("/tmp", "/var/tmp", "/home", "/root", "/run/user"):
            if Path(folder).is_dir():
                mode = "1777" if "tmp" in folder else "0755"
                _mount("tmpfs", folder, "tmpfs", MS_NOSUID | MS_NODEV, f"mode={mode}")
        for i, path in enumerate(kept):
            path.mkdir(parents=True, exist_ok=True)
            _mount(str(STAGE / str(i)), str(path), None, MS_MOVE)

    def devices() -> None:
        _mount("tmpfs", "/dev", "tmpfs", MS_NOSUID, "mode=0755")
        for i, node in enumerate(NODES):
            Path("/dev", node).touch()
            _mount(str(STAGE / str(len(kept) + i)), f"/dev/{node}", None, MS_MOVE)
        Path("/dev/shm").mkdir()
        _mount("tmpfs", "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777")

    def proc() -> None:
        subset = "subset=pid," if unit.on("ProcSubset") else ""
        _mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV, f"{subset}hidepid=invisible")

    def read_only() -> None:
        writable = (*WRITABLE, str(state))
        for line in Path("/proc/self/mountinfo").read_text().splitlines():
            place = line.split()[4].encode().decode("unicode_escape")
            if place not in writable:
                libc.mount(None, place.encode(), None, MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID, None)

    wanted = {
        "PrivateMounts": begin, "PrivateTmp, ProtectHome": hide, "PrivateDevices": devices,
        "ProtectProc, ProcSubset": proc,
        "ProtectSystem=strict, ProtectKernelTunables, ProtectControlGroups": read_only,
    }  # fmt: skip
    return [(name, step) for name, step in wanted.items() if unit.on(name.split(",")[0].split("=")[0])]


def _user(unit: Unit) -> list[tuple[str, Callable[[], None]]]:
    """CapabilityBoundingSet=, DynamicUser, PrivateUsers."""

    def capabilities() -> None:
        for capability in range(64):
            libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)

    def other_user() -> None:
        os.setgroups([])
        os.setresgid(UID, UID, UID)
        os.setresuid(UID, UID, UID)

    def own_users() -> None:
        libc.prctl(4, 1, 0, 0, 0)  # PR_SET_DUMPABLE: else /proc/self is root's after the change of user
        _check(libc.unshare(CLONE_NEWUSER), "unshare")
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{UID} {UID} 1")
        Path("/proc/self/gid_map").write_text(f"{UID} {UID} 1")

    drop = ("CapabilityBoundingSet=", capabilities)
    if unit.on("PrivateUsers"):  # a new user namespace comes with all of them
        return [("DynamicUser", other_user), ("PrivateUsers", own_users), drop]
    return [drop, ("DynamicUser", other_user)]


def _seccomp(unit: Unit) -> list[str]:
    """SystemCallFilter and the Restrict... settings that systemd makes a filter of, by libseccomp."""
    try:
        lib = ctypes.CDLL("libseccomp.so.2")
    except OSError:
        return []
    lib.seccomp_init.restype = ctypes.c_void_p
    allowed: set[str] = set()
    for line in unit.lines("SystemCallFilter"):
        names = {call for word in line.lstrip("~").split() for call in _expand(word)}
        allowed = allowed - names if line.startswith("~") else allowed | names
    for filter_ in (_deny_list(lib, unit), _allow_list(lib, allowed)):  # the second forbids a third
        _check(lib.seccomp_load(ctypes.c_void_p(filter_)), "seccomp_load")
    return [f"SystemCallFilter ({len(allowed)} calls)", *_denials(unit)]


def _allow_list(lib: ctypes.CDLL, allowed: set[str]) -> int:
    made = int(lib.seccomp_init(ctypes.c_uint32(SCMP_ACT_EPERM)))
    for name in sorted(allowed):
        number = lib.seccomp_syscall_resolve_name(name.encode())
        if number >= 0:
            lib.seccomp_rule_add_array(
                ctypes.c_void_p(made), ctypes.c_uint32(SCMP_ACT_ALLOW), number, 0, None
            )
    return made


def _denials(unit: Unit) -> list[str]:
    names = ("RestrictAddressFamilies", "RestrictNamespaces", "RestrictRealtime", "LockPersonality",
             "RestrictSUIDSGID", "MemoryDenyWriteExecute")  # fmt: skip
    return [name for name in names if unit.on(name)]


def _deny_list(lib: ctypes.CDLL, unit: Unit) -> int:
    """A filter that allows all but what its rules name; of two the kernel takes the stricter answer."""
    made = int(lib.seccomp_init(ctypes.c_uint32(SCMP_ACT_ALLOW)))

    def deny(name: str, *conditions: tuple[int, int, int, int]) -> None:
        number = lib.seccomp_syscall_resolve_name(name.encode())
        array = (Cmp * len(conditions))(*(Cmp(*c) for c in conditions))
        lib.seccomp_rule_add_array(
            ctypes.c_void_p(made), ctypes.c_uint32(SCMP_ACT_EPERM), number, len(conditions), array
        )

    families = [AF[name] for name in unit.words("RestrictAddressFamilies")]
    if families:
        for family in set(range(46)) - set(families):
            deny("socket", (0, SCMP_CMP_EQ, family, 0))
    if unit.on("RestrictNamespaces"):
        deny("unshare")
        deny("setns")
        for bit in (b for b in range(32) if NAMESPACES >> b & 1 and b != 7):
            deny("clone", (0, SCMP_CMP_MASKED_EQ, 1 << bit, 1 << bit))
    if unit.on("RestrictRealtime"):
        for policy in (1, 2, 6):
            deny("sched_setscheduler", (1, SCMP_CMP_EQ, policy, 0))
    if unit.on("LockPersonality"):
        deny("personality", (0, SCMP_CMP_NE, 0xFFFFFFFF, 0))
    if unit.on("RestrictSUIDSGID"):
        for call, mode in (("chmod", 1), ("fchmod", 1), ("fchmodat", 2), ("mkdir", 1), ("mkdirat", 2)):
            for bit in (0o4000, 0o2000):
                deny(call, (mode, SCMP_CMP_MASKED_EQ, bit, bit))
    if unit.on("MemoryDenyWriteExecute"):
        both = PROT_WRITE | PROT_EXEC
        deny("mmap", (2, SCMP_CMP_MASKED_EQ, both, both))
        deny("mprotect", (2, SCMP_CMP_MASKED_EQ, PROT_EXEC, PROT_EXEC))
        deny("pkey_mprotect", (2, SCMP_CMP_MASKED_EQ, PROT_EXEC, PROT_EXEC))
        deny("shmat", (2, SCMP_CMP_MASKED_EQ, 0o100000, 0o100000))
    return made


def _expand(word: str) -> set[str]:
    """A group of system calls, @system-service, as systemd knows it."""
    if not word.startswith("@"):
        return {word}
    out = subprocess.run(
        ["systemd-analyze", "syscall-filter", word], check=True, capture_output=True, text=True
    )
    names = [line.strip() for line in out.stdout.splitlines() if line.startswith("    ")]
    return {call for name in names if not name.startswith("#") for call in _expand(name)}


def _mount(source: str | None, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    encoded = [None if text is None else text.encode() for text in (source, target, kind, data)]
    _check(
        libc.mount(encoded[0], encoded[1], encoded[2], ctypes.c_ulong(flags), encoded[3]), f"mount {target}"
    )


def _check(result: int, what: str) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno() or -result, f"{what}: {os.strerror(ctypes.get_errno() or -result)}")


if __name__ == "__main__":
    main()
