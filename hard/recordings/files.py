"""Files, gzipped or not, and what is in a zip or a folder -> text of bounded size, unpacked in memory."""

from __future__ import annotations

import codecs
import difflib
import gzip
import io
import lzma
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import IO, Final

from hard.types import HardError

MAX_BYTES: Final = 256 << 20  # of one file, unpacked: six sensors at 100 Hz for 7 hours
HEAD_BYTES: Final = 1 << 16
ZIP_MAGIC: Final = (b"PK\x03\x04", b"PK\x05\x06")  # the latter where it is empty
GZIP_MAGIC: Final = b"\x1f\x8b"
UTF16: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def is_zip(path: Path) -> bool:
    """By its first bytes; those of a pipe are left to whoever reads it."""
    if not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            return file.read(len(ZIP_MAGIC[0])) in ZIP_MAGIC
    except OSError:
        return False  # whoever reads it says why


def stem(path: Path) -> str:
    """A file's name without its endings: walk.csv.gz -> walk."""
    name = path.name.removesuffix(".gz")
    return name if path.is_dir() else name.rpartition(".")[0] or name


def read_text(path: Path) -> str:
    """A whole text file, or a pipe to its end, unpacked where it is gzipped."""
    try:
        with path.open("rb") as file:
            raw = _bounded(file, str(path))
        if raw.startswith(GZIP_MAGIC):
            with gzip.open(io.BytesIO(raw)) as unpacked:
                raw = _bounded(unpacked, str(path))
        return _decoded(raw, str(path))
    except FileNotFoundError:
        siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        near = difflib.get_close_matches(path.name, siblings, n=1)
        raise HardError(f"{path}: no such file" + (f"; did you mean {near[0]}?" if near else "")) from None
    except (OSError, EOFError, zlib.error) as e:
        raise HardError(f"{path}: {getattr(e, 'strerror', None) or e}") from None


class Export:
    """The CSV files of an app's export, a zip or a folder, by their names; phyphox's `meta/` is left out."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._files: dict[str, Path | zipfile.ZipInfo] = {}
        for name, file in _folder(path) if path.is_dir() else _zip(path):
            if name in self._files:
                raise HardError(f"{path}: holds {name} more than once; give one recording")
            self._files[name] = file
        if not self._files:
            raise HardError(f"{path}: no CSV file in it; expected an export of Sensor Logger or phyphox")

    @property
    def names(self) -> list[str]:
        return sorted(self._files)

    def where(self, name: str) -> str:
        """How an error calls a file."""
        return str(self.path / name) if self.path.is_dir() else f"{self.path}: {name}"

    def head(self, name: str) -> str:
        """The first lines of a file, each whole but for one that is longer than HEAD_BYTES."""
        text = _decoded(self._read(name, HEAD_BYTES), self.where(name), whole=False)
        return text[: text.rfind("\n") + 1] or text

    def text(self, name: str) -> str:
        return _decoded(self._read(name, None), self.where(name))

    def _read(self, name: str, size: int | None) -> bytes:
        found = self._files[name]
        try:
            if isinstance(found, Path):
                with found.open("rb") as file:
                    return file.read(size) if size else _bounded(file, self.where(name))
            with zipfile.ZipFile(self.path) as archive, archive.open(found) as member:
                return member.read(size) if size else _bounded(member, self.where(name))
        except (OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, ValueError) as e:
            raise HardError(
                f"{self.where(name)}: {getattr(e, 'strerror', None) or e}; export it again"
            ) from None
        except (RuntimeError, NotImplementedError) as e:  # a password, another compression
            raise HardError(f"{self.where(name)}: {e}; unpack it, and give the folder") from None


def _folder(path: Path) -> list[tuple[str, Path | zipfile.ZipInfo]]:
    try:
        return [(p.name, p) for p in sorted(path.iterdir()) if p.is_file() and _wanted(PurePosixPath(p.name))]
    except OSError as e:
        raise HardError(f"{path}: {e.strerror}") from None


def _zip(path: Path) -> list[tuple[str, Path | zipfile.ZipInfo]]:
    try:
        with zipfile.ZipFile(path) as archive:
            members = [(PurePosixPath(m.filename), m) for m in archive.infolist() if not m.is_dir()]
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError) as e:
        raise HardError(f"{path}: {e}; export it again") from None
    if any(str(name) == "[Content_Types].xml" for name, _ in members):
        raise HardError(f"{path}: an Excel workbook; export CSV instead")
    return [(name.name, m) for name, m in members if _wanted(name)]


def _wanted(name: PurePosixPath) -> bool:
    own = name.suffix.lower() == ".csv" and not name.name.startswith(".")
    return own and not {"meta", "__MACOSX"} & set(name.parts[:-1])


def _bounded(file: IO[bytes] | gzip.GzipFile, where: str) -> bytes:
    raw = file.read(MAX_BYTES + 1)
    if len(raw) > MAX_BYTES:
        raise HardError(f"{where}: more than {MAX_BYTES >> 20} MB of text; cut the recording into parts")
    return raw


def _decoded(raw: bytes, where: str, whole: bool = True) -> str:
    """UTF-8, UTF-16 or Latin-1, as Excel saves its text; the last character may be torn unless `whole`."""
    wide = raw.startswith(UTF16)
    decoder = codecs.getincrementaldecoder("utf-16" if wide else "utf-8-sig")()
    try:
        text = decoder.decode(raw, whole)
    except UnicodeDecodeError:
        text = "\0" if wide else raw.decode("latin-1")  # headers may hold a degree or a square
    if "\0" in text:
        raise HardError(f"{where}: not a text file; expected CSV or a HAPT recording")
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text
