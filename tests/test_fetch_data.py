"""Archives become folders as the loaders read them, whatever else is inside; and errors name the fix."""

from __future__ import annotations

import io
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO

import pytest

from conftest import ROOT


class Quiet(SimpleHTTPRequestHandler):
    """Of `broken.zip` the second half does not come."""

    def log_message(self, format: str, *args: object) -> None:
        pass

    def copyfile(self, source: IO[bytes], outputfile: IO[bytes]) -> None:
        content = source.read()
        outputfile.write(content[: len(content) // 2] if self.path == "/broken.zip" else content)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """Address and folder of a web server on loopback."""
    folder = tmp_path / "site"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", folder
    server.shutdown()
    thread.join()
    server.server_close()


def packed(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as z:
        for name, content in files.items():
            z.writestr(name, content)
    return out.getvalue()


def fetch(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "tools/fetch_data.py", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def unpacked(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_what_is_wanted_is_unpacked_also_from_a_zip_inside(site: tuple[str, Path], tmp_path: Path) -> None:
    address, folder = site
    inner = packed(
        {"HAPT Data Set/RawData/gyro_exp01_user01.txt": b"g", "RawData/labels.txt": b"l", "X.txt": b""}
    )
    outer = {
        "a/RawData/acc_exp01_user01.txt": b"a",
        "HAPT Data Set.zip": inner,
        "__MACOSX/RawData/acc_exp09_user09.txt": b"?",
        "../../RawData/acc_exp02_user01.txt": b"b",
    }
    (folder / "x.zip").write_bytes(packed(outer))
    done = fetch("hapt", "--to", str(tmp_path / "data"), "--url", f"{address}/x.zip")
    assert done.returncode == 0, done.stderr
    assert unpacked(tmp_path / "data") == {
        "hapt/RawData/acc_exp01_user01.txt": b"a",
        "hapt/RawData/acc_exp02_user01.txt": b"b",
        "hapt/RawData/gyro_exp01_user01.txt": b"g",
        "hapt/RawData/labels.txt": b"l",
    }
    assert "4 files" in done.stdout
    assert "cite" in done.stdout


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("absent.zip", None, "404"),
        (
            "page.zip",
            b"<html>moved</html>",
            "not a zip file; where it has moved, give the new address",
        ),
        ("other.zip", packed({"a.txt": b""}), "another layout"),
        ("broken.zip", packed({"a.txt": b"x" * 1000}), "bytes; try again\n"),
        ("a b.zip", None, "where it has moved, give the new address"),
    ],
)
def test_an_archive_that_is_not_there_or_another(
    site: tuple[str, Path], tmp_path: Path, name: str, content: bytes | None, expected: str
) -> None:
    address, folder = site
    if content is not None:
        (folder / name).write_bytes(content)
    done = fetch("motionsense", "--to", str(tmp_path / "data"), "--url", f"{address}/{name}")
    assert done.returncode == 1
    assert expected in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), "name one or more of hapt"),
        (("hapd",), "no data set named 'hapd'; there is: hapt"),
        (("ucf50",), "has to be fetched by hand: https://www.crcv.ucf.edu"),
        (("hapt", "motionsense", "--url", "http://x"), "name one"),
        (("hapt", "--url", "x.zip"), "unknown url type: 'x.zip'; where it has moved, give the new address"),
    ],
)
def test_wrong_arguments_say_what_is_right(arguments: tuple[str, ...], expected: str) -> None:
    done = fetch(*arguments)
    assert done.returncode == 1
    assert expected in done.stderr
