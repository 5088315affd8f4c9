"""What systems draft from: stores, suffix stores and small models, opened as a command or a program asks for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dresd_milvus.defaults import SEARCH_SECONDS, Search
from dresd_milvus.errors import InputError, MismatchError, StoreError
from dresd_milvus.options import TokenOption, given_uri
from dresd_milvus.progress import SILENT, Progress
from dresd_milvus.systems.registry import drafting, needs

if TYPE_CHECKING:
    from dresd_milvus.models.loading import LoadedModel
    from dresd_milvus.retrieval.store import Identity, Manifest
    from dresd_milvus.retrieval.suffix_store import SuffixStore
    from dresd_milvus.storage.opening import Retrieval
    from dresd_milvus.target.hf_target import HFTarget


@dataclass(frozen=True)
class Sources:
    """What systems draft from. retrieval: for 'dense'; suffixes: for 'rest', and for 'suffix' beside the running text;
    draft_model: for 'small_lm'.
    """

    retrieval: Retrieval | None = None
    suffixes: SuffixStore | None = None
    draft_model: HFTarget | None = None

    @property
    def manifest(self) -> Manifest | None:
        """What the store was built with, if there is one."""
        return self.retrieval.manifest if self.retrieval else None

    def failure_summary(self) -> str:
        """One line about searches that failed; '' if there were none."""
        return self.retrieval.failure_summary() if self.retrieval else ""

    @property
    def closed(self) -> bool:
        """Whether the store was closed."""
        return self.retrieval is not None and self.retrieval.closed

    def require_open(self) -> None:
        """Raise StoreError when the store was closed."""
        if self.closed:
            raise StoreError("the store was closed; open it again")

    def close(self) -> None:
        """Close the connection to the store, if there is one."""
        if self.retrieval:
            self.retrieval.close()

    def of_origin(self, origin: str) -> Sources:
        """The same, of which only rows and documents of one origin are drafted."""
        return replace(
            self,
            retrieval=self.retrieval and self.retrieval.of_origin(origin),
            suffixes=self.suffixes and self.suffixes.of_origin(origin),
        )

    def about(self) -> dict[str, Any]:
        """What they are, for a summary; sizes in bytes."""
        found: dict[str, Any] = {}
        if self.retrieval:
            found["store"] = {
                **asdict(self.retrieval.manifest), "search": self.retrieval.search_mode,
                "losses": self.failure_summary(), "bytes": getattr(self.retrieval.store, "nbytes", None),
            }  # fmt: skip
        if self.suffixes:
            found["suffixes"] = {**self.suffixes.about, "bytes": self.suffixes.nbytes}
        if self.draft_model:
            found["draft_model"] = {"bytes": sum(p.nbytes for p in self.draft_model.model.parameters())}
        return found


@dataclass(frozen=True)
class Where:
    """Where a store is and how it is searched; each field is an option of the commands that draft from one.

    timeout: seconds. See open_retrieval for search, token and timeout, open_suffixes for suffixes.
    """

    uri: Annotated[
        str | None,
        typer.Option(help="Database of dense drafts: NAME.db or http://HOST:19530.", parser=given_uri, metavar="TEXT"),
    ] = None
    collection: Annotated[str | None, typer.Option(help="Collection of dense drafts, or an alias of it.")] = None
    suffixes: Annotated[
        Path | None,
        typer.Option(help="Folder of the suffix store, for rest, suffix, hybrid; default: the collection's."),
    ] = None
    search: Annotated[
        Search,
        typer.Option(help="Place of the search: a replica in memory, or the server by its best plan or this one."),
    ] = "auto"
    timeout: Annotated[
        float,
        typer.Option("--search-timeout", min=0.001, help="Longest wait of a step for a server's answer (seconds)."),
    ] = SEARCH_SECONDS
    token: TokenOption = ""

    def check(self, systems: Sequence[str]) -> None:
        """Raise InputError where these systems cannot have what they need."""
        if (self.uri is None) != (self.collection is None):
            raise InputError("a store is named by both --uri and --collection; one of them is missing")
        if "retrieval" in needs(systems) and self.uri is None:
            named = next(name for name in systems if "retrieval" in needs([name]))
            raise InputError(f"the system '{named}' needs a store; give --uri and --collection, or other --systems")
        if "suffixes" in needs(systems) and self.uri is None and self.suffixes is None:
            raise InputError("the system 'rest' needs a suffix store; give --suffixes, or --uri and --collection")


def open_sources(
    where: Where,
    systems: Sequence[str],
    model: LoadedModel,
    progress: Progress = SILENT,
    draft_model: str | None = None,
) -> Sources:
    """Open what these systems draft from. progress: see open_retrieval. draft_model: see load_draft_model.

    Raises InputError, StoreError or MismatchError for what is missing or does not fit the model.
    """
    from dresd_milvus.storage.opening import open_retrieval

    where.check(systems)
    small = load_draft_model(draft_model, model) if "draft_model" in needs(systems) else None
    retrieval = None
    if where.uri and where.collection:
        retrieval = open_retrieval(
            where.uri, where.collection, model, where.search, where.token, where.timeout, progress
        )
    try:
        return Sources(retrieval, open_suffixes(where.suffixes, systems, retrieval, model), small)
    except BaseException:
        if retrieval:
            retrieval.close()
        raise


def load_draft_model(name: str | None, target: LoadedModel) -> HFTarget:
    """The small model of 'small_lm' in the target's dtype; None is the sample's own, for the sample model.

    Raises InputError when it cannot be loaded, MismatchError when its tokenizer is not the target's.
    """
    from dresd_milvus.models.checkpoint import SAMPLE, SAMPLE_FOLDER
    from dresd_milvus.models.loading import load_model

    if name is None and target.name != SAMPLE:
        raise InputError("the system 'small_lm' needs a small model with the target's tokenizer; give --draft-model")
    model = load_model(name or str(SAMPLE_FOLDER / "draft"), target.dtype, str(target.target.device))
    if model.tokenizer_hash != target.tokenizer_hash:
        raise MismatchError(f"the tokenizer of the draft model {name} is not that of {target.name}; use another one")
    return model.target


def open_suffixes(
    where: Path | None, systems: Sequence[str], retrieval: Retrieval | None, model: Identity
) -> SuffixStore | None:
    """The suffix store in a folder, else the one that the collection's manifest names; None where there is neither, or
    where none of these systems would use it.

    Raises StoreError for one that cannot be read, MismatchError for one of another tokenizer.
    """
    from dresd_milvus.retrieval.suffix_store import SuffixStore

    if not {"rest", "suffix"} & drafting(systems):
        return None
    named = where or (retrieval.manifest.suffixes if retrieval else None)
    return SuffixStore(Path(named)).require(model.tokenizer_hash) if named else None
