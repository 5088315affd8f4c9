"""Prompt lookup: continue as the text itself went on the last time its latest tokens stood there.

Saxena's prompt lookup decoding (2023), without a model or a corpus. Differences from the original, both because
they accept more: the latest earlier occurrence is used instead of the first, and where the copied stretch runs
into the present it goes on copying its own output, as LZ77 does, so that a loop is drafted to full depth.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dresd_milvus.decoding.protocols import Context, Step
from dresd_milvus.decoding.tree import DraftTree


class PromptLookup:
    """Drafts one path from the latest earlier occurrence of the longest matching n-gram.

    longest, shortest: n-gram lengths tried, in tokens, longest first. Updates cost O(longest) per token, a draft
    O(longest + depth).
    """

    name = "prompt_lookup"

    def __init__(self, longest: int = 3, shortest: int = 1) -> None:
        self.sizes = range(longest, shortest - 1, -1)
        self._latest: dict[tuple[int, ...], int] = {}
        self._indexed = 0

    def begin(self, prompt: Sequence[int]) -> None:
        self._latest.clear()
        self._indexed = 0
        self._index(prompt)

    def observe(self, step: Step) -> None:
        self._index(step.tokens)

    def draft(self, context: Context) -> DraftTree:
        tokens, length = context.tokens, min(context.max_nodes, context.max_depth)
        source = next((at for size in self.sizes if (at := self._latest.get(tuple(tokens[-size:])))), None)
        if source is None or length <= 0:
            return DraftTree.root_only(tokens[-1], self.name)
        path = list(tokens[source : source + length])
        while len(path) < length:
            path.append(path[source - len(tokens)])  # the copy has caught up with itself: repeat with its period
        return DraftTree(
            np.array([tokens[-1], *path], np.int32), np.arange(-1, length, dtype=np.int32), source=self.name
        )

    def _index(self, tokens: Sequence[int]) -> None:
        """Note where every n-gram that something follows goes on; the present end is left for the next step."""
        for end in range(max(self._indexed, 1), len(tokens)):
            for size in self.sizes:
                if size <= end:
                    self._latest[tuple(tokens[end - size : end])] = end
        self._indexed = len(tokens)
