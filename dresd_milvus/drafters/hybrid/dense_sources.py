"""Dense retrieval as evidence: a search that the step waits for, or one in the background.

Hits of a background search come one or more steps late. They are *stale hits*: found for an earlier token of the text,
and useful as long as the text has followed them since. A hit has N tokens and a step takes a few of them, so that much
of it is left.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from dresd_milvus.decoding.protocols import Context
from dresd_milvus.decoding.tree import Int64
from dresd_milvus.drafters.dense import Dense
from dresd_milvus.drafters.hybrid.evidence import Evidence, Kind, Session
from dresd_milvus.retrieval.store import Hits

ROOT = 2
"""A row is named by the position of its state. The root came after it, then the first token of the continuation."""

MOST = 256
"""Stale hits of a text that are kept: the latest."""


class DenseSource:
    """Searches at every step, for all texts at once, and waits for the hits."""

    name = "dense"

    def __init__(self, dense: Dense) -> None:
        self.dense = dense

    def propose(self, contexts: Sequence[Context], sessions: Sequence[Session]) -> list[list[Evidence]]:
        """The hits; their quality is the similarity above 0.4 in tenths, 0 to 6."""
        found: list[list[Evidence]] = [[] for _ in contexts]
        asked = _with_states(contexts)
        for at, near in zip(asked, self.dense.search([contexts[at] for at in asked]), strict=True):
            quality = (10 * (near.scores.astype(np.float64) - 0.4)).clip(0, 6).astype(np.int32)
            rows = near.rows[:, : contexts[at].max_depth]
            found[at].append(Evidence.of(Kind.DENSE, rows, quality, near.votes, near.pks + ROOT))
        return found


class _Asked(NamedTuple):
    """A search in the background: for these sessions [B], whose texts had these numbers of tokens [B] and ended with
    these roots, int64 [B]."""

    search: Future[Hits]
    sessions: list[Session]
    lengths: list[int]
    roots: Int64


class BackgroundSearch:
    """Searches while the target works, and gives the hits at later steps as stale hits.

    For a store that takes long to answer. One search is under way at a time, for all texts of the step that started it.
    executor: runs the searches; None for a thread of its own.
    """

    name = "dense"

    def __init__(self, dense: Dense, executor: Executor | None = None) -> None:
        self.dense = dense
        self._executor = executor or ThreadPoolExecutor(1, "search")
        self._asked: _Asked | None = None

    @property
    def searching(self) -> Future[Hits] | None:
        """The search whose hits have not been taken yet."""
        return self._asked.search if self._asked else None

    def propose(self, contexts: Sequence[Context], sessions: Sequence[Session]) -> list[list[Evidence]]:
        """The stale hits that are left. Also takes the hits of a search that is done, and starts the next search."""
        if self._asked and self._asked.search.done():
            self._take(self._asked)
            self._asked = None
        asked = _with_states(contexts)
        if asked and self._asked is None:
            self._asked = self._ask([contexts[at] for at in asked], [sessions[at] for at in asked])
        return [[stale_hits(session, context.tokens)] for context, session in zip(contexts, sessions, strict=True)]

    def _ask(self, contexts: Sequence[Context], sessions: list[Session]) -> _Asked:
        queries, roots = self.dense.queries(contexts)
        search = self._executor.submit(self.dense.store.search, queries, roots, self.dense.neighbours)
        return _Asked(search, sessions, [len(context.tokens) for context in contexts], roots)

    def _take(self, asked: _Asked) -> None:
        """Give every session its hits."""
        found = self.dense.usable(asked.search.result(), asked.roots)
        for session, length, near in zip(asked.sessions, asked.lengths, found, strict=True):
            hits = Evidence.of(Kind.STALE, near.rows[:MOST], 0, near.votes[:MOST], near.pks[:MOST] + ROOT)
            session.earlier.append((hits, length))


def stale_hits(session: Session, tokens: Sequence[int]) -> Evidence:
    """What is left of a session's earlier hits when its text is these tokens; all others are forgotten.

    Their quality is the number of their tokens that were right.
    """
    found = Evidence.join([_followed(hits, tokens[length:]) for hits, length in session.earlier])
    left = found.take(slice(-MOST, None))
    session.earlier = [(left, len(tokens))]
    return left


def _followed(hits: Evidence, new: Sequence[int]) -> Evidence:
    """Of hits [K, N], those that begin with the new tokens [T] and go on, without these tokens."""
    count = len(new)
    if count >= hits.rows.shape[1]:
        return Evidence.none()
    kept = (hits.rows[:, :count] == np.array(new, np.int32)).all(1) & (hits.rows[:, count] >= 0)
    quality, places = hits.quality[kept] + count, hits.places[kept] + count
    return Evidence.of(Kind.STALE, hits.rows[kept, count:], quality, hits.weights[kept], places)


def _with_states(contexts: Sequence[Context]) -> list[int]:
    """Which of the contexts can be searched for."""
    return [at for at, context in enumerate(contexts) if context.states is not None]
