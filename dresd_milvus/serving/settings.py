"""What `dresd serve` tells the engine's process: settings in an environment variable, and the drafter made of them.

An environment variable, because the engine writes its own configuration into its log.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from dresd_milvus.decoding.step_costs import LearnedCosts
from dresd_milvus.defaults import SEARCH_SECONDS, Search
from dresd_milvus.drafters.hybrid import BatchHybrid
from dresd_milvus.errors import InputError
from dresd_milvus.progress import SILENT, Progress
from dresd_milvus.serving.chain_budget import PRIOR, ChainBudget
from dresd_milvus.serving.drafting import ChainDrafter
from dresd_milvus.storage.opening import open_retrieval
from dresd_milvus.systems.factory import hybrid_sources
from dresd_milvus.systems.sources import Sources, open_suffixes

VARIABLE = "DRESD_SERVE"
"""The environment variable."""


@dataclass(frozen=True)
class ServeSettings:
    """What a serving drafter is made of.

    name, fingerprint, tokenizer_hash: of the model (see LoadedModel). uri, collection: the store. search, timeout: see
    open_retrieval. The password of a server comes from $MILVUS_TOKEN.
    """

    name: str
    fingerprint: str
    tokenizer_hash: str
    uri: str
    collection: str
    search: Search = "auto"
    timeout: float = SEARCH_SECONDS
    weights_fingerprint: str = ""

    @classmethod
    def from_environment(cls) -> ServeSettings:
        """The settings of this process; InputError where `dresd serve` did not start it."""
        if VARIABLE not in os.environ:
            raise InputError("this process has no settings of dresd; start the engine by dresd serve")
        return cls(**json.loads(os.environ[VARIABLE]))

    def to_environment(self) -> dict[str, str]:
        """The environment variable, with the settings."""
        return {VARIABLE: json.dumps(asdict(self))}

    def open_sources(self, progress: Progress = SILENT) -> Sources:
        """The store and its suffixes; raises what open_retrieval and open_suffixes raise."""
        token = os.environ.get("MILVUS_TOKEN", "")
        retrieval = open_retrieval(self.uri, self.collection, self, self.search, token, self.timeout, progress)
        return Sources(retrieval, open_suffixes(None, ["hybrid"], retrieval, self))

    def make_drafter(self, device: torch.device) -> ChainDrafter:
        """Open the store and make the drafter. device: of the engine's model."""
        prior = PRIOR["cpu" if device.type == "cpu" else "cuda"]
        hybrid = BatchHybrid(hybrid_sources(self.open_sources()))
        return ChainDrafter(hybrid, ChainBudget(LearnedCosts(prior=prior, file=None)))


def worker_module() -> str:
    """The class that vLLM loads, as its option names it."""
    return f"{Path(__file__).parent.parent.name}.serving.vllm_speculator.Speculator"
