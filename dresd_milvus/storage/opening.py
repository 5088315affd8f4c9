"""Opening a store for drafting: it must fit the target; a replica or the server is searched."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from dresd_milvus.defaults import SEARCH_SECONDS, Search
from dresd_milvus.errors import InputError
from dresd_milvus.milvus import MilvusStore, local_folder
from dresd_milvus.progress import SILENT, Progress
from dresd_milvus.retrieval.circuit_breaker import CircuitBreaker
from dresd_milvus.retrieval.names import is_embedded
from dresd_milvus.retrieval.projection import Projection
from dresd_milvus.retrieval.replica import FORMAT, Replica
from dresd_milvus.retrieval.store import NEIGHBOURS, ContinuationStore, Identity, Manifest
from dresd_milvus.storage.reading import readable

FIRST_SEARCH_SECONDS = 30.0
"""Deadline of the first search, which may wait for the server to load the collection."""

REPLICA_SHARE_OF_MEMORY = 0.25
"""With --search auto, a server's collection whose replica needs more than this share of memory has no replica."""


@dataclass
class Retrieval:
    """An open store for drafters: where they search, and the projection that makes their queries.

    search_mode: 'replica', or the plan by which a server is searched. closed: whether it was closed.
    """

    store: ContinuationStore
    projection: Projection
    search_mode: str
    closed: bool = False

    def failure_summary(self) -> str:
        """One line about searches that a server did not answer in time; '' if there were none."""
        return self.store.failure_summary() if isinstance(self.store, CircuitBreaker) else ""

    def close(self) -> None:
        """Close the connection to a server."""
        self.closed = True
        if isinstance(self.store, CircuitBreaker):
            self.store.close()

    def of_origin(self, origin: str) -> Retrieval:
        """The same, of which only the rows of one origin are searched."""
        return replace(self, store=self.store.of_origin(origin))

    @property
    def manifest(self) -> Manifest:
        """What the store was built with."""
        return self.store.manifest


def open_retrieval(
    uri: str,
    collection: str,
    model: Identity,
    search: Search = "auto",
    token: str = "",
    timeout: float = SEARCH_SECONDS,
    progress: Progress = SILENT,
) -> Retrieval:
    """Open a sealed collection for a target.

    search: 'replica' searches a copy in this process, built once for each seal; 'server' searches the database by the
    best plan that the collection allows, 'filter', 'partition' and 'oversample' by that plan; 'auto' is 'replica' for
    an embedded database and where the copy fits into memory, otherwise 'server'.
    timeout: seconds for a search on a server. progress: of copying, where a replica must be built.
    Raises MismatchError when the store was built with another model, tokenizer or projection, InputError when the
    collection does not allow the plan, StoreError when it cannot be searched now; an error later costs drafts only.
    """
    milvus = MilvusStore.open(readable(uri, progress), collection, token).require_sealed()
    try:
        check_fits(milvus.manifest, model)
        projection = milvus.projection()
        if search == "replica" and milvus.manifest.ttl:
            raise InputError(f"rows of '{collection}' expire, and a replica would keep them; give --search server")
        if search != "replica" and not (search == "auto" and _fits_memory(uri, milvus.manifest)):
            plan = milvus.plans()[0] if search in ("auto", "server") else search
            milvus.set_plan(plan).load()
            key = np.zeros((1, milvus.manifest.dim), np.float32)
            milvus.search(key, np.zeros(1, np.int64), NEIGHBOURS, FIRST_SEARCH_SECONDS)
            return Retrieval(CircuitBreaker(milvus, timeout), projection, plan)
        replica = _replica(milvus, progress)
    except BaseException:
        milvus.close()
        raise
    milvus.close()  # an embedded database serves one process at a time
    return Retrieval(replica, projection, "replica")


def check_fits(manifest: Manifest, model: Identity) -> None:
    """Raise MismatchError unless the store's keys are this model's own states over this tokenizer's ids.

    A store of an earlier version, whose fingerprint is of the loaded weights, fits too; a line on stderr says so.
    """
    if _stamped(manifest, model) != manifest:
        print("the store knows its model by a fingerprint of an earlier version: dresd store restamp", file=sys.stderr)
    _require_fit(_stamped(manifest, model), model)


def restamp(store: MilvusStore, model: Identity) -> bool:
    """Write the fingerprint of the model's files into a store of an earlier version; False if it is there already.

    Raises MismatchError when the store was built with another model, StoreError when it is not sealed. Rows do not
    change.
    """
    manifest = store.require_sealed().manifest
    stamped = _stamped(manifest, model)
    _require_fit(stamped, model)
    if stamped != manifest:
        store.save(stamped)
    return stamped != manifest


def _stamped(manifest: Manifest, model: Identity) -> Manifest:
    """The manifest; a fingerprint of this model's weights becomes the fingerprint of its files."""
    earlier = model.weights_fingerprint and manifest.model_fingerprint == model.weights_fingerprint
    return replace(manifest, model_fingerprint=model.fingerprint) if earlier else manifest


def _require_fit(manifest: Manifest, model: Identity) -> None:
    manifest.require(layer="last", tokenizer_hash=model.tokenizer_hash, model_fingerprint=model.fingerprint)


def _replica(milvus: MilvusStore, progress: Progress) -> Replica:
    """The replica of a collection, built if there is none of its seal."""
    manifest = milvus.manifest
    folder = local_folder(milvus.uri) / "replicas" / f"{milvus.collection}-{manifest.seal}-{FORMAT}"
    if folder.exists():
        return Replica.open(folder)
    _remove_older(folder)
    progress.phase("copying the collection into memory", manifest.rows, "rows")
    return Replica.build(manifest, milvus.scan(), folder, progress.advance)


def _remove_older(replica: Path) -> None:
    """Remove replicas of earlier seals of this collection and of other formats."""
    collection = replica.name.rsplit("-", 2)[0]
    for old in replica.parent.glob(f"{collection}-*") if replica.parent.exists() else ():
        if old.name.rsplit("-", 2)[0] == collection:
            shutil.rmtree(old, ignore_errors=True)


def _fits_memory(uri: str, manifest: Manifest) -> bool:
    if manifest.ttl:
        return False  # a replica would keep expired rows
    if is_embedded(uri):
        return True  # its own search takes longer than a step of the model
    needed = manifest.rows * (2 * manifest.dim + 4 + 4 * manifest.continuation)
    return needed < REPLICA_SHARE_OF_MEMORY * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
