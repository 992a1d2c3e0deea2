"""The commands; each module holds those of one purpose and imports what it needs when it is called."""

from __future__ import annotations

import difflib
import errno
import io
import logging
import os
import sys
import threading
from typing import NoReturn

import click

from hard import __version__
from hard.cli.inspect import check, devices, models, watch
from hard.cli.personal import calibrate, personalize, record
from hard.cli.recordings import classify, replay
from hard.cli.run import run
from hard.cli.service import reload, service
from hard.types import HardError

USAGE_ERROR = 2
UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EIO)


class Commands(click.Group):
    """A group that names the nearest command for a wrong one."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if not name.startswith("-") and self.get_command(ctx, name) is None:
            known = self.list_commands(ctx)
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there is: {', '.join(known)}"
            ctx.fail(f"no command {name!r}; {hint}")
        return super().resolve_command(ctx, args)


def main() -> None:
    """Entry point: every foreseen error is one line on stderr and a non-zero exit status."""
    _open_closed()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # rather ? for ² than nothing, where the terminal is ASCII
    try:
        status = cli(standalone_mode=False)
    except click.ClickException as e:
        if type(e).__name__ == "NoArgsIsHelpError":  # of click 8.2 on: its message is the help
            print(e.format_message(), file=sys.stderr)
            _end(USAGE_ERROR)
        _fail(e.format_message().rstrip("."), USAGE_ERROR)
    except HardError as e:
        _fail(str(e), 1)
    except (click.Abort, KeyboardInterrupt):
        _fail("interrupted", 130)
    except OSError as e:
        if e.errno not in UNWRITABLE or e.filename is not None:
            raise
        _fail(f"the output cannot be written: {e.strerror}", 1)
    _end(status if isinstance(status, int) else 0)


def _open_closed() -> None:
    """Streams that we were started without, as by `>&-`, lead nowhere: Python has None for them then, and the
    next file or socket would get their number, and what others print there.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):  # each gets the lowest number free
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115


def _fail(text: str, status: int) -> NoReturn:
    print(f"hard: {' '.join(text.split())}", file=sys.stderr)
    _end(status)


def _end(status: int) -> NoReturn:
    """Exit; at once where a thread is still inside of a driver, such as a camera's that does not let go.

    Python ends such a thread as it returns, which OpenCV's C++ answers with an abort of the process.
    """
    unwritten = False
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError as e:
            unwritten = True
            if status == 0 and stream is sys.stdout and e.errno != errno.EPIPE:
                status = 1
                print(f"hard: the output cannot be written: {e.strerror}", file=sys.stderr)
        except ValueError:
            pass  # it is closed
    if unwritten or threading.active_count() > 1:
        logging.shutdown()
        os._exit(status)
    sys.exit(status)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="hard %(version)s")
def cli() -> None:
    """Real-time human activity recognition: phone motion and cameras in, activity labels out over MQTT."""


COMMANDS = (
    run, replay, classify, watch, check, calibrate, record, personalize, models, devices, service, reload,
)  # fmt: skip
for command in COMMANDS:
    cli.add_command(command)
