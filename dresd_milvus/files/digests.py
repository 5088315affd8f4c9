"""Digests of files: in small JSON files themselves, and beside files that are memory-mapped.

The latter are verified when a folder is first opened, not at every start, for reading gigabytes takes long. After that
the sizes and times of the files are noted, and as long as those are the same the files are taken to be the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from dresd_milvus.errors import DamagedFileError
from dresd_milvus.files.atomic import write_json

DIGEST = "digest"
DIGESTS, VERIFIED = "digests.json", "verified.json"


def write_digests(folder: Path, names: Sequence[str]) -> None:
    """Write the digests of these files of a folder beside them."""
    write_json(folder / DIGESTS, {name: _digest(folder / name) for name in names})


def verify_digests(folder: Path, required: bool = True) -> None:
    """Raise DamagedFileError, naming the file, if one is not as it was written.

    required: whether there must be digests. A folder of an earlier version has none and is not verified.
    """
    try:
        digests = json.loads((folder / DIGESTS).read_text())
    except FileNotFoundError:
        if required and folder.exists():
            raise DamagedFileError(f"{folder / DIGESTS} is missing") from None
        return
    except ValueError as error:
        raise DamagedFileError(f"{folder / DIGESTS} is damaged") from error
    stamps = {name: [status.st_size, status.st_mtime_ns] for name in digests for status in [(folder / name).stat()]}
    with suppress(OSError, ValueError):
        if json.loads((folder / VERIFIED).read_text()) == stamps:
            return
    for name, digest in digests.items():
        if _digest(folder / name) != digest:
            raise DamagedFileError(f"{folder / name} is not as it was written")
    with suppress(OSError):  # media that are read only: it is verified again next time
        write_json(folder / VERIFIED, stamps)


def write_checked(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON object with a digest of itself under the key 'digest'."""
    write_json(path, {**content, DIGEST: _digest_of(content)})


def read_checked(path: Path) -> dict[str, Any]:
    """The JSON object that write_checked has written, without its digest.

    One without a digest, of an earlier version, is not checked. Raises DamagedFileError for any other content,
    FileNotFoundError where there is no file.
    """
    try:
        content = json.loads(path.read_bytes())
        digest = content.pop(DIGEST, None)
    except (ValueError, AttributeError, TypeError) as error:
        raise DamagedFileError(f"{path} is damaged") from error
    if not isinstance(content, dict) or digest not in (None, _digest_of(content)):
        raise DamagedFileError(f"{path} is damaged")
    return content


def _digest_of(content: Mapping[str, Any]) -> str:
    return hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=8).hexdigest()


def _digest(path: Path) -> str:
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()
