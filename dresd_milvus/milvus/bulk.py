"""Bulk import: files of rows are copied into Milvus's own bucket, and the server reads them from there."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from dresd_milvus.errors import InputError, StoreError
from dresd_milvus.milvus.client.errors import translated_errors
from dresd_milvus.milvus.store import MilvusStore
from dresd_milvus.retrieval.names import is_embedded

FOLDER = "dresd-import"
"""Folder of the files in the bucket."""

POLL_SECONDS, IMPORT_SECONDS = 0.5, 3600.0

FAILED, COMPLETED = 1, 6
"""Milvus's states of an import job. Rows of a job that is only persisted (5) are not visible yet."""


class BulkImport:
    """Imports files of rows into one collection.

    bucket: URI of Milvus's own storage for pyarrow.fs: file:///FOLDER for a server with local storage,
    s3://KEY:SECRET@BUCKET/?endpoint_override=HOST:9000&scheme=http for MinIO.
    Raises InputError for a bucket that cannot be reached and for a collection that cannot take files of rows.
    """

    def __init__(self, store: MilvusStore, bucket: str) -> None:
        import pyarrow as pa
        from pyarrow.fs import FileSystem

        if is_embedded(store.uri):
            raise InputError("an embedded database has no bulk import; leave --bulk out")
        if store.manifest.partition_by == "source" or store.manifest.vectors != "float32":
            raise InputError("--bulk imports float32 keys into partitions that the server chooses; leave it out")
        try:
            self._files, self._root = FileSystem.from_uri(bucket)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise InputError(f"--bulk {bucket.split('@')[-1]} cannot be used: {error}") from error
        self.store, self._local = store, bucket.startswith("file:")
        self._stub, self._metadata = store.writer().calls()

    def send(self, path: Path, rows: int) -> None:
        """Import a file (see row_file) and wait for it. Repeating an interrupted call does not double its rows.

        A server continues a job after its client has ended, so an existing job for the same file is used again.
        rows: number of rows in the file. Raises StoreError when the server refuses the file or imports another number.
        """
        name = f"{FOLDER}/{self.store.manifest.build}-{path.stem}.parquet"
        with translated_errors(self.store.uri):
            task = self._task(name)
            if task is None:
                self._copy(path, name)
                task = self._start(name)
            imported = self._wait(task, path)
            if self._exists(name):
                self._files.delete_file(f"{self._root}/{name}")
        if imported != rows:
            raise StoreError(
                f"the server imported {imported} of the {rows} rows of {path}; give --replace to start over"
            )

    def _exists(self, name: str) -> bool:
        from pyarrow.fs import FileType

        return self._files.get_file_info(f"{self._root}/{name}").type == FileType.File

    def _copy(self, path: Path, name: str) -> None:
        from pyarrow.fs import LocalFileSystem, copy_files

        self._files.create_dir(f"{self._root}/{FOLDER}", recursive=True)
        copy_files(str(path), f"{self._root}/{name}", LocalFileSystem(), self._files)

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}" if self._local else name

    def _start(self, name: str) -> int:
        from dresd_milvus.milvus.client.libraries import milvus_pb2

        request = milvus_pb2.ImportRequest(collection_name=self.store.collection, files=[self._path(name)])
        answer = self._stub.Import(request, timeout=60.0, metadata=self._metadata)
        if answer.status.code or answer.status.error_code or not answer.tasks:
            raise StoreError(f"the server takes no import: {answer.status.reason or 'it gives no reason'}")
        return int(answer.tasks[0])

    def _task(self, name: str) -> int | None:
        """The id of a job for this file that has not failed; None if there is none."""
        from dresd_milvus.milvus.client.libraries import milvus_pb2

        request = milvus_pb2.ListImportTasksRequest(collection_name=self.store.collection)
        answer = self._stub.ListImportTasks(request, timeout=60.0, metadata=self._metadata)
        for task in answer.tasks:
            if task.state != FAILED and any(pair.key == "files" and name in pair.value for pair in task.infos):
                return int(task.id)
        return None

    def _wait(self, task: int, path: Path) -> int:
        """Wait until a job is completed; returns its number of rows."""
        from dresd_milvus.milvus.client.libraries import milvus_pb2

        end = time.monotonic() + IMPORT_SECONDS
        while time.monotonic() < end:
            request = milvus_pb2.GetImportStateRequest(task=task)
            state: Any = self._stub.GetImportState(request, timeout=60.0, metadata=self._metadata)
            if state.state == COMPLETED:
                return int(state.row_count)
            if state.state == FAILED:
                reason = next((pair.value for pair in state.infos if pair.key == "failed_reason"), "")
                raise StoreError(f"the server could not import {path}: {reason or 'it gives no reason'}")
            time.sleep(POLL_SECONDS)
        raise StoreError(f"the server has not imported {path} in {IMPORT_SECONDS:.0f} s; run the same command again")
