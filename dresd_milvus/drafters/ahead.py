"""Dense retrieval that no step waits for."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor

from dresd_milvus.drafters.base import Context, Step
from dresd_milvus.drafters.dense import Dense
from dresd_milvus.drafters.late import Late
from dresd_milvus.evidence import Table
from dresd_milvus.store import Hits


class Ahead:
    """Searches while the target works: what is found is told by the steps after, as far as the text has followed it.

    For a store that takes long to answer. One search is under way at a time. searcher: who does it.
    """

    name = "dense"

    def __init__(self, dense: Dense, searcher: Executor | None = None) -> None:
        self.dense, self.late = dense, Late(dense.store.manifest.continuation)
        self._searcher = searcher or ThreadPoolExecutor(1, "search")
        self._asked: tuple[int, Future[Hits]] | None = None

    @property
    def searching(self) -> Future[Hits] | None:
        """The search whose hits have not been told."""
        return self._asked[1] if self._asked else None

    def begin(self, prompt: Sequence[int]) -> None:
        self._asked = None
        self.late.begin(prompt)

    def tell(self, context: Context, table: Table) -> int:
        self.late.follow(context.tokens)
        if self._asked and self._asked[1].done():
            length, search = self._asked
            scores, continuations = search.result()
            self.late.keep(continuations[0], self.dense.votes(scores[0]), context.tokens[length - 1 :])
            self._asked = None
        if self._asked is None and context.states is not None:
            asked = context._replace(tokens=context.tokens[-1:])  # a copy: the text goes on meanwhile
            self._asked = len(context.tokens), self._searcher.submit(self.dense.search, asked)
        self.late.tell(context, table)
        return 0

    def observe(self, step: Step) -> None:
        pass
