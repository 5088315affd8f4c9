"""The Python API, which `import dresd_milvus` offers: models, stores and drafters, and texts made with them.

Every function puts together what the command line uses too. Beside cli.py and demo.py the only part of the core that
imports the packages around it. `dresd_milvus` exports its names; docs/api.md shows every function with an example.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace as changed
from pathlib import Path
from types import TracebackType
from typing import Literal

from dresd_milvus.console import Phases
from dresd_milvus.defaults import DEPTH, SEARCH_SECONDS, Search
from dresd_milvus.errors import InputError, keywords
from dresd_milvus.models import loading
from dresd_milvus.models.loading import LoadedModel
from dresd_milvus.options import parse_nodes
from dresd_milvus.retrieval.names import check_name, parse_uri
from dresd_milvus.retrieval.store import Manifest
from dresd_milvus.storage.opening import check_fits
from dresd_milvus.systems.answering import Result as Result
from dresd_milvus.systems.answering import generate as generate
from dresd_milvus.systems.answering import stream as stream
from dresd_milvus.systems.prepared import PreparedDrafter, prepare_drafter
from dresd_milvus.systems.registry import needs
from dresd_milvus.systems.sources import Sources, Where, load_draft_model, open_sources
from ingestion import runner
from ingestion.options import AUTO, Settings, parse_template
from ingestion.planning.run_folder import default_run_folder

__all__ = [
    "LoadedModel",
    "Manifest",
    "PreparedDrafter",
    "Result",
    "Store",
    "generate",
    "ingest",
    "load_model",
    "make_drafter",
    "open_store",
    "stream",
]


class Store:
    """A collection that is open for drafting, and its suffix store if it has one. A context manager.

    Drafters that were made from it cannot be used any more when it is closed.
    """

    def __init__(self, name: str, sources: Sources) -> None:
        self.name, self.sources = name, sources

    @property
    def manifest(self) -> Manifest:
        """What the collection was built with: model, template, rows and more."""
        assert self.sources.manifest is not None
        return self.sources.manifest

    def failure_summary(self) -> str:
        """One line about searches that a server did not answer in time; '' if there were none. They cost drafts, never
        text."""
        return self.sources.failure_summary()

    def close(self) -> None:
        """Close the connection. Closing twice does no harm."""
        if not self.sources.closed:
            self.sources.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Store {self.name}: {self.manifest.rows:,} rows{', closed' if self.sources.closed else ''}>"


@keywords()
def load_model(name: str, *, dtype: str = "auto", device: str = "auto", graphs: bool = False) -> LoadedModel:
    """Load a model and its tokenizer.

        model = dresd.load_model("smollm2", dtype="float32")

    name: 'sample', 'smollm2' or another named model, a folder, a GGUF file, or a hub name. dtype: 'bfloat16',
    'float16', 'float32' or 'float64'; 'auto' is bfloat16 where the processor multiplies it natively, else float32.
    device: 'cpu', 'cuda', 'cuda:1'; 'auto' is CUDA where there is a GPU. graphs: verify drafts by CUDA graphs; one GPU
    only.
    Raises InputError when the model cannot be found, read or used.
    """
    return loading.load_model(name, dtype, device, graphs=graphs)


@keywords()
def ingest(
    model: LoadedModel,
    sources: str | Path | Sequence[str | Path],
    uri: str | Path,
    collection: str,
    *,
    replace: bool = False,
    also_rest: bool = True,
    template: str = AUTO,
    prompt_key: str | None = None,
    response_key: str | None = None,
    answers: Literal["own", "greedy", "sampled"] = "own",
    limit: int | None = None,
    token: str = "",
    quiet: bool = False,
) -> Manifest:
    """Build a collection from a corpus; the same call goes on after an interruption, and does nothing when it is built.

        dresd.ingest(model, ["answers.jsonl"], "stores/answers.db", "answers")

    sources: one or several files, folders, 'hf:DATASET', recipes, or 'stdlib' (see docs/ingestion.md). uri: an embedded
    database (NAME.db) or a server (http://HOST:19530). replace: drop the collection and its run first. also_rest: sort
    the corpus's suffixes too, which 'rest' needs and from which 'suffix' and 'hybrid' draft exact matches; True, for
    hybrid is what this API is mostly used with. template: what prompts go into: text with {prompt}, 'chat', or 'auto',
    the model's chat template if it has one. prompt_key, response_key: columns of a row, found when None. answers:
    'own' of the corpus, or written by the model, 'greedy' or 'sampled'. limit: documents of a source at most. token:
    user:password of a server; default: $MILVUS_TOKEN. quiet: show no progress. Everything else is as `dresd ingest run`
    has it by default.
    Returns what the collection was built with. Raises InputError for sources and settings that cannot be used, before
    anything is written, and StoreError for a database that cannot be.
    """
    named = [sources] if isinstance(sources, str | Path) else sources
    if not named:
        raise InputError("there is no source; name a file, a folder, hf:DATASET or 'stdlib'")
    settings = Settings(
        sources=[str(source) for source in named], uri=parse_uri(str(uri)), collection=check_name(collection),
        model=model.requested_name or model.name,
        dtype=model.dtype, template=parse_template(template), prompt_key=prompt_key, response_key=response_key,
        answers=answers, limit=limit, also="rest" if also_rest else "none",
    )  # fmt: skip
    folder = default_run_folder(settings.uri, collection)
    with Phases(silent=quiet) as phases:
        manifest = runner.ingest(settings, folder, phases, model=model, token=_token(token), replace_old=replace)
    assert manifest is not None  # there are no other shares
    return manifest


@keywords()
def open_store(
    uri: str | Path,
    collection: str,
    model: LoadedModel,
    *,
    search: Search = "auto",
    timeout: float = SEARCH_SECONDS,
    suffixes: str | Path | None = None,
    token: str = "",
    quiet: bool = False,
) -> Store:
    """Open a collection for a model to draft from.

        with dresd.open_store("stores/answers.db", "answers", model) as store:
            drafter = dresd.make_drafter("hybrid", model, store)

    search: 'replica' searches a copy in this process, 'server' asks the server at every step; 'auto' takes the copy
    where it fits into memory. timeout: seconds that a step waits for a server. suffixes: folder of a suffix store;
    default: the collection's own, if it has one. token, quiet: see ingest.
    Raises StoreError when the collection cannot be opened, MismatchError when another model or tokenizer built it.
    """
    where = Where(
        parse_uri(str(uri)),
        collection,
        Path(suffixes) if suffixes else None,
        search=search,
        token=_token(token),
        timeout=timeout,
    )  # fmt: skip
    with Phases(silent=quiet) as phases:
        return Store(f"{collection} in {uri}", open_sources(where, ["hybrid"], model, phases))


@keywords()
def make_drafter(
    system: str,
    model: LoadedModel,
    store: Store | None = None,
    *,
    nodes: int | Literal["auto"] = "auto",
    depth: int = DEPTH,
    draft_model: str | None = None,
) -> PreparedDrafter:
    """Make a drafter, for any number of texts of a model, one after another.

        drafter = dresd.make_drafter("hybrid", model, store, nodes=32)

    system: 'hybrid', 'dense' and 'rest' draft from a store, 'suffix' from the running text and a store if there is one,
    'prompt_lookup' from the running text, 'small_lm' from a small model, 'vanilla' not at all (plain decoding, asked
    in the store's template). nodes: draft nodes a step; 'auto' is 16, and for hybrid what pays on this machine, at most
    64. depth: tokens on one path at most. draft_model: name of the small model.
    Raises InputError for an unknown system and for one that lacks what it drafts from, MismatchError for a store or a
    small model that does not fit, StoreError for a store that was closed.
    """
    sources = store.sources if store else Sources()
    if store:
        sources.require_open()
        check_fits(store.manifest, model)
    lacking = needs([system])
    if "retrieval" in lacking and store is None:
        raise InputError(f"the system '{system}' needs a store; give one that open_store opened")
    if "suffixes" in lacking and sources.suffixes is None:
        raise InputError(f"the system '{system}' needs a store with suffixes; ingest the corpus with also_rest=True")
    if "draft_model" in lacking:
        sources = changed(sources, draft_model=load_draft_model(draft_model, model))
    return prepare_drafter(system, sources, model, parse_nodes(str(nodes)), depth)


def _token(token: str) -> str:
    return token or os.environ.get("MILVUS_TOKEN", "")
