"""A run: one ingestion with its folder, plan and model, and its phases from generate to load (seal: seal.py).

Every phase does what is missing of it, so it may be interrupted anywhere. Several processes may work on one run: the
phases that are not divided (fit, seal) are done by the first process that comes while the others wait, and each process
has its own part of the shards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from dresd_milvus.errors import DamagedFileError, InputError, LostRowsError, StoreError
from dresd_milvus.milvus import MilvusStore, has_collection
from dresd_milvus.milvus.admin import remove
from dresd_milvus.milvus.bulk import BulkImport
from dresd_milvus.models.loading import LoadedModel, load_model
from dresd_milvus.progress import Progress
from dresd_milvus.retrieval.projection import Projection
from dresd_milvus.retrieval.store import Manifest
from dresd_milvus.storage.row_file import read_rows
from ingestion.phases.embed import Embedder, RowSettings, embed_shard
from ingestion.phases.fit import fit_projection
from ingestion.phases.generate import AnswerSampling, generate_shard
from ingestion.phases.states import StateFiles
from ingestion.planning.documents import NumberedDocuments, read_documents, write_documents
from ingestion.planning.job import SINGLE_JOB, Job
from ingestion.planning.plan import Plan, load_plan
from ingestion.planning.run_folder import RunFolder


class Run:
    """A planned ingestion.

    plan: what is built. token: user:password of the server. device: of the model. model: the target, if it is loaded
    already; otherwise it is loaded when it is first needed. resumed: whether others may have written to the collection.
    """

    def __init__(
        self, folder: Path, plan: Plan, token: str = "", device: str = "auto", model: LoadedModel | None = None
    ) -> None:
        self.plan, self.token, self.device, self._given_model = plan, token, device, model
        self.folder = RunFolder(folder, plan.fingerprint)
        self.states, self.resumed = StateFiles(self.folder), True

    @classmethod
    def open(cls, folder: Path, token: str = "", device: str = "auto", model: LoadedModel | None = None) -> Run:
        """The run of a folder. Raises InputError where no run was planned there."""
        return cls(folder, load_plan(folder), token, device, model)

    @cached_property
    def model(self) -> LoadedModel:
        """The target. Raises InputError when it is not the model that the run was begun with."""
        settings = self.plan.settings
        model = self._given_model or load_model(settings.model, settings.dtype, self.device)
        current = {"model": model.fingerprint, "tokenizer": model.tokenizer_hash, "dtype": model.dtype}
        if begun := self.folder.model():
            self._require_same_model(begun, current, model)
            return model
        if model.tokenizer_hash != self.plan.tokenizer:
            raise InputError(f"the tokenizer of {settings.model} has changed since the run was planned; give --replace")
        self.folder.write_model(name=model.name, **current)
        return model

    def _require_same_model(self, begun: dict[str, str], current: dict[str, str], model: LoadedModel) -> None:
        if begun.get("model") == model.weights_fingerprint:  # by an earlier version, which knew models by their weights
            begun = {**begun, "model": model.fingerprint}
            self.folder.write_model(**{**begun, "name": model.name})
        both = {name: (begun.get(name), now) for name, now in current.items()}
        differs = [f"{name} was {was} and is {now}" for name, (was, now) in both.items() if was != now]
        if differs:
            raise InputError(
                f"the run in {self.folder.folder} was begun with another model: {'; '.join(differs)}; use that one "
                "(--dtype as it was), or give --replace to start over"
            )

    def unload_model(self) -> None:
        """Free the memory of a model that this run has loaded; it is loaded again when it is needed."""
        self.__dict__.pop("embedder", None)
        if self.__dict__.pop("model", None) is not None and torch.cuda.is_available():
            torch.cuda.empty_cache()

    @cached_property
    def embedder(self) -> Embedder:
        """The model with the settings of this run."""
        return Embedder(self.model, self.plan.settings.max_length)

    @cached_property
    def projection(self) -> Projection:
        """The fitted projection. Raises InputError before the fit."""
        marker = self.folder.done("fit")
        if marker is None:
            raise InputError(
                f"the run in {self.folder.folder} is not fitted; run dresd ingest fit, or dresd ingest run"
            )
        projection = Projection.load(self.folder.folder)
        if projection.fingerprint != marker["projection"]:
            raise InputError(f"the projection in {self.folder.folder} is not the one that was fitted; give --replace")
        return projection

    def shards(self, job: Job = SINGLE_JOB) -> range:
        """The numbers of a job's shards."""
        return range(job.index, len(self.plan.shards), job.count)

    def shards_to_generate(self, job: Job = SINGLE_JOB) -> list[int]:
        """The shards of a job that the target has still to answer."""
        if self.plan.settings.answers == "own":
            return []
        return [n for n in self.shards(job) if not self.folder.done("generate", n)]

    def shards_to_embed(self, job: Job = SINGLE_JOB) -> list[int]:
        """The shards of a job that are neither loaded nor embedded."""
        return [n for n in self.shards(job) if not self.folder.done("load", n) and not self._embed_marker(n)]

    def shards_to_load(self, job: Job = SINGLE_JOB) -> list[int]:
        """The shards of a job that are not loaded."""
        return [n for n in self.shards(job) if not self.folder.done("load", n)]

    def documents(self, shard: int) -> NumberedDocuments:
        """The documents of a shard, with the target's answers if the plan wants those.

        Raises InputError where the target has not answered yet.
        """
        if self.plan.settings.answers == "own":
            return read_documents(self.folder.file("documents", shard))
        if not self.folder.done("generate", shard):
            raise InputError(f"shard {shard} of {self.folder.folder} has no answers yet; run dresd ingest generate")
        return read_documents(self.folder.file("generate", shard))

    def generate(self, shards: Iterable[int], advance: Callable[[int], None]) -> None:
        """Have the target answer the prompts of these shards. advance: called with numbers of tokens."""
        settings = self.plan.settings
        temperature = settings.temperature if settings.answers == "sampled" else 0.0
        for shard in shards:
            with self.folder.lock("generate", shard):
                self.folder.mark_begun("generate", shard)
                asked = read_documents(self.folder.file("documents", shard))
                sampling = AnswerSampling(temperature, settings.top_p, settings.answer_tokens, settings.seed + shard)
                answered = generate_shard(self.model, asked, sampling, advance)
                write_documents(self.folder.file("generate", shard), asked.first, answered)
                self.folder.mark_done("generate", shard, documents=len(answered))

    def fit(self, progress: Progress) -> None:
        """Fit the projection, unless that is done."""
        if self.folder.done("fit"):
            return
        with self.folder.lock("fit", wait=True):
            if self.folder.done("fit"):
                return
            embedder, plan = self.embedder, self.plan
            self.states.start(plan, embedder.model.target, progress.message)
            progress.phase("fitting the projection", min(plan.settings.fit_tokens, plan.tokens), "states")
            self.folder.mark_begun("fit")
            projection, curve = fit_projection(embedder, self.documents, plan, self.states, progress.advance)
            projection.save(self.folder.folder)
            curve.save(self.folder.folder / "fit", projection.dim)
            self.folder.mark_done(
                "fit", projection=projection.fingerprint, dim=projection.dim, states=projection.samples
            )

    def embed(self, shards: Iterable[int], advance: Callable[[int], None]) -> None:
        """Write the rows of these shards into files. advance: called with numbers of tokens."""
        for shard in shards:
            with self.folder.lock("embed", shard):
                self.folder.mark_begun("embed", shard)
                settings = RowSettings(self.projection, self.plan.settings.continuation, self.plan.settings.pruning())
                kept = self.states.read(shard, self.model.target)
                path = self.folder.file("embed", shard)
                written = embed_shard(self.embedder, self.documents(shard), settings, path, kept, advance)
                self.folder.mark_done("embed", shard, projection=self.projection.fingerprint, **written)
                self.states.remove(shard)

    def load(self, job: Job, progress: Progress, bulk: str | None = None) -> None:
        """Send the rows of a job's shards that are not loaded to the collection.

        bulk: bucket of the server, for bulk import (see BulkImport). Raises InputError for a shard that is not
        embedded, StoreError for a damaged row file or rows of another projection.
        """
        with self.open_collection(progress.message) as store:
            pending = self.shards_to_load(job)
            if not pending:
                return
            bucket = BulkImport(store, bulk) if bulk else None
            total = sum((self._embed_marker(shard) or {}).get("rows", 0) for shard in pending)
            progress.phase("loading", total, "rows")
            for shard in pending:
                with self.folder.lock("load", shard):
                    self._load_shard(store, shard, progress, bucket)

    def _load_shard(self, store: MilvusStore, shard: int, progress: Progress, bucket: BulkImport | None) -> None:
        marker, path = self._embed_marker(shard), self.folder.file("embed", shard)
        if marker is None:
            raise InputError(f"shard {shard} of {self.folder.folder} is not embedded; run dresd ingest embed first")
        if marker["projection"] != store.manifest.projection:
            raise StoreError(
                f"the rows of shard {shard} were made with another projection than the collection "
                f"'{store.collection}' has; give --replace to start over"
            )
        may_be_there = self.folder.begun("load", shard)
        self.folder.mark_begun("load", shard)
        writer = store.writer(progress.message)
        try:
            for rows in read_rows(path, marker["file"]):
                if bucket is None:
                    writer.send(rows, replace=may_be_there)
                    progress.advance(len(rows))
            if bucket is not None:
                bucket.send(path, marker["rows"])
                progress.advance(marker["rows"])
        except DamagedFileError as error:
            self.folder.unmark_done("embed", shard)
            raise StoreError(f"{error}; run the same command again, which embeds this shard anew") from error
        writer.flush()
        self.folder.mark_done("load", shard, rows=marker["rows"], checksum=marker["checksum"])

    def _embed_marker(self, shard: int) -> dict[str, Any] | None:
        """The marker 'done' of an embedded shard; None where its row file is not there."""
        marker = self.folder.done("embed", shard)
        return marker if marker and self.folder.file("embed", shard).exists() else None

    def open_collection(self, notify: Callable[[str], None]) -> MilvusStore:
        """The collection of this run, which is created if it is not there or cannot be read. notify: says the latter.

        Raises StoreError for a collection that another run has built, and as drop_lost does.
        """
        settings = self.plan.settings
        with self.folder.lock("load", len(self.plan.shards), wait=True):  # numbered as the shard after the last
            if store := self._existing_collection(notify):
                return store
            self.resumed = False
            return MilvusStore.create(
                settings.uri, settings.collection, self.new_manifest(), self.projection, self.token, self.plan.rows
            )

    def notice_losses(self, notify: Callable[[str], None]) -> None:
        """Have a collection that is gone, or cannot be read, loaded again by the next phases; see open_collection."""
        with self.folder.lock("load", len(self.plan.shards), wait=True):
            if store := self._existing_collection(notify):
                store.close()

    def _existing_collection(self, notify: Callable[[str], None]) -> MilvusStore | None:
        settings = self.plan.settings
        if not has_collection(settings.uri, settings.collection, self.token):
            if self.folder.clear_markers("load", "seal"):
                notify(f"the collection '{settings.collection}' is gone from {settings.uri}; its rows are loaded again")
            return None
        try:
            store = MilvusStore.open(settings.uri, settings.collection, self.token)
        except LostRowsError as error:
            self.drop_lost(error, notify)
            return None
        if store.manifest.build == self.plan.build:
            return store
        store.close()
        raise StoreError(
            f"the collection '{settings.collection}' in {settings.uri} was not built by the run in "
            f"{self.folder.folder}; give --replace to build it anew, or another --collection"
        )

    def drop_lost(self, error: LostRowsError, notify: Callable[[str], None]) -> None:
        """Remove the collection, which lacks rows, so that all are loaded again; notify says so.

        Raises StoreError where sealing has removed the files of the rows.
        """
        lost = str(error).partition(";")[0]
        if self.folder.done("seal") and not all(map(self._embed_marker, self.shards())):
            raise StoreError(f"{lost}, and its rows' files are gone; give --replace to build it anew") from error
        notify(f"{lost}; all its rows are loaded again")
        remove(self.plan.settings.uri, self.plan.settings.collection, self.token)
        self.folder.clear_markers("load", "seal")

    def new_manifest(self) -> Manifest:
        """The manifest of the collection before it is sealed."""
        settings = self.plan.settings
        if (model := self.folder.model()) is None:
            _ = self.model  # loading it writes the file again
            model = self.folder.model() or {}
        return Manifest(
            model=model.get("name", settings.model),
            model_fingerprint=model["model"],
            tokenizer_hash=model["tokenizer"],
            projection=self.projection.fingerprint,
            dim=self.projection.dim,
            continuation=settings.continuation,
            template=self.plan.template,
            source=", ".join(settings.sources),
            index=settings.index,
            vectors=settings.vectors,
            partition_by=settings.partition_by,
            partitions=settings.partitions,
            build=self.plan.build,
        )
