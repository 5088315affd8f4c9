"""Export of a store to a folder of Parquet files, and import from such a folder into any Milvus.

The files have the columns of a collection, so that Milvus's bulk import can read them. The folder also holds the
projection, and export.json with the manifest, the number of rows and their checksum.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from dresd_milvus.errors import DamagedFileError, InputError, StoreError
from dresd_milvus.files.atomic import atomic_folder
from dresd_milvus.files.digests import read_checked, write_checked
from dresd_milvus.milvus import MilvusStore, has_collection
from dresd_milvus.retrieval.names import check_name
from dresd_milvus.retrieval.projection import Projection
from dresd_milvus.retrieval.store import Manifest, Rows
from dresd_milvus.storage.inspection import Checksum
from dresd_milvus.storage.row_file import RowFile, read_rows

FILE_ROWS = 500_000
"""Most rows of one Parquet file: about 170 MB, far below the limit of a bulk import."""

ABOUT = "export.json"
"""Name of the file that describes an export."""


def export_store(store: MilvusStore, folder: Path, progress: Callable[[int], None] = lambda rows: None) -> int:
    """Write a sealed store into a new folder, which appears only when it is complete; returns the number of rows.

    progress: gets the number of rows of every batch. Raises InputError when the folder exists, StoreError when the
    store is not sealed.
    """
    if folder.exists():
        raise InputError(f"{folder} is there already; give a folder that does not exist")
    manifest = store.require_sealed().manifest
    with atomic_folder(folder, single_writer=True) as part:
        store.projection().save(part)
        checksum, rows = Checksum(), 0
        with _Files(part) as files:
            for batch in store.scan(readable=True):
                files.write(batch)
                checksum.add(batch)
                rows += len(batch)
                progress(len(batch))
        about = {"rows": rows, "checksum": checksum.hexdigest(), "manifest": asdict(manifest)}
        write_checked(part / ABOUT, about)
    return rows


def import_store(
    folder: Path,
    uri: str,
    collection: str,
    token: str = "",
    progress: Callable[[int], None] = lambda rows: None,
    **layout: Any,
) -> Manifest:
    """Build a collection from an exported folder; returns its manifest. Repeating an interrupted call continues it.

    progress: gets the number of rows of every batch. layout: values for fields of the manifest that may differ from
    the exported ones (index, vectors, partition_by, partitions).
    Raises InputError for a folder without an export and for a name that servers refuse, StoreError for changed files
    and for a collection that is taken.
    """
    check_name(collection)
    about = _about(folder)
    manifest = replace(Manifest.from_json(json.dumps(about["manifest"])), **layout, rows=0, seal="", sealed_at="")
    resumed = has_collection(uri, collection, token)
    if resumed:
        store = _resume(uri, collection, token, manifest, about["rows"])
    else:
        store = MilvusStore.create(uri, collection, manifest, Projection.load(folder), token, about["rows"])
    with store:
        checksum = Checksum()
        for rows in _read(folder):
            store.write(rows, replace=resumed)
            checksum.add(rows)
            progress(len(rows))
        if checksum.hexdigest() != about["checksum"]:
            raise StoreError(f"the files in {folder} are not those that were exported; export the store again")
        return store.seal(store.manifest, rows=about["rows"])


def _resume(uri: str, collection: str, token: str, manifest: Manifest, rows: int) -> MilvusStore:
    """The collection of an interrupted import with this manifest; StoreError when it is another collection."""
    store = MilvusStore.open(uri, collection, token)
    try:
        chosen = store.server.choose(manifest.index, rows, manifest.dim, manifest.vectors == "float16")
        wanted = replace(manifest, index=str(chosen))
        same = ("index", "vectors", "partition_by", "partitions", "build")
        if store.manifest.seal or any(getattr(store.manifest, name) != getattr(wanted, name) for name in same):
            raise StoreError(
                f"the collection '{collection}' is already in {uri}, finished or begun with other options; "
                "choose another --collection"
            )
    except BaseException:
        store.close()
        raise
    return store


def exported_rows(folder: Path) -> int:
    """Number of rows in an exported folder; InputError for a folder without an export."""
    return int(_about(folder)["rows"])


def _about(folder: Path) -> dict[str, Any]:
    try:
        about = read_checked(folder / ABOUT)
        return {name: about[name] for name in ("rows", "checksum", "manifest")}
    except DamagedFileError as error:
        raise StoreError(f"{error}; export the store again") from error
    except (OSError, KeyError) as error:
        raise InputError(f"{folder} holds no exported store; name a folder that dresd store export wrote") from error


class _Files:
    """Context manager that writes rows into numbered files of at most FILE_ROWS rows each."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.count = folder, 0
        self.file: RowFile | None = None

    def __enter__(self) -> _Files:
        return self

    def __exit__(self, *exception: Any) -> None:
        if self.file:
            self.file.__exit__(*exception)

    def write(self, rows: Rows) -> None:
        if self.file is None or self.file.rows + len(rows) > FILE_ROWS:
            if self.file:
                self.file.__exit__(None, None, None)
            self.file = RowFile(self.folder / f"rows-{self.count:05d}.parquet")
            self.count += 1
        self.file.write(rows)


def _read(folder: Path) -> Iterator[Rows]:
    for path in sorted(folder.glob("rows-*.parquet")):
        try:
            yield from read_rows(path)
        except StoreError as error:
            raise StoreError(f"{error}; export the store again") from error
