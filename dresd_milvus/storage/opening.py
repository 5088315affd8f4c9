"""Opening a store for drafting: the checks that it fits the target, and the way it is searched."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from dresd_milvus.errors import InputError
from dresd_milvus.milvus import MilvusStore, is_embedded, sidecar
from dresd_milvus.models.loading import LoadedModel
from dresd_milvus.progress import SILENT, Progress
from dresd_milvus.retrieval.circuit_breaker import SEARCH_SECONDS, Guarded
from dresd_milvus.retrieval.projection import Projection
from dresd_milvus.retrieval.replica import FORMAT, Replica
from dresd_milvus.retrieval.store import NEIGHBOURS, ContinuationStore, Manifest

Search = Literal["auto", "server", "replica", "filter", "partition", "oversample"]
"""Where and how a store is searched; see open_retrieval."""

FIRST_SEARCH_SECONDS = 30.0
"""The first search may have to wait for what the server has just loaded; the following ones may not."""

REPLICA_SHARE_OF_MEMORY = 0.25
"""With --search auto, a server's collection larger than this share of memory is searched on the server."""


@dataclass
class Retrieval:
    """A store as drafters see it: something to search, and the projection that makes queries for it.

    how: 'replica', or the plan by which a server is searched. closed: whether it was given back.
    """

    store: ContinuationStore
    projection: Projection
    how: str
    closed: bool = False

    def losses(self) -> str:
        """A line on searches that a server did not answer in time; '' if there were none."""
        return self.store.losses() if isinstance(self.store, Guarded) else ""

    def close(self) -> None:
        """Give back what is open."""
        self.closed = True
        if isinstance(self.store, Guarded):
            self.store.close()

    @property
    def manifest(self) -> Manifest:
        return self.store.manifest


def open_retrieval(
    uri: str,
    collection: str,
    model: LoadedModel,
    search: Search = "auto",
    token: str = "",
    timeout: float = SEARCH_SECONDS,
    progress: Progress = SILENT,
) -> Retrieval:
    """Open a sealed collection for a target.

    search: 'replica' copies it into this process (once per seal), 'server' asks the database at every step by the best
    plan that the collection allows, 'filter', 'partition' and 'oversample' by that plan, 'auto' takes the replica where
    it fits and always for an embedded database. timeout: seconds for a search on a server. progress: of copying,
    where a replica has to be built.
    Raises MismatchError when the store was built with another model, tokenizer or projection, InputError when the
    collection does not allow the plan, StoreError when it cannot be searched now: later the drafts fail, not the text.
    """
    milvus = MilvusStore.open(uri, collection, token).require_sealed()
    try:
        check_fits(milvus.manifest, model)
        projection = milvus.projection()
        if search == "replica" and milvus.manifest.ttl:
            raise InputError(f"rows of '{collection}' expire, which a replica would miss; give --search server")
        if search != "replica" and not (search == "auto" and _fits_memory(uri, milvus.manifest)):
            plan = milvus.plans()[0] if search in ("auto", "server") else search
            milvus.use(plan).load()
            any_key = np.zeros((1, milvus.manifest.dim), np.float32)
            milvus.search(any_key, np.zeros(1, np.int64), NEIGHBOURS, FIRST_SEARCH_SECONDS)
            return Retrieval(Guarded(milvus, timeout), projection, plan)
        replica = _replica(milvus, progress)
    except BaseException:
        milvus.close()
        raise
    milvus.close()  # the replica is all that is needed; an embedded database serves one process at a time
    return Retrieval(replica, projection, "replica")


def check_fits(manifest: Manifest, model: LoadedModel) -> None:
    """Raise MismatchError unless the store's keys are this model's own states over this tokenizer's ids.

    A store of an earlier version, which knows its model by the loaded weights, fits too; a line on stderr says so.
    """
    if _stamped(manifest, model) != manifest:
        print("the store knows its model by a fingerprint of an earlier version: dresd store restamp", file=sys.stderr)
    _require_fit(_stamped(manifest, model), model)


def restamp(store: MilvusStore, model: LoadedModel) -> bool:
    """Have a store of an earlier version know its model by the checkpoint's files; False where it does already.

    Raises MismatchError when it was built with another model. Its rows stay as they are.
    """
    manifest = store.require_sealed().manifest
    stamped = _stamped(manifest, model)
    _require_fit(stamped, model)
    if stamped != manifest:
        store.save(stamped)
    return stamped != manifest


def _stamped(manifest: Manifest, model: LoadedModel) -> Manifest:
    """With the fingerprint of the checkpoint's files, where the manifest has that of the same model's weights."""
    earlier = model.weights and manifest.model_fingerprint == model.weights
    return replace(manifest, model_fingerprint=model.fingerprint) if earlier else manifest


def _require_fit(manifest: Manifest, model: LoadedModel) -> None:
    manifest.require(layer="last", tokenizer_hash=model.tokenizer_hash, model_fingerprint=model.fingerprint)


def _replica(milvus: MilvusStore, progress: Progress) -> Replica:
    manifest = milvus.manifest
    folder = sidecar(milvus.uri) / "replicas" / f"{milvus.collection}-{manifest.seal}-{FORMAT}"
    if folder.exists():
        return Replica.open(folder)
    _remove_older(folder)
    progress.phase("copying the collection into memory", manifest.rows, "rows")
    return Replica.build(manifest, milvus.scan(), folder, progress.advance)


def _remove_older(replica: Path) -> None:
    """Replicas of earlier seals of this collection, or of another format, are of no more use."""
    collection = replica.name.rsplit("-", 2)[0]
    for old in replica.parent.glob(f"{collection}-*") if replica.parent.exists() else ():
        if old.name.rsplit("-", 2)[0] == collection:
            shutil.rmtree(old, ignore_errors=True)


def _fits_memory(uri: str, manifest: Manifest) -> bool:
    if manifest.ttl:
        return False  # a replica would keep what has expired
    if is_embedded(uri):
        return True  # its own search costs more than a step of the model
    needed = manifest.rows * (2 * manifest.dim + 4 + 4 * manifest.continuation)
    return needed < REPLICA_SHARE_OF_MEMORY * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
