"""A suffix store of the corpus beside the collection: 'rest' and 'suffix' then draft from what 'dense' drafts from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dresd_milvus.console import Phases
from dresd_milvus.corpus import encode_documents
from dresd_milvus.errors import StoreError
from dresd_milvus.models.loading import load_tokenizer
from dresd_milvus.retrieval.suffix_store import SuffixStore
from ingestion.run import Run


def build_suffixes(run: Run, progress: Phases) -> Path | None:
    """Where a run's suffix store is, which is built unless it is there; None where none was asked for."""
    if run.plan.settings.also != "rest":
        return None
    folder = (run.folder.folder / "suffixes").resolve()
    try:
        whole = SuffixStore(folder).about.get("plan") == run.plan.fingerprint
    except StoreError:
        whole = False
    if not whole:
        progress.phase("sorting suffixes", run.plan.tokens, "tokens")
        SuffixStore.build(folder, _tokens(run, progress), tokenizer=run.plan.tokenizer, plan=run.plan.fingerprint)
    return folder


def _tokens(run: Run, progress: Phases) -> Iterator[NDArray[np.int32]]:
    """The tokens of every document, as the model read them."""
    tokenizer = load_tokenizer(run.plan.settings.model)
    for shard in run.shards():
        for encoded in encode_documents(tokenizer, run.documents(shard).documents):
            progress.advance(len(encoded.ids))
            yield encoded.ids
