"""Commands for operators: hard service and hard reload."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hard.cli.options import config_option, daemon_option, load
from hard.config import reach, salvage, state_dir
from hard.types import HardError

if TYPE_CHECKING:
    from hard.service import Unit

RELOAD_S = 30.0

user_option = click.option(
    "--user/--system", "user", default=False, help="Your own systemd, or (default) the machine's."
)
instance_option = click.option(
    "--instance", metavar="NAME", help="Of the template hard@.service; its settings: /etc/hard/NAME.yaml."
)
root_option = click.option(
    "--root", type=click.Path(path_type=Path), default=Path("/"), hidden=True, help="Where / is."
)


@click.group()
def service() -> None:
    """Run as a systemd service: put the unit in place, take it away, or look at it."""


@service.command()
@user_option
@instance_option
@config_option
@root_option
def install(user: bool, instance: str | None, config: Path | None, root: Path) -> int:
    """Write unit and drop-ins, as the settings need them; again after sources have changed."""
    from hard import service as units

    for line in units.install(_unit(user, instance, config, root), user=user, root=root):
        print(line)
    return 0


@service.command()
@user_option
@instance_option
@root_option
def uninstall(user: bool, instance: str | None, root: Path) -> int:
    """Stop it and remove what `install` wrote; settings, which may be wrong, and state stay."""
    from hard import service as units
    from hard.settings import Settings

    unit = units.plan(Settings(), user=user, instance=instance, root=root)
    for line in units.uninstall(unit, user=user, root=root):
        print(line)
    return 0


@service.command("print")
@user_option
@instance_option
@config_option
def print_(user: bool, instance: str | None, config: Path | None) -> int:
    """Show what `install` would write."""
    for path, text in _unit(user, instance, config, Path("/")).files.items():
        print(f"# {path}\n{text}")
    return 0


@click.command()
@daemon_option
def reload(config: Path | None) -> int:
    """Have a running daemon read its settings again; says what it made of them.

    For a service run it with sudo; `systemctl reload hard` does the same.
    """
    from hard.daemon.runfile import find

    wrong = None
    try:
        settings = load(config, {})
    except HardError as e:  # the daemon will say the same, and go on with what it has
        settings, wrong = salvage(config, os.environ), e
    state = reach(state_dir(settings))
    before = find(state)
    if before is None:
        raise wrong or HardError(f"no daemon has the state folder {state}; name its settings: --config FILE")
    os.kill(before.pid, signal.SIGHUP)  # one that is under way may have read the settings of before
    deadline_s = time.monotonic() + RELOAD_S
    while time.monotonic() < deadline_s:
        now = find(state)
        if now is not None and now.reloads > max(before.begun, before.reloads):
            if now.refused is not None:
                raise HardError(f"refused, the old settings stay: {now.refused}")
            print("reloaded")
            return 0
        time.sleep(0.05)
    raise HardError(f"daemon {before.pid} did not answer within {RELOAD_S:g} s; see its log")


def _unit(user: bool, instance: str | None, config: Path | None, root: Path) -> Unit:
    """The unit for the settings that the service will read."""
    from hard import service as units

    path = config
    if path is None and not user:
        path = root / units.CONFIG / f"{instance or 'hard'}.yaml"
    settings = load(path if path and path.exists() else None, {})
    absolute = Path(os.path.abspath(config)) if config else None
    return units.plan(
        settings, user=user, instance=instance, config=absolute, root=root, systemd=units.systemd_version()
    )
