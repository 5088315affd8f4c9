"""Dense retrieval as evidence: a search that the step waits for, or one in the background.

Hits of a background search come one or more steps late. They are *stale hits*: found for an earlier token of the text,
and useful as long as the text has followed them since. A hit has N tokens and a step takes a few of them, so that much
of it is left.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor

import numpy as np

from dresd_milvus.decoding.protocols import Context, Step
from dresd_milvus.decoding.tree import Int32
from dresd_milvus.drafters.dense import Dense
from dresd_milvus.drafters.hybrid.evidence import Evidence, Floats, Kind
from dresd_milvus.retrieval.store import Hits

MOST = 256
"""Stale hits that are kept: the latest."""


class DenseSource:
    """Searches at every step, and waits for the hits."""

    name = "dense"

    def __init__(self, dense: Dense) -> None:
        self.dense = dense

    def begin(self, prompt: Sequence[int]) -> None:
        pass

    def observe(self, step: Step) -> None:
        pass

    def propose(self, context: Context) -> Evidence:
        """The hits; their quality is the similarity above 0.4 in tenths, 0 to 6."""
        if context.states is None:
            return Evidence.none()
        hits = self.dense.search(context)
        usable = hits.continuations[0, :, 0] == context.tokens[-1]
        scores = hits.scores[0, usable]
        quality = np.clip(10 * (scores.astype(np.float64) - 0.4), 0, 6).astype(np.int32)
        rows = hits.continuations[0, usable, 1 : context.max_depth + 1]
        return Evidence.of(Kind.DENSE, rows, quality, self.dense.votes(scores))


class BackgroundSearch:
    """Searches while the target works, and gives the hits at later steps as stale hits.

    For a store that takes long to answer. One search is under way at a time. executor: runs the searches; None for a
    thread of its own.
    """

    name = "dense"

    def __init__(self, dense: Dense, executor: Executor | None = None) -> None:
        self.dense, self.stale = dense, StaleHits(dense.store.manifest.continuation)
        self._executor = executor or ThreadPoolExecutor(1, "search")
        self._asked: tuple[int, Future[Hits]] | None = None  # (length of the text then, the search)

    @property
    def searching(self) -> Future[Hits] | None:
        """The search whose hits have not been taken yet."""
        return self._asked[1] if self._asked else None

    def begin(self, prompt: Sequence[int]) -> None:
        self._asked = None
        self.stale.begin(prompt)

    def observe(self, step: Step) -> None:
        pass

    def propose(self, context: Context) -> Evidence:
        """The stale hits that are left. Also takes the hits of a search that is done, and starts the next search."""
        self.stale.follow(context.tokens)
        if self._asked and self._asked[1].done():
            length, search = self._asked
            scores, continuations = search.result()
            self.stale.add(continuations[0], self.dense.votes(scores[0]), context.tokens[length - 1 :])
            self._asked = None
        if self._asked is None and context.states is not None:
            asked = context._replace(tokens=context.tokens[-1:])  # a copy, because the text goes on meanwhile
            self._asked = len(context.tokens), self._executor.submit(self.dense.search, asked)
        return self.stale.evidence(context.max_depth)


class StaleHits:
    """The hits that the text has followed so far, without the tokens that it has passed.

    continuation: N, the tokens of a hit.
    """

    def __init__(self, continuation: int) -> None:
        self._continuation = continuation
        self.begin(())

    def begin(self, prompt: Sequence[int]) -> None:
        """Forget all hits; a text begins."""
        self._length = len(prompt)
        self._rows = np.empty((0, self._continuation), np.int32)
        self._weights, self._right = np.empty(0), np.empty(0, np.int32)

    def add(self, continuations: Int32, weights: Floats, since: Sequence[int]) -> None:
        """Add hits: continuations [K, N] with weights [K], of which at most MOST are taken.

        since: the text from the token that the continuations begin with to the text's end at the last `follow`.
        """
        rows, weights = continuations[:MOST], weights[:MOST]
        kept = slice(max(len(self._rows) + len(rows) - MOST, 0), None)
        # The first token is the one that a hit was found for: it does not count as right.
        rows, weights, right = _followed(rows, weights, np.full(len(rows), -1, np.int32), since)
        self._rows = np.concatenate([self._rows[kept], rows])
        self._weights = np.concatenate([self._weights[kept], weights])
        self._right = np.concatenate([self._right[kept], right])

    def follow(self, tokens: Sequence[int]) -> None:
        """The text is now these tokens; drop the hits that go on otherwise."""
        new, self._length = tokens[self._length :], len(tokens)
        self._rows, self._weights, self._right = _followed(self._rows, self._weights, self._right, new)

    def evidence(self, depth: int) -> Evidence:
        """The hits that are left; their quality is the number of their tokens that were right."""
        return Evidence.of(Kind.STALE, self._rows[:, :depth], self._right, self._weights)


def _followed(rows: Int32, weights: Floats, right: Int32, new: Sequence[int]) -> tuple[Int32, Floats, Int32]:
    """Of hits [K, N], those that begin with the new tokens [T] and go on, without these tokens; with the weights [K],
    and with T added to how many of their tokens were right [K]."""
    count, width = len(new), rows.shape[1]
    if count >= width:
        return rows[:0], weights[:0], right[:0]
    kept = (rows[:, :count] == np.array(new, np.int32)).all(1) & (rows[:, count] >= 0)
    left = np.full((int(kept.sum()), width), -1, np.int32)
    left[:, : width - count] = rows[kept, count:]
    return left, weights[kept], right[kept] + np.int32(count)
