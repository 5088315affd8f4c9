"""Files of a corpus as bytes and text: the one place where they are found, opened, decompressed and decoded."""

from __future__ import annotations

import codecs
import gzip
import re
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from dresd_milvus.errors import InputError

GZIP = b"\x1f\x8b\x08"
"""What a gzip file begins with; no UTF-8 text does."""

PACKED = re.compile(
    rb"(?P<zstd>\x28\xb5\x2f\xfd)|(?P<bzip2>BZh[1-9]1AY&SY)|(?P<xz>\xfd7zXZ\x00)|(?P<zip>PK\x03\x04)|(?P<lz4>\x04\x22\x4d\x18)"
)
"""What other compressed files begin with."""

MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",  # before UTF-16, for it begins with its mark
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
"""Byte-order marks of encodings that are not read."""


def file_mode(path: Path) -> int:
    """The mode of a file, a folder or anything else, links followed; 0 if there is nothing of this name.

    Raises InputError where that cannot be known.
    """
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: NUL in the name
        return 0
    except OSError as error:
        raise _unreadable(path, error) from error


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn the errors of reading a file or folder into InputError."""
    try:
        yield
    except (zlib.error, gzip.BadGzipFile, EOFError) as error:
        raise InputError(f"the gzip file {path} is damaged ({error}); copy or download it again") from error
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> InputError:
    return InputError(f"{path} cannot be read ({error.strerror or error}); check its name, permissions and disk")


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """A file opened for reading bytes: decompressed if it is gzip, whatever its name, and without UTF-8's mark.

    Raises InputError for what is no file, cannot be read, is compressed otherwise, or is UTF-16 or UTF-32.
    """
    mode = file_mode(path)
    if not mode:
        raise InputError(f"there is no file {path}; check the name")
    if not stat.S_ISREG(mode):
        raise InputError(f"{path} is not a file; write what a pipe, device or folder holds into a file")
    with reading(path), path.open("rb") as raw:
        file = cast(BinaryIO, gzip.GzipFile(fileobj=raw)) if raw.peek(3).startswith(GZIP) else raw
        with file:
            _begin(path, file)
            yield file


def _begin(path: Path, file: BinaryIO) -> None:
    """Refuse by its first bytes what cannot be read, and pass over the mark of UTF-8."""
    head = file.peek(16)[:16]  # type: ignore[attr-defined]
    if packed := PACKED.match(head):
        raise InputError(f"{path} is compressed with {packed.lastgroup}; decompress it, or give it as gzip")
    if encoding := next((name for mark, name in MARKS.items() if head.startswith(mark)), None):
        raise InputError(f"{path} is {encoding}; convert it to UTF-8")
    if b"\0" in head[:4]:
        raise InputError(f"{path} begins with NUL bytes, as UTF-16 and damaged files do; convert it to UTF-8")
    if head.startswith(codecs.BOM_UTF8):
        file.read(len(codecs.BOM_UTF8))


def not_utf8(where: str, byte: int, value: int) -> InputError:
    """The error for text in another encoding. where: line and file; byte: its number, from 1; value: 0 to 255."""
    return InputError(f"{where} is not UTF-8 (byte {byte} is 0x{value:02x}); convert it to UTF-8, e.g. with iconv")


def valid_text(text: str) -> str:
    """The text with a question mark for every lone surrogate, which JSON and names of files can hold but UTF-8 cannot;
    tokenizers refuse them."""
    return text if text.isascii() else text.encode(errors="replace").decode()


def walk(folder: Path) -> Iterator[tuple[Path, str]]:
    """What is in a folder and below it, in the order of the names: (path, '') for a file, (path, what it is) for the
    rest, which is passed over. Links to files are followed, links to folders are not.

    Raises InputError for a folder that cannot be read.
    """
    waiting = [folder]
    while waiting:
        path = waiting.pop()
        with reading(path):
            if path != folder and (path.name.startswith(".") or path.name == "__pycache__"):
                yield path, "hidden files and caches"
            elif path.is_dir() and path != folder and path.is_symlink():
                yield path, "links to folders"
            elif path.is_dir():
                waiting += sorted(path.iterdir(), reverse=True)
            elif not path.exists():
                yield path, "links to nothing"
            else:
                yield path, "" if path.is_file() else "pipes, sockets and devices"
