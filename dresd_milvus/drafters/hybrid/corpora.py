"""Several corpora in one store: each text gets evidence of its own, and never of another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dresd_milvus.decoding.protocols import Context
from dresd_milvus.drafters.hybrid.dense_sources import BackgroundSearch
from dresd_milvus.drafters.hybrid.evidence import Evidence, Session, Source
from dresd_milvus.retrieval.circuit_breaker import CircuitBreaker


class ByCorpus:
    """Asks for each text only the sources of the corpus that its session names.

    sources: by the name of the corpus, each over the rows of that corpus alone; under None those of texts that may be
    drafted from all rows, if there are such texts. own_text: the sources of a text whose corpus is not known; they have
    no rows. Nothing is kept across corpora here, so what a text gets depends on the sources of its own corpus only.
    """

    name = "corpora"

    def __init__(self, sources: Mapping[str | None, Sequence[Source]], own_text: Sequence[Source]) -> None:
        self.sources, self.own_text = dict(sources), tuple(own_text)

    def servers(self) -> list[CircuitBreaker]:
        """The stores of all corpora that are searched on a server."""
        made = (source for parts in self.sources.values() for source in parts)
        stores = [source.dense.store for source in made if isinstance(source, BackgroundSearch)]
        return [store for store in stores if isinstance(store, CircuitBreaker)]

    def propose(self, contexts: Sequence[Context], sessions: Sequence[Session]) -> list[list[Evidence]]:
        found: list[list[Evidence]] = [[] for _ in contexts]
        for corpus in {session.corpus for session in sessions}:
            asked = [at for at, session in enumerate(sessions) if session.corpus == corpus]
            for source in self.sources.get(corpus, self.own_text):
                parts = source.propose([contexts[at] for at in asked], [sessions[at] for at in asked])
                for at, evidence in zip(asked, parts, strict=True):
                    found[at] += evidence
        return found
