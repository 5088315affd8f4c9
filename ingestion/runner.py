"""One ingestion from start to end: plan, fit, embed and load, seal. Every part is skipped when it is done."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np

from dresd_milvus.corpus import Document, Template
from dresd_milvus.errors import InputError, StoreError
from dresd_milvus.loading import LoadedModel
from dresd_milvus.milvus import MilvusStore, has_collection
from dresd_milvus.projection import Projection, ProjectionFit, check_dim
from dresd_milvus.store import Manifest
from ingestion.embed import Embedder, gathered
from ingestion.plan import SHARD_DOCUMENTS, Plan, RunFolder, Settings, make_plan, read_corpus, shard_documents


class Progress(Protocol):
    """How a run tells what it does."""

    def phase(self, name: str, total: int | None, unit: str, done: int = 0) -> None: ...
    def advance(self, amount: int) -> None: ...


def ingest(
    model: LoadedModel,
    settings: Settings,
    folder: Path,
    progress: Progress,
    replace_old: bool = False,
    token: str = "",
) -> Manifest:
    """Build, or go on building, the collection that the settings describe; returns the sealed manifest.

    Raises InputError or StoreError before anything is written when it cannot be built.
    """
    check_dim(settings.dim, model.target.hidden_size)
    if settings.continuation < 1 or settings.max_length < 2:
        raise InputError("--continuation must be at least 1 and --max-length at least 2")
    progress.phase("reading the corpus", None, "")
    documents, skipped = read_corpus(settings)
    run = RunFolder(folder)
    if replace_old:
        _drop(settings, run, token)
    plan = _plan(run, make_plan(settings, documents, skipped), token)
    template = Template(settings.template) if settings.template is not None else None
    embedder = Embedder(model, template, min(settings.max_length, model.target.context))
    projection = _fit(run, plan, embedder, documents, progress)
    with _collection(run, plan, projection, _tokens(embedder, documents), token) as store:
        if store.manifest.seal:
            return store.manifest
        _load(run, plan, embedder, projection, documents, store, progress)
        rows = run.rows_done()
        progress.phase("indexing and sealing", rows, "rows")
        return store.seal(replace(store.manifest, documents=plan.documents), progress=progress.advance, rows=rows)


def _drop(settings: Settings, run: RunFolder, token: str) -> None:
    if has_collection(settings.uri, settings.collection, token):
        with MilvusStore.open(settings.uri, settings.collection, token) as store:
            store.drop()
    if run.exists():
        shutil.rmtree(run.folder)


def _plan(run: RunFolder, plan: Plan, token: str) -> Plan:
    """The plan of the run that is going on, or this new one; the collection's name must be free for a new one."""
    if run.exists():
        old = run.load()
        run.require_same(old, plan)
        return old
    settings = plan.settings
    if has_collection(settings.uri, settings.collection, token):
        raise StoreError(
            f"the collection '{settings.collection}' is already in {settings.uri} and was not built by this run; "
            "give --replace to build it anew, or another --collection"
        )
    run.save(plan)
    return plan


def _fit(
    run: RunFolder, plan: Plan, embedder: Embedder, documents: Sequence[Document], progress: Progress
) -> Projection:
    """The projection of the run: fitted on documents spread evenly over the corpus, until fit_tokens states."""
    if (run.folder / "projection.json").exists():
        return Projection.load(run.folder)
    order = np.random.default_rng(0).permutation(len(documents))
    fit = ProjectionFit(embedder.model.target.hidden_size)
    progress.phase("fitting the projection", _tokens(embedder, documents, plan.settings.fit_tokens), "tokens")
    for start in range(0, len(documents), SHARD_DOCUMENTS):
        if fit.samples >= plan.settings.fit_tokens:
            break
        for tokens in embedder.fit(fit, [documents[index] for index in order[start : start + SHARD_DOCUMENTS]]):
            progress.advance(tokens)
    projection = fit.result(plan.settings.dim)
    projection.save(run.folder)
    return projection


def _tokens(embedder: Embedder, documents: Sequence[Document], most: int = 2**62) -> int:
    """About how many tokens the corpus has, judged from a part of it, `most` at most."""
    step = max(len(documents) // 200, 1)
    part = embedder.encode(documents[::step])
    return min(most, sum(max(len(encoded.ids) - 1, 0) for encoded in part) * len(documents) // len(part))


def _collection(run: RunFolder, plan: Plan, projection: Projection, rows: int, token: str) -> MilvusStore:
    """The collection of this run, made if need be for about so many rows. Markers of one that is gone are forgotten."""
    settings = plan.settings
    if has_collection(settings.uri, settings.collection, token):
        store = MilvusStore.open(settings.uri, settings.collection, token)
        if store.manifest.build != plan.build:
            store.close()
            raise StoreError(
                f"the collection '{settings.collection}' in {settings.uri} was built by another run than the one in "
                f"{run.folder}; give --replace to build it anew, or another --collection"
            )
        return store
    run.forget_shards()
    manifest = Manifest(
        model=settings.model,
        model_fingerprint=settings.model_fingerprint,
        tokenizer_hash=settings.tokenizer_hash,
        projection=projection.fingerprint,
        dim=settings.dim,
        continuation=settings.continuation,
        template=settings.template,
        source=settings.source,
        index=settings.index,
        vectors=settings.vectors,
        partition_by=settings.partition_by,
        partitions=settings.partitions,
        build=plan.build,
    )
    return MilvusStore.create(settings.uri, settings.collection, manifest, projection, token, rows)


def _load(
    run: RunFolder,
    plan: Plan,
    embedder: Embedder,
    projection: Projection,
    documents: list[Document],
    store: MilvusStore,
    progress: Progress,
) -> None:
    """Embed and write every shard that is not done."""
    done = sum(run.done(shard) for shard in range(plan.shards))
    total = _tokens(embedder, documents)
    progress.phase("embedding and loading", total, "rows", done=total * done // plan.shards)
    for shard in range(plan.shards):
        if run.done(shard):
            continue
        may_be_there = run.begun(shard)
        run.mark(shard, "begun")
        written = 0
        part = shard_documents(documents, shard)
        batches = embedder.rows(projection, part, shard * SHARD_DOCUMENTS, plan.settings.continuation)
        for rows in gathered(batches):
            store.write(rows, replace=may_be_there)
            written += len(rows)
            progress.advance(len(rows))
        run.mark(shard, "done", rows=written)
