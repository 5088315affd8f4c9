"""Suffix matching: what followed the text's latest tokens earlier in the text itself, and in a corpus.

After SuffixDecoding (2411.04975, section 3), which keeps a suffix tree of each and drafts from the one match whose tree
promises most. Here all matches share one trie: the longest has most of the probability and each shorter one a part of
what is left, as in prediction by partial matching, so that what shorter matches know is there when a long one is wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from dresd_milvus.drafters.base import Context, PathDrafter, Step
from dresd_milvus.suffixes import SuffixStore
from dresd_milvus.tree import Paths

LONGEST = 64
"""Tokens of a match at most, as published."""

MOST = 128
"""Occurrences looked at: of each match in the corpus, and in all of the running text (the latest)."""

TEXT_BONUS = 2.0
"""What the text itself said counts as much as a match longer by so many tokens in the corpus."""


class RunningText:
    """The text so far as an array, searched without an index: a text is short."""

    def __init__(self) -> None:
        self._tokens = np.empty(1024, np.int32)
        self._size = 0

    def begin(self, prompt: Sequence[int]) -> None:
        self._size = 0
        self.extend(prompt)

    def extend(self, tokens: Sequence[int]) -> None:
        end = self._size + len(tokens)
        if end > len(self._tokens):
            grown = np.empty(max(2 * len(self._tokens), end), np.int32)
            grown[: self._size] = self._tokens[: self._size]
            self._tokens = grown
        self._tokens[self._size : end] = tokens
        self._size = end

    def earlier(self, longest: int, most: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(ends [C], lengths [C]): the places where what follows the last token's earlier occurrences begins, at most
        `most` of them, the latest, and how many tokens before them are as at the text's end."""
        text = self._tokens[: self._size]
        ends = np.flatnonzero(text[:-1] == text[-1])[-most:] + 1
        back = np.arange(1, min(longest, self._size) + 1)
        places = ends[:, None] - back
        same = (text[np.maximum(places, 0)] == text[self._size - back]) & (places >= 0)
        return ends, np.logical_and.accumulate(same, axis=1).sum(axis=1)

    def following(self, ends: NDArray[np.int64], depth: int) -> NDArray[np.int32]:
        """int32 [C, depth]: what came there; a stretch that runs into the present repeats with its period."""
        periods = self._size - ends
        return self._tokens[ends[:, None] + np.arange(depth) % periods[:, None]]


class Suffix(PathDrafter):
    """store: the corpus, None for the running text alone."""

    name = "suffix"

    def __init__(self, store: SuffixStore | None, longest: int = LONGEST, most: int = MOST) -> None:
        self.store, self.longest, self.most = store, longest, most
        self.text = RunningText()

    def begin(self, prompt: Sequence[int]) -> None:
        self.text.begin(prompt)

    def observe(self, step: Step) -> None:
        self.text.extend(step.new)

    def propose(self, context: Context) -> Paths:
        matches = sorted([*self._in_text(context), *self._in_corpus(context)], key=lambda match: -match[0])
        if not matches:
            return Paths.none()
        left, weights = 1.0, []
        for length, paths in matches:
            share = left * confidence(length)
            weights.append(np.full(len(paths), share / len(paths)))
            left -= share
        return Paths(np.concatenate([paths for _, paths in matches]), np.concatenate(weights))

    def _in_text(self, context: Context) -> Iterator[tuple[float, NDArray[np.int32]]]:
        """(length, what followed [P, depth]) of every length of match in the running text."""
        ends, lengths = self.text.earlier(self.longest, self.most)
        if len(ends):
            following = self.text.following(ends, context.max_depth)
            for length in np.unique(lengths):
                yield float(length) + TEXT_BONUS, following[lengths == length]

    def _in_corpus(self, context: Context) -> Iterator[tuple[float, NDArray[np.int32]]]:
        """The same of the longest match in the corpus and, while they are few, of half the length, and so on."""
        if self.store is None:
            return
        text = context.tokens[-self.longest :]
        match = self.store.longest(text, self.longest)
        while match is not None:
            yield float(match.length), self.store.continuations(match, context.max_depth, self.most)
            if match.length == 1 or len(match) >= self.most:
                return
            match = self.store.match(text, match.length // 2)


def confidence(length: float) -> float:
    """How likely one of a match's continuations is held to go on right, by the tokens that match (at least 1).

    A prior: 0.3 for a single token, 0.55 for three, 0.96 for fourteen. Too small a one costs little: what is left goes
    to shorter matches in the same tree.
    """
    return 1 - 0.7 * 0.8 ** max(length - 1, 0)
