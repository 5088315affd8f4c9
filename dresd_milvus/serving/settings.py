"""What `dresd serve` tells the engine's process: settings in an environment variable, and the drafter made of them.

An environment variable, because the engine writes its own configuration into its log.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from dresd_milvus.decoding.step_costs import LearnedCosts, costs_file
from dresd_milvus.defaults import SEARCH_SECONDS, Search
from dresd_milvus.drafters.hybrid import BatchHybrid
from dresd_milvus.errors import InputError
from dresd_milvus.progress import SILENT, Progress
from dresd_milvus.serving.chain_budget import PRIOR, ChainBudget
from dresd_milvus.serving.drafting import ChainDrafter
from dresd_milvus.storage.opening import open_retrieval
from dresd_milvus.systems.factory import sources_by_corpus
from dresd_milvus.systems.sources import Sources, open_suffixes

VARIABLE = "DRESD_SERVE"
"""The environment variable."""

CORPUS = "dresd_corpus"
"""What a request may say in its vllm_xargs: the corpus that it is drafted from."""


@dataclass(frozen=True)
class ServeSettings:
    """What a serving drafter is made of.

    name, fingerprint, tokenizer_hash: of the model (see LoadedModel). uri, collection: the store. search, timeout: see
    open_retrieval. The password of a server comes from $MILVUS_TOKEN. corpora: names of the origins of its rows; a
    request may name one of them. default_corpus: of requests that name none; None for all rows. require_corpus: whether
    a request that names none is refused.
    """

    name: str
    fingerprint: str
    tokenizer_hash: str
    uri: str
    collection: str
    search: Search = "auto"
    timeout: float = SEARCH_SECONDS
    weights_fingerprint: str = ""
    corpora: tuple[str, ...] = ()
    default_corpus: str | None = None
    require_corpus: bool = False

    @classmethod
    def from_environment(cls) -> ServeSettings:
        """The settings of this process; InputError where `dresd serve` did not start it."""
        if VARIABLE not in os.environ:
            raise InputError("this process has no settings of dresd; start the engine by dresd serve")
        content = json.loads(os.environ[VARIABLE])
        return cls(**{**content, "corpora": tuple(content["corpora"])})

    def corpus_of(self, asked: Mapping[str, Any]) -> str | None:
        """The corpus of a request with these vllm_xargs: '' where it must name one and does not, which is nobody's."""
        named = asked.get(CORPUS, self.default_corpus)
        return ("" if self.require_corpus else None) if named is None else str(named)

    def named(self) -> list[str | None]:
        """What a request may be drafted from: the corpora, and None for all rows where it need not name one."""
        return [*self.corpora, *([] if self.require_corpus or self.default_corpus is not None else [None])]

    def to_environment(self) -> dict[str, str]:
        """The environment variable, with the settings."""
        return {VARIABLE: json.dumps(asdict(self))}

    def open_sources(self, progress: Progress = SILENT) -> Sources:
        """The store and its suffixes; raises what open_retrieval and open_suffixes raise."""
        token = os.environ.get("MILVUS_TOKEN", "")
        retrieval = open_retrieval(self.uri, self.collection, self, self.search, token, self.timeout, progress)
        return Sources(retrieval, open_suffixes(None, ["hybrid"], retrieval, self))

    def make_drafter(self, device: torch.device, dtype: torch.dtype, ranks: int = 1) -> ChainDrafter:
        """Open the store and make the drafter. device, dtype: of the engine's model. ranks: that share it."""
        prior = PRIOR["cpu" if device.type == "cpu" else "cuda"]
        corpora = sources_by_corpus(self.open_sources(), self.named())
        budget = ChainBudget(
            LearnedCosts(prior=prior, file=costs_file(f"{self.fingerprint}, served", dtype, device, False, ranks))
        )
        return ChainDrafter(BatchHybrid([corpora]), budget, corpora.servers())


DOOR = f"{Path(__file__).parent.parent.name}.serving.corpus_door.CorpusDoor"
"""The class that vLLM's server asks first, where requests must name a corpus, as its option names it."""


def worker_module() -> str:
    """The class that vLLM loads, as its option names it."""
    return f"{Path(__file__).parent.parent.name}.serving.vllm_speculator.Speculator"
