"""Download the public recordings that the sensor models are trained on, from their official addresses.

python tools/fetch_data.py hapt motionsense sp_sw_har
"""

from __future__ import annotations

import http.client
import io
import re
import sys
import tempfile
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

import click
import msgspec
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # `python tools/x.py` and `python -m tools.x`

from hard.types import HardError

BLOCK: Final = 1 << 18
TIMEOUT_S: Final = 30.0
MOVED: Final = "where it has moved, give the new address with --url"


class DataSet(msgspec.Struct, frozen=True):
    """A zip file somewhere, and which of its members belong where."""

    url: str
    member: str  # regular expression, searched in a member's path; what it matches is its path in the folder
    licence: str


DATA_SETS: Final = {
    "hapt": DataSet(
        "https://archive.ics.uci.edu/static/public/341/"
        "smartphone+based+recognition+of+human+activities+and+postural+transitions.zip",
        r"RawData/(acc|gyro)_exp\d+_user\d+\.txt$|RawData/labels\.txt$",
        "no commercial use; cite Reyes-Ortiz et al., Neurocomputing 171 (2016)",
    ),
    "motionsense": DataSet(
        "https://github.com/mmalekzadeh/motion-sense/raw/master/data/A_DeviceMotion_data.zip",
        r"A_DeviceMotion_data/[a-z]+_\d+/sub_\d+\.csv$",
        "MIT; cite Malekzadeh et al., IoTDI 2019",
    ),
    "sp_sw_har": DataSet(
        "https://github.com/GeoTecINIT/sp-sw-har-dataset/archive/refs/heads/main.zip",
        r"DATA/s\d+/s\d+_\d+_sp\.csv$|DATA/[a-z_]+\.csv$",
        "CC BY 4.0; cite Matey-Sanz et al., Data in Brief 50 (2023)",
    ),
}
ELSEWHERE: Final = {
    "ucf50": "https://www.crcv.ucf.edu/data/UCF50.php",
    "ucf101": "https://www.crcv.ucf.edu/data/UCF101.php",
    "weizmann": "https://www.wisdom.weizmann.ac.il/~vision/SpaceTimeActions.html",
}
"""Archives that Python cannot unpack, or in another form than the loaders read: by hand, class folders."""


@click.command()
@click.argument("names", nargs=-1, metavar="NAME...")
@click.option(
    "--to", type=click.Path(path_type=Path, file_okay=False), default=Path("data"), show_default=True
)
@click.option("--url", help="Another address of the same archive, such as a mirror; with one NAME.")
def main(names: tuple[str, ...], to: Path, url: str | None) -> None:
    """Download data sets into TO/NAME (data/NAME), laid out as the loaders and tests read them.

    NAME: hapt, motionsense, sp_sw_har.
    """
    if not names:
        raise click.UsageError(f"name one or more of {', '.join(DATA_SETS)}")
    if url and len(names) > 1:
        raise click.UsageError("--url is the address of one data set; name one")
    for name in names:
        if name in ELSEWHERE:
            raise click.UsageError(f"{name} has to be fetched by hand: {ELSEWHERE[name]}")
        if name not in DATA_SETS:
            raise click.UsageError(f"no data set named {name!r}; there is: {', '.join(DATA_SETS)}")
    for name in names:
        wanted = DATA_SETS[name]
        n = fetch(url or wanted.url, wanted.member, to / name)
        print(f"{to / name}: {n} files. {wanted.licence}")


def fetch(url: str, member: str, folder: Path) -> int:
    """Download a zip file and unpack the members that match; returns how many. Raises HardError."""
    with tempfile.TemporaryFile() as archive:
        try:
            download(url, archive)
        except (OSError, ValueError, http.client.HTTPException) as e:  # ValueError: of an address
            raise HardError(f"{url}: {e}; {MOVED}") from None
        try:
            found = list(members(archive, re.compile(member)))
        except (zipfile.BadZipFile, zlib.error):
            raise HardError(f"{url}: not a zip file; {MOVED}") from None
        if not found:
            raise HardError(f"{url}: nothing in it is called {member}; it has another layout than expected")
        for path, content in found:
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
    return len(found)


def download(url: str, to: IO[bytes]) -> None:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer, Progress(*columns) as progress:
        size = answer.headers.get("Content-Length")
        task = progress.add_task(url.rsplit("/", 1)[-1][:40], total=int(size) if size else None)
        while block := answer.read(BLOCK):
            to.write(block)
            progress.update(task, advance=len(block))
        if size and to.tell() < int(size):
            raise HardError(f"{url}: broke off after {to.tell():,} of {int(size):,} bytes; try again")


def members(archive: IO[bytes], wanted: re.Pattern[str]) -> Iterator[tuple[str, bytes]]:
    """Path below the folder, and content, of the members wanted; also those of zip files inside.

    The path is what the pattern matches, which begins with a folder's name and has no `..`.
    """
    with zipfile.ZipFile(archive) as z:
        for info in z.infolist():
            match = wanted.search(info.filename)
            if match and "__MACOSX" not in info.filename:
                yield match[0], z.read(info)
            elif info.filename.endswith(".zip"):
                yield from members(io.BytesIO(z.read(info)), wanted)


if __name__ == "__main__":
    try:
        main(standalone_mode=False)
    except click.ClickException as e:
        sys.exit(f"error: {e.format_message()}")
    except HardError as e:
        sys.exit(f"error: {e}")
