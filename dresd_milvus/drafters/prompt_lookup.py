"""Prompt lookup: the draft is what followed the last tokens of the text where they occurred before.

This is Saxena's prompt lookup decoding (2023); it needs neither a model nor a corpus. Two differences from the original
raise the accepted length: the latest earlier occurrence is used instead of the first, and a copy that reaches the end
of the text continues with its own tokens, as LZ77 does, so that a loop is drafted to full depth.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dresd_milvus.decoding.protocols import Context, Step
from dresd_milvus.decoding.tree import DraftTree


class PromptLookup:
    """Drafts one path: the tokens after the latest earlier occurrence of the longest matching n-gram.

    max_ngram, min_ngram: lengths of n-grams, in tokens; the longest is tried first. A new token costs O(max_ngram), a
    draft O(max_ngram + depth).
    """

    name = "prompt_lookup"

    def __init__(self, max_ngram: int = 3, min_ngram: int = 1) -> None:
        self.sizes = range(max_ngram, min_ngram - 1, -1)
        self._latest: dict[tuple[int, ...], int] = {}  # n-gram -> index of the token after its latest occurrence
        self._indexed = 0  # tokens of the text that were processed by `_index`

    def begin(self, prompt: Sequence[int]) -> None:
        self._latest.clear()
        self._indexed = 0
        self._index(prompt)

    def observe(self, step: Step) -> None:
        self._index(step.tokens)

    def draft(self, context: Context) -> DraftTree:
        tokens, length = context.tokens, min(context.max_nodes, context.max_depth)
        start = next((at for size in self.sizes if (at := self._latest.get(tuple(tokens[-size:])))), None)
        if start is None or length <= 0:
            return DraftTree.root_only(tokens[-1], self.name)
        path = list(tokens[start : start + length])
        while len(path) < length:
            path.append(path[start - len(tokens)])  # the copy has reached the end of the text: copy the path itself
        return DraftTree(
            np.array([tokens[-1], *path], np.int32), np.arange(-1, length, dtype=np.int32), source=self.name
        )

    def _index(self, tokens: Sequence[int]) -> None:
        """Add the n-grams of the new tokens. The n-gram at the end is added when a token follows it."""
        for end in range(max(self._indexed, 1), len(tokens)):
            for size in self.sizes:
                if size <= end:
                    self._latest[tuple(tokens[end - size : end])] = end
        self._indexed = len(tokens)
