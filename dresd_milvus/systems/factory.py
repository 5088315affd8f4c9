"""Making the drafter of a system from its name and its sources."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from dresd_milvus.decoding.protocols import Drafter
from dresd_milvus.decoding.step_costs import LearnedCosts, StepCosts, costs_file
from dresd_milvus.drafters.base import Vanilla
from dresd_milvus.drafters.dense import Dense
from dresd_milvus.drafters.hybrid import Hybrid, Source
from dresd_milvus.drafters.hybrid.budget import AdaptiveBudget
from dresd_milvus.drafters.hybrid.corpora import ByCorpus
from dresd_milvus.drafters.hybrid.dense_sources import BackgroundSearch, DenseSource
from dresd_milvus.drafters.hybrid.matches import Matches
from dresd_milvus.drafters.hybrid.recycling import Recycling
from dresd_milvus.drafters.prompt_lookup import PromptLookup
from dresd_milvus.drafters.rest import Rest
from dresd_milvus.drafters.small_lm import SmallLM
from dresd_milvus.drafters.suffix import Suffix
from dresd_milvus.errors import InputError
from dresd_milvus.models.loading import LoadedModel
from dresd_milvus.retrieval.circuit_breaker import CircuitBreaker
from dresd_milvus.retrieval.store import NEIGHBOURS
from dresd_milvus.systems.registry import current_name, is_composite, parts_of
from dresd_milvus.systems.sources import Sources

T = TypeVar("T")

NO_STORE = "dense retrieval needs a store; give --uri and --collection"
NO_DRAFT_MODEL = "the system 'small_lm' needs a small model; give --draft-model"
NO_SUFFIXES = "the system 'rest' needs a suffix store; ingest with --also rest, or say where it is with --suffixes"


def make_drafter(
    system: str, sources: Sources, neighbours: int | None = None, costs: StepCosts | None = None
) -> Drafter:
    """The drafter of a system by name.

    neighbours: hits of a dense search, None for the usual number. costs: of steps, by which composites spend of their
    budget what pays; None has them spend all of it.
    Raises InputError for an unknown system and for one that lacks what it drafts from.
    """
    parts = parts_of(system)
    if is_composite(system):
        recycling, adaptive = Recycling() if "recycling" in parts else None, AdaptiveBudget(costs) if costs else None
        return Hybrid(hybrid_sources(sources, parts, neighbours), recycling, current_name(system), adaptive=adaptive)
    makers: dict[str, Callable[[], Drafter]] = {
        "vanilla": Vanilla,
        "prompt_lookup": PromptLookup,
        "rest": lambda: Rest(_required(sources.suffixes, NO_SUFFIXES)),
        "suffix": lambda: Suffix(sources.suffixes),
        "small_lm": lambda: SmallLM(_required(sources.draft_model, NO_DRAFT_MODEL)),
        "dense": lambda: _dense(sources, neighbours),
    }
    return makers[system]()


def _required(source: T | None, without: str) -> T:
    """The source; raises InputError, saying this, where there is none."""
    if source is None:
        raise InputError(without)
    return source


def hybrid_sources(
    sources: Sources, parts: Sequence[str] = ("suffix", "dense"), neighbours: int | None = None
) -> list[Source]:
    """The sources of `hybrid`, exact matches first: of too many candidates the tree builder takes the first.

    parts: those to take. neighbours: hits of a dense search, None for the usual number.

    A replica is asked at every step; a server in the background, and never waited for.
    """
    made: list[Source] = []
    if "suffix" in parts:
        made.append(Matches(sources.suffixes))
    if "dense" in parts:
        dense = _dense(sources, neighbours)
        made.append(BackgroundSearch(dense) if isinstance(dense.store, CircuitBreaker) else DenseSource(dense))
    return made


def sources_by_corpus(sources: Sources, corpora: Sequence[str | None]) -> ByCorpus:
    """The sources of `hybrid` for texts that name a corpus each, the origin of its rows; None: all rows.

    Raises StoreError for a suffix store that does not know its origins.
    """
    known = sources.manifest.origins if sources.manifest else ()
    made = {
        corpus: hybrid_sources(sources if corpus is None or known == (corpus,) else sources.of_origin(corpus))
        for corpus in corpora  # a corpus that is the only one needs no index of its own
    }
    return ByCorpus(made, [Matches(None)])


def _dense(sources: Sources, neighbours: int | None) -> Dense:
    retrieval = _required(sources.retrieval, NO_STORE)
    return Dense(retrieval.store, retrieval.projection, neighbours or NEIGHBOURS)


def step_costs(model: LoadedModel, ranks: int = 1) -> LearnedCosts:
    """What steps of this model cost here: as the sessions before have learned it, else a prior; nothing is timed.

    ranks: that share the model.
    """
    target = model.target
    file = costs_file(model.fingerprint, target.dtype, target.device, target.cuda_graphs is not None, ranks)
    return LearnedCosts(target.device.type, file)
