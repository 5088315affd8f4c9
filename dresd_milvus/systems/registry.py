"""The systems that can be named on a command line, and what each of them needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dresd_milvus.decoding.loop import FixedBudget
from dresd_milvus.decoding.protocols import Drafter
from dresd_milvus.decoding.step_costs import LearnedCosts, StepCosts, costs_file
from dresd_milvus.drafters.base import Vanilla
from dresd_milvus.drafters.dense import Dense
from dresd_milvus.drafters.hybrid import Hybrid, Source
from dresd_milvus.drafters.hybrid.budget import AdaptiveBudget
from dresd_milvus.drafters.hybrid.dense_sources import BackgroundSearch, DenseSource
from dresd_milvus.drafters.hybrid.matches import Matches
from dresd_milvus.drafters.hybrid.recycling import Recycling
from dresd_milvus.drafters.prompt_lookup import PromptLookup
from dresd_milvus.drafters.rest import Rest
from dresd_milvus.drafters.small_lm import SmallLM
from dresd_milvus.drafters.suffix import Suffix
from dresd_milvus.errors import InputError, MismatchError, StoreError
from dresd_milvus.models.checkpoint import SAMPLE, SAMPLE_FOLDER
from dresd_milvus.models.loading import LoadedModel, load_model
from dresd_milvus.progress import SILENT, Progress
from dresd_milvus.retrieval.circuit_breaker import SEARCH_SECONDS, CircuitBreaker
from dresd_milvus.retrieval.store import NEIGHBOURS, Manifest
from dresd_milvus.retrieval.suffix_store import SuffixStore
from dresd_milvus.storage.opening import Retrieval, Search, open_retrieval
from dresd_milvus.target.hf_target import HFTarget

SYSTEMS = ("vanilla", "prompt_lookup", "rest", "suffix", "small_lm", "dense", "hybrid")
"""Every system that can be named, the reference first."""

NODES, MOST_NODES = 16, 64
"""Draft nodes a step for systems that fill what they get, and at most for those that take what pays."""

HYBRID = ("dense", "suffix", "recycling")
"""The parts of the composite. 'hybrid-no-dense' is the composite without dense; 'hybrid-dense' is an older name of the
same, under which results are kept."""


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
        """Close the store, if there is one."""
        if self.retrieval:
            self.retrieval.close()

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
    """Where a command says that its sources are; see Sources and open_retrieval."""

    uri: str | None = None
    collection: str | None = None
    suffixes: Path | None = None
    draft_model: str | None = None
    search: Search = "auto"
    token: str = ""
    timeout: float = SEARCH_SECONDS

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
) -> Sources:
    """Open what these systems draft from; progress: see open_retrieval.

    Raises InputError, StoreError or MismatchError for what is missing or does not fit the model.
    """
    where.check(systems)
    draft_model = load_draft_model(where.draft_model, model) if "draft_model" in needs(systems) else None
    retrieval = None
    if where.uri and where.collection:
        retrieval = open_retrieval(
            where.uri, where.collection, model, where.search, where.token, where.timeout, progress
        )
    try:
        return Sources(retrieval, open_suffixes(where.suffixes, systems, retrieval, model), draft_model)
    except BaseException:
        if retrieval:
            retrieval.close()
        raise


def parse_systems(text: str) -> list[str]:
    """'a,b' -> ['vanilla', 'a', 'b'], for vanilla always runs; each by the name that results are kept under.

    Raises InputError for an unknown or missing name.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        _parts(name)
    if not names:
        raise InputError(f"no system was named; use some of {', '.join(SYSTEMS)}")
    return list(dict.fromkeys(["vanilla", *map(kept_name, names)]))


def kept_name(system: str) -> str:
    """The name of a system in results: 'hybrid-no-dense-no-suffix' and 'hybrid-dense-suffix' -> the latter."""
    return system.replace("-no-", "-")


def drafting(systems: Sequence[str]) -> set[str]:
    """What drafts in these systems: the parts of composites, the others themselves."""
    return {part for name in systems for part in _parts(name)}


def needs(systems: Sequence[str]) -> set[str]:
    """What these systems cannot do without: some of 'retrieval', 'suffixes', 'draft_model'."""
    wanted = {"dense": "retrieval", "rest": "suffixes", "small_lm": "draft_model"}
    return {wanted[kind] for kind in drafting(systems) if kind in wanted}


def budget_of(system: str, nodes: int | None, depth: int) -> FixedBudget:
    """What a system may draft: so many nodes, or with None the usual: the most for those that take only what pays."""
    usual = MOST_NODES if is_composite(system) else NODES
    return FixedBudget(usual if nodes is None else nodes, depth)


def is_composite(system: str) -> bool:
    """Whether a system drafts from several sources, and takes of its budget what pays."""
    return system.partition("-")[0] == "hybrid"


def must_know_costs(systems: Sequence[str], nodes: int | None) -> bool:
    """Whether some of these systems choose their budget themselves; where it is given, they fill it."""
    return nodes is None and any(map(is_composite, systems))


def step_costs(model: LoadedModel, ranks: int = 1) -> LearnedCosts:
    """What steps of this model cost here: as the sessions before have learned it, else a prior; nothing is timed.

    ranks: that share the model.
    """
    target = model.target
    file = costs_file(model.fingerprint, target.dtype, target.device, target.cuda_graphs is not None, ranks)
    return LearnedCosts(target.device.type, file)


def parse_nodes(text: str) -> int | None:
    """'auto' -> None, '16' -> 16; raises InputError for anything else."""
    if text == "auto":
        return None
    if not text.isdecimal():
        raise InputError(f"--nodes is a number or 'auto', not '{text}'")
    return int(text)


def make_drafter(
    system: str, sources: Sources, neighbours: int | None = None, costs: StepCosts | None = None
) -> Drafter:
    """The drafter of a system by name; neighbours: hits of a dense search, None for the usual number; costs: of steps,
    for composites to take of their budget what pays; None has them spend all of it.

    Raises InputError for an unknown one and for one that lacks what it needs.
    """
    parts = _parts(system)
    if is_composite(system):
        recycling, adaptive = Recycling() if "recycling" in parts else None, AdaptiveBudget(costs) if costs else None
        return Hybrid(_composed(parts, sources, neighbours), recycling, kept_name(system), adaptive=adaptive)
    if system == "vanilla":
        return Vanilla()
    if system == "prompt_lookup":
        return PromptLookup()
    if system == "small_lm":
        if sources.draft_model is None:
            raise InputError("the system 'small_lm' needs a small model; give --draft-model")
        return SmallLM(sources.draft_model)
    if system == "suffix":
        return Suffix(sources.suffixes)
    if system == "dense":
        return _dense(sources, neighbours)
    if sources.suffixes is None:
        raise InputError(
            "the system 'rest' needs a suffix store; ingest with --also rest, or say where it is with --suffixes"
        )
    return Rest(sources.suffixes)


def load_draft_model(name: str | None, target: LoadedModel) -> HFTarget:
    """The small model of 'small_lm' in the target's dtype; None is the sample's own, for the sample model.

    Raises InputError when it cannot be loaded, MismatchError when its tokenizer is not the target's.
    """
    if name is None and target.name != SAMPLE:
        raise InputError("the system 'small_lm' needs a small model with the target's tokenizer; give --draft-model")
    model = load_model(name or str(SAMPLE_FOLDER / "draft"), target.dtype, str(target.target.device))
    if model.tokenizer_hash != target.tokenizer_hash:
        raise MismatchError(f"the tokenizer of the draft model {name} is not that of {target.name}; use another one")
    return model.target


def open_suffixes(
    where: Path | None, systems: Sequence[str], sources: Retrieval | None, model: LoadedModel
) -> SuffixStore | None:
    """The suffix store in a folder, else the one that the collection's manifest names; None where there is neither, or
    where none of these systems would use it.

    Raises StoreError or MismatchError for one that cannot be used.
    """
    if not {"rest", "suffix"} & drafting(systems):
        return None
    named = where or (Path(sources.manifest.suffixes) if sources and sources.manifest.suffixes else None)
    return SuffixStore(named).require(model.tokenizer_hash) if named else None


def _parts(system: str) -> tuple[str, ...]:
    """The parts of a composite that are left, or the system itself; raises InputError for what is not a system."""
    name, *without = kept_name(system).split("-")
    if name not in SYSTEMS or (without and name != "hybrid"):
        raise InputError(f"there is no system '{system}'; use some of {', '.join(SYSTEMS)}")
    if unknown := [part for part in without if part not in HYBRID]:
        raise InputError(f"'{system}' leaves out '{unknown[0]}', which is no part of hybrid: {', '.join(HYBRID)}")
    left = tuple(part for part in HYBRID if part not in without)
    if not left:
        raise InputError(f"nothing is left of '{system}'; leave a part in: {', '.join(HYBRID)}")
    return left if name == "hybrid" else (name,)


def _composed(parts: Sequence[str], sources: Sources, neighbours: int | None) -> list[Source]:
    """The sources of a composite, exact matches first: of too many candidates the tree builder takes the first.

    A replica is asked at every step; a server in the background, and never waited for.
    """
    made: list[Source] = []
    if "suffix" in parts:
        made.append(Matches(sources.suffixes))
    if "dense" in parts:
        dense = _dense(sources, neighbours)
        made.append(BackgroundSearch(dense) if isinstance(dense.store, CircuitBreaker) else DenseSource(dense))
    return made


def _dense(sources: Sources, neighbours: int | None) -> Dense:
    if sources.retrieval is None:
        raise InputError("dense retrieval needs a store; give --uri and --collection")
    return Dense(sources.retrieval.store, sources.retrieval.projection, neighbours or NEIGHBOURS)
