"""What several commands share: options, and the settings and the broker that they lead to."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

from hard.config import STATE_VARIABLE, Key, Tree, load_settings, state_dir
from hard.mqtt.passwords import hide_from_ps, known_secrets
from hard.settings import Settings

if TYPE_CHECKING:
    from hard.mqtt.address import BrokerUrl
    from hard.types import Label


MOST: Final = 1e9  # seconds are 31 years then


class Finite(click.FloatRange):
    """FloatRange lets nan pass, and infinity, for which no thread can wait."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = float(super().convert(value, param, ctx))
        if not number <= MOST:
            self.fail(f"expected a number up to {MOST:g}, got {number:g}", param, ctx)
        return number


config_option = click.option(
    "--config", type=click.Path(path_type=Path), metavar="FILE", help="YAML settings; see config/hard.yaml."
)


def of_the_service(config: Path | None) -> Path | None:
    """The settings given, or those of the service that is installed, unless a state folder is named."""
    if config is not None or STATE_VARIABLE in os.environ:
        return config
    from hard.service import settings_of_service

    found = settings_of_service()
    if found is not None:
        print(f"settings: {found}, of the service that is installed", file=sys.stderr)
    return found


daemon_option = click.option(
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    callback=lambda _context, _parameter, config: of_the_service(config),
    help="YAML settings of the daemon; default: those of the service that is installed, if any.",
)
broker_option = click.option("--broker", metavar="URL", help="mqtt://[user:password@]host[:1883]")
acc_unit_option = click.option(
    "--acc-unit",
    type=click.Choice(["g", "m/s2"]),
    help="Of acceleration in a CSV; default: its header's, else told.",
)
gyro_unit_option = click.option(
    "--gyro-unit", type=click.Choice(["rad/s", "deg/s"]), help="Of angular velocity; likewise."
)
for_option = click.option(
    "--for",
    "for_s",
    type=Finite(min=0, min_open=True),
    metavar="SECONDS",
    help="Stop after this time.",
)


def load(config: Path | None, options: dict[Key, tuple[str, Tree]]) -> Settings:
    """Settings of a file, the environment and the options given; an option that is None is not given.

    Passwords among them are hidden from `ps` from then on.
    """
    given = {key: option for key, option in options.items() if option[1] is not None}
    settings = load_settings(config, os.environ, given)
    if config is not None and "CREDENTIALS_DIRECTORY" not in os.environ:
        settings = _with_credential(settings, config)
    hide_from_ps(known_secrets(settings))
    return settings


def _with_credential(settings: Settings, config: Path) -> Settings:
    """With the password that systemd hands over to the service, where we may read it."""
    b = settings.broker
    if b.password or b.password_file or not (b.username or "@" in (b.url or "")):
        return settings
    from hard.mqtt.address import credential
    from hard.service import credential_file

    file = credential_file(config)
    if file is None or not os.access(file, os.R_OK):
        return settings
    return msgspec.structs.replace(settings, broker=msgspec.structs.replace(b, password=credential(file)))


def broker_url(settings: Settings) -> BrokerUrl:
    """Where the broker is: the one configured, or a running daemon's embedded one."""
    from hard.embedded import embedded_address
    from hard.mqtt.address import address

    if settings.broker.url is None:
        return embedded_address(settings.embedded, state_dir(settings))
    return address(settings.broker.url, settings.broker, os.environ)


def json_line(label: Label, dated: bool) -> str:
    """The live payload, with `t_end`; without latency, and without UTC unless the times are `dated`."""
    from hard.sinks.payload import encode

    line = msgspec.json.decode(encode(label))
    del line["latency_ms"]
    if not dated:
        del line["since"], line["window_end"]["utc"]
    return msgspec.json.encode({"t_end": line["window_end"]["device_s"], **line}).decode()
