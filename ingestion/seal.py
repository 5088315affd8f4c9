"""The seal phase: the collection is indexed and counted; one that has lost rows is filled again from their files."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from dresd_milvus.errors import LostRowsError
from dresd_milvus.inspection import Checksum
from dresd_milvus.milvus.patience import patiently
from dresd_milvus.store import Manifest
from ingestion.share import ALL, Progress
from ingestion.suffixes import build_suffixes

if TYPE_CHECKING:
    from ingestion.run import Run


def seal_collection(run: Run, progress: Progress) -> Manifest:
    """Seal the collection of a run that is loaded; LostRowsError when it lacks rows that it was sent, twice."""
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
            patiently(lambda: store.seal(manifest, progress=progress.advance, rows=rows), progress.tell, store.uri)
        if not run.folder.done("seal"):
            checksum = Checksum.total(marker["checksum"] for marker in loaded)
            run.folder.finish("seal", rows=rows, checksum=checksum, seal=store.manifest.seal)
        return store.manifest
