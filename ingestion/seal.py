"""The seal phase: the collection is indexed and counted; one that has lost rows is filled again from their files."""

from __future__ import annotations

import shutil
from dataclasses import replace

from dresd_milvus.errors import InputError, LostRowsError
from dresd_milvus.milvus import sync_database
from dresd_milvus.milvus.client.retry import with_retries
from dresd_milvus.retrieval.store import Manifest
from dresd_milvus.storage.inspection import Checksum
from ingestion.planning.share import ALL, Progress
from ingestion.run import Run
from ingestion.suffixes import build_suffixes


def seal(run: Run, progress: Progress, keep_rows: bool = False) -> Manifest:
    """Index, count and seal the collection of a run that is loaded; the rows' files are removed unless they are kept.

    Raises InputError while shards are missing, LostRowsError when the collection lacks rows that it was sent, twice.
    """
    with run.folder.claim("seal", wait=True):
        missing = run.missing()
        if missing:
            raise InputError(
                f"{len(missing)} of {len(run.plan.shards)} shards are not loaded (the first is {missing[0]}); "
                "run dresd ingest run, or dresd ingest load"
            )
        manifest = _seal_or_load_again(run, progress)
        if not keep_rows:
            sync_database(run.plan.settings.uri)
            shutil.rmtree(run.folder.file("embed", 0).parent, ignore_errors=True)
        run.states.clear()
        return manifest


def _seal_or_load_again(run: Run, progress: Progress) -> Manifest:
    suffixes = str(build_suffixes(run, progress) or "")
    try:
        return _seal(run, progress, suffixes)
    except LostRowsError:
        progress.tell("the database has lost rows that it was sent; all are loaded again from their files")
    with run.collection() as store:
        store.drop()
    run.load(ALL, progress)
    return _seal(run, progress, suffixes)


def _seal(run: Run, progress: Progress, suffixes: str) -> Manifest:
    loaded = [run.folder.done("load", shard) or {} for shard in run.shards()]
    rows = sum(marker["rows"] for marker in loaded)
    with run.collection() as store:
        if not store.manifest.seal:
            progress.phase("indexing and sealing", rows, "rows")
            run.folder.begin("seal")
            manifest = replace(store.manifest, documents=run.plan.documents, suffixes=suffixes)
            with_retries(lambda: store.seal(manifest, progress=progress.advance, rows=rows), progress.tell, store.uri)
        if not run.folder.done("seal"):
            checksum = Checksum.total(marker["checksum"] for marker in loaded)
            run.folder.finish("seal", rows=rows, checksum=checksum, seal=store.manifest.seal)
        return store.manifest
