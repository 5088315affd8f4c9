"""A run that is going on: its folder, plan and model, and the phases from the fit to loading (sealing: seal.py).

Every phase does what is missing of it and may be interrupted anywhere. Several processes may be at work on one run: a
phase that is whole (fit, seal) is done by the first that comes, the others wait for it; of the shards everyone takes a
fixed part.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from dresd_milvus.errors import DamagedFileError, InputError, StoreError
from dresd_milvus.files.atomic import write_json
from dresd_milvus.milvus import MilvusStore, has_collection
from dresd_milvus.milvus.bulk import BulkImport
from dresd_milvus.models.loading import LoadedModel, load_model
from dresd_milvus.retrieval.projection import Projection
from dresd_milvus.retrieval.store import Manifest
from dresd_milvus.storage.row_file import read_rows
from ingestion.phases.embed import Embedder, embed_shard
from ingestion.phases.fit import fit_projection
from ingestion.phases.generate import Sampling, generate_shard
from ingestion.phases.states import States
from ingestion.planning.documents import Numbered, read_documents, write_documents
from ingestion.planning.plan import Plan, load_plan
from ingestion.planning.run_folder import RunFolder
from ingestion.planning.share import ALL, Progress, Share


class Run:
    """plan: what is built. token: of the server. device: of the model, which is loaded when it is first wanted."""

    def __init__(
        self, folder: Path, plan: Plan, token: str = "", device: str = "auto", model: LoadedModel | None = None
    ) -> None:
        self.plan, self.token, self.device, self._given = plan, token, device, model
        self.folder = RunFolder(folder, plan.fingerprint)
        self.states = States(self.folder)

    @classmethod
    def open(cls, folder: Path, token: str = "", device: str = "auto", model: LoadedModel | None = None) -> Run:
        """A run that was planned; raises InputError when there is none."""
        return cls(folder, load_plan(folder), token, device, model)

    @cached_property
    def model(self) -> LoadedModel:
        """The target; InputError when it is not the one that the run was begun with."""
        settings = self.plan.settings
        model = self._given or load_model(settings.model, settings.dtype, self.device)
        about = {"model": model.fingerprint, "tokenizer": model.tokenizer_hash, "dtype": model.dtype}
        path = self.folder.folder / "model.json"
        with suppress(FileNotFoundError):
            before = json.loads(path.read_text())
            if before.get("model") == model.weights:  # begun by an earlier version, which knew models by their weights
                before["model"] = model.fingerprint
                write_json(path, {"name": model.name, **before})
            of = {name: (before.get(name), now) for name, now in about.items()}
            differs = [f"{name} was {was} and is {now}" for name, (was, now) in of.items() if was != now]
            if differs:
                raise InputError(
                    f"the run in {self.folder.folder} was begun with another model: {'; '.join(differs)}; use that one "
                    "(--dtype as it was), or give --replace to start over"
                )
            return model
        if model.tokenizer_hash != self.plan.tokenizer:
            raise InputError(f"the tokenizer of {settings.model} has changed since the run was planned; give --replace")
        write_json(path, {"name": model.name, **about})
        return model

    def release(self) -> None:
        """Let go of a model that was loaded here, for others that need the memory; it is loaded again when wanted."""
        self.__dict__.pop("embedder", None)
        if self.__dict__.pop("model", None) is not None and torch.cuda.is_available():
            torch.cuda.empty_cache()

    @cached_property
    def embedder(self) -> Embedder:
        return Embedder(self.model, self.plan.settings.max_length)

    @cached_property
    def projection(self) -> Projection:
        """That of the fit phase; InputError before it."""
        marker = self.folder.done("fit")
        if marker is None:
            raise InputError(
                f"the run in {self.folder.folder} is not fitted; run dresd ingest fit, or dresd ingest run"
            )
        projection = Projection.load(self.folder.folder)
        if projection.fingerprint != marker["projection"]:
            raise InputError(f"the projection in {self.folder.folder} is not the one that was fitted; give --replace")
        return projection

    def shards(self, share: Share = ALL) -> range:
        return range(share.rank, len(self.plan.shards), share.world)

    def embedded(self, shard: int) -> dict[str, Any] | None:
        """What the marker of an embedded shard says; None where its rows are not there."""
        marker = self.folder.done("embed", shard)
        return marker if marker and self.folder.file("embed", shard).exists() else None

    def to_embed(self, share: Share) -> list[int]:
        """The shards that are neither loaded nor embedded."""
        return [n for n in self.shards(share) if not self.folder.done("load", n) and not self.embedded(n)]

    def fit(self, progress: Progress) -> None:
        """Fit the projection, unless that is done."""
        if self.folder.done("fit"):
            return
        with self.folder.claim("fit", wait=True):
            if self.folder.done("fit"):
                return
            embedder, plan = self.embedder, self.plan
            self.states.begin(plan, embedder.model.target, progress.tell)
            progress.phase("fitting the projection", min(plan.settings.fit_tokens, plan.tokens), "states")
            self.folder.begin("fit")
            projection, curve = fit_projection(embedder, self.documents, plan, self.states, progress.advance)
            projection.save(self.folder.folder)
            curve.save(self.folder.folder / "fit", projection.dim)
            self.folder.finish("fit", projection=projection.fingerprint, dim=projection.dim, states=projection.samples)

    def to_generate(self, share: Share) -> list[int]:
        """The shards whose answers the target has still to write."""
        if self.plan.settings.answers == "own":
            return []
        return [n for n in self.shards(share) if not self.folder.done("generate", n)]

    def generate(self, shards: Iterable[int], advance: Callable[[int], None]) -> None:
        """Have the target answer the prompts of these shards; advance is told of tokens."""
        settings = self.plan.settings
        temperature = settings.temperature if settings.answers == "sampled" else 0.0
        for shard in shards:
            with self.folder.claim("generate", shard):
                self.folder.begin("generate", shard)
                asked = read_documents(self.folder.file("documents", shard))
                sampling = Sampling(temperature, settings.top_p, settings.answer_tokens, settings.seed + shard)
                answered = generate_shard(self.model, asked, sampling, advance)
                write_documents(self.folder.file("generate", shard), asked.first, answered)
                self.folder.finish("generate", shard, documents=len(answered))

    def documents(self, shard: int) -> Numbered:
        """The documents of a shard, with the answers that count."""
        if self.plan.settings.answers == "own":
            return read_documents(self.folder.file("documents", shard))
        if not self.folder.done("generate", shard):
            raise InputError(f"shard {shard} of {self.folder.folder} has no answers yet; run dresd ingest generate")
        return read_documents(self.folder.file("generate", shard))

    def embed(self, shards: Iterable[int], advance: Callable[[int], None]) -> None:
        """Write the rows of these shards into files; advance is told of tokens."""
        for shard in shards:
            with self.folder.claim("embed", shard):
                self.folder.begin("embed", shard)
                made = embed_shard(
                    self.embedder,
                    self.projection,
                    self.documents(shard),
                    self.folder.file("embed", shard),
                    self.plan.settings.continuation,
                    self.plan.settings.pruning(),
                    self.states.of(shard, self.model.target),
                    advance,
                )
                self.folder.finish("embed", shard, projection=self.projection.fingerprint, **made)
                self.states.remove(shard)

    def load(self, share: Share, progress: Progress, bulk: str | None = None) -> None:
        """Put the rows of a share's shards that are not there into the collection; bulk: by way of this bucket."""
        with self.collection() as store:
            pending = [shard for shard in self.shards(share) if not self.folder.done("load", shard)]
            if not pending:
                return
            bucket = BulkImport(store, bulk) if bulk else None
            total = sum((self.embedded(shard) or {}).get("rows", 0) for shard in pending)
            progress.phase("loading", total, "rows")
            for shard in pending:
                with self.folder.claim("load", shard):
                    self._load_shard(store, shard, progress, bucket)

    def _load_shard(self, store: MilvusStore, shard: int, progress: Progress, bucket: BulkImport | None) -> None:
        made, path = self.embedded(shard), self.folder.file("embed", shard)
        if made is None:
            raise InputError(f"shard {shard} of {self.folder.folder} is not embedded; run dresd ingest embed first")
        if made["projection"] != store.manifest.projection:
            raise StoreError(
                f"the rows of shard {shard} were made with another projection than the collection "
                f"'{store.collection}' has; give --replace to start over"
            )
        may_be_there = self.folder.begun("load", shard)
        self.folder.begin("load", shard)
        writer = store.writer(progress.tell)
        try:
            for rows in read_rows(path, made["file"]):
                if bucket is None:
                    writer.send(rows, replace=may_be_there)
                    progress.advance(len(rows))
            if bucket is not None:
                bucket.send(path, made["rows"])
                progress.advance(made["rows"])
        except DamagedFileError as error:
            self.folder.undo("embed", shard)
            raise StoreError(f"{error}; run the same command again, which embeds this shard anew") from error
        writer.flush()
        self.folder.finish("load", shard, rows=made["rows"], checksum=made["checksum"])

    def collection(self) -> MilvusStore:
        """The collection of this run, made if need be. What the markers say of one that is gone is forgotten."""
        settings = self.plan.settings
        with self.folder.claim("load", len(self.plan.shards), wait=True):
            if has_collection(settings.uri, settings.collection, self.token):
                store = MilvusStore.open(settings.uri, settings.collection, self.token)
                if store.manifest.build == self.plan.build:
                    return store
                store.close()
                raise StoreError(
                    f"the collection '{settings.collection}' in {settings.uri} was not built by the run in "
                    f"{self.folder.folder}; give --replace to build it anew, or another --collection"
                )
            self._forget_stored()
            return MilvusStore.create(
                settings.uri, settings.collection, self.manifest(), self.projection, self.token, self.plan.rows
            )

    def forget_lost(self) -> None:
        """Forget what the markers say of a collection that is gone, unless it is made again meanwhile."""
        with self.folder.claim("load", len(self.plan.shards), wait=True):
            if not has_collection(self.plan.settings.uri, self.plan.settings.collection, self.token):
                self._forget_stored()

    def _forget_stored(self) -> None:
        self.folder.forget("load")
        self.folder.forget("seal")

    def manifest(self) -> Manifest:
        """What the collection is made with, before it is sealed; the projection must be fitted."""
        settings = self.plan.settings
        model = json.loads((self.folder.folder / "model.json").read_text())
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

    def missing(self) -> list[int]:
        """The shards that are not loaded."""
        return [shard for shard in self.shards() if not self.folder.done("load", shard)]
