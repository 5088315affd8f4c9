"""The suffix store of a run, for exact matching (`rest`, `suffix`, `hybrid`) over the same corpus as the collection."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dresd_milvus.corpus import encode_documents
from dresd_milvus.errors import StoreError
from dresd_milvus.models.loading import load_tokenizer
from dresd_milvus.progress import Progress
from dresd_milvus.retrieval.suffix_store import SuffixStore
from ingestion.run import Run


def build_suffix_store(run: Run, progress: Progress) -> Path | None:
    """The folder of the suffix store of a run, which is built unless it is there; None without --also rest."""
    if run.plan.settings.also != "rest":
        return None
    folder = (run.folder.folder / "suffixes").resolve()
    try:
        about = SuffixStore(folder).about
        complete = about.get("plan") == run.plan.fingerprint and "origins" in about  # earlier versions kept none
    except StoreError:
        complete = False
    if not complete:
        progress.phase("sorting suffixes", run.plan.tokens, "tokens")
        origins = [document.origin for shard in run.shards() for document in run.documents(shard).documents]
        about = {"tokenizer": run.plan.tokenizer, "plan": run.plan.fingerprint}
        SuffixStore.build(folder, _tokens(run, progress), origins, **about)
    return folder


def _tokens(run: Run, progress: Progress) -> Iterator[NDArray[np.int32]]:
    """The token ids [T] of every document, as the model read them."""
    tokenizer = load_tokenizer(run.plan.settings.model)
    for shard in run.shards():
        for encoded in encode_documents(tokenizer, run.documents(shard).documents):
            progress.advance(len(encoded.ids))
            yield encoded.ids
