"""The seal phase: index the collection, count its rows, write its manifest; load it again where rows were lost."""

from __future__ import annotations

import shutil
from dataclasses import replace

from dresd_milvus.corpus.sources import Source
from dresd_milvus.errors import InputError, LostRowsError
from dresd_milvus.milvus import MilvusStore, sync_database
from dresd_milvus.milvus.admin import restore_projection
from dresd_milvus.milvus.client.retry import with_retries
from dresd_milvus.progress import Progress
from dresd_milvus.retrieval.store import Manifest
from dresd_milvus.storage.inspection import Checksum
from ingestion.planning.job import SINGLE_JOB
from ingestion.run import Run
from ingestion.suffixes import build_suffix_store


def seal(run: Run, progress: Progress, keep_rows: bool = False) -> Manifest:
    """Seal the collection of a run whose shards are all loaded, and remove its row files unless keep_rows.

    Raises InputError while shards are not loaded, LostRowsError when the collection lacks rows after it was loaded
    twice.
    """
    with run.folder.lock("seal", wait=True):
        missing = run.shards_to_load()
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
    suffixes = str(build_suffix_store(run, progress) or "")
    try:
        return _seal(run, progress, suffixes)
    except LostRowsError as error:
        run.drop_lost(error, progress.message)
    if pending := run.shards_to_embed():
        progress.phase("embedding", None, "tokens")
        run.embed(pending, progress.advance)
    run.load(SINGLE_JOB, progress)
    return _seal(run, progress, suffixes)


def _seal(run: Run, progress: Progress, suffixes: str) -> Manifest:
    loaded = [run.folder.done("load", shard) or {} for shard in run.shards()]
    rows = sum(marker["rows"] for marker in loaded)
    checksum = Checksum.total(marker["checksum"] for marker in loaded)
    with run.open_collection(progress.message) as store:
        if restore_projection(store, run.projection):
            progress.message("the database had lost the projection of its keys, which is written again")
        if store.manifest.seal:
            _require_count(store)
        else:
            if store.server.embedded and run.resumed:  # a kill may have cost it rows; a server would take long to read
                _require_checksum(store, rows, checksum, progress)
            progress.phase("indexing and sealing", rows, "rows")
            run.folder.mark_begun("seal")
            origins = tuple(dict.fromkeys(Source.parse(text).name for text in run.plan.settings.sources))
            manifest = replace(store.manifest, documents=run.plan.documents, suffixes=suffixes, origins=origins)
            with_retries(
                lambda: store.seal(manifest, progress=progress.advance, rows=rows), progress.message, store.uri
            )
        if not run.folder.done("seal"):
            run.folder.mark_done("seal", rows=rows, checksum=checksum, seal=store.manifest.seal)
        return store.manifest


def _require_count(store: MilvusStore) -> None:
    """Raise LostRowsError for a sealed store that has lost rows since, unless they may expire."""
    if not store.manifest.ttl and (rows := store.count()) != store.manifest.rows:
        sealed = store.manifest.rows
        raise LostRowsError(
            f"'{store.collection}' holds {rows} rows and {sealed} were sealed; run the same command again"
        )


def _require_checksum(store: MilvusStore, rows: int, checksum: str, progress: Progress) -> None:
    """Raise LostRowsError unless a database gives back what it was sent."""
    progress.phase("checking", rows, "rows")
    found = Checksum()
    for batch in store.scan():
        found.add(batch)
        progress.advance(len(batch))
    if found.hexdigest() != checksum:
        raise LostRowsError(f"'{store.collection}' holds other rows than were sent; run the same command again")
