"""A small language model as the drafter: the draft is its greedy continuation (speculative decoding, arXiv 2211.17192).

The draft is greedy even if the target samples. A draft token is accepted only if it is the target's own pick (see
decoding.sampling), so there is no use for the small model's probabilities.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dresd_milvus.decoding.protocols import Context, Step
from dresd_milvus.decoding.tree import DraftTree
from dresd_milvus.target.hf_target import HFTarget


class SmallLM:
    """Drafts one path, the small model's greedy continuation.

    model: has the target's tokenizer. Its cache is brought up to the accepted text at every draft.
    """

    name = "small_lm"

    def __init__(self, model: HFTarget) -> None:
        self.model = model
        self._cached: list[int] = []  # the tokens in the model's cache
        self._confirmed = 0  # how many of them are known to be part of the text

    def begin(self, prompt: Sequence[int]) -> None:
        self._cached = list(prompt[:-1])[: self.model.context]
        self.model.prefill(self._cached)
        self._confirmed = len(self._cached)

    def observe(self, step: Step) -> None:
        pass

    def draft(self, context: Context) -> DraftTree:
        tokens = context.tokens
        length = min(context.max_nodes, context.max_depth, self.model.context - len(tokens))
        if length <= 0:
            return DraftTree.root_only(tokens[-1], self.name)
        self._drop_rejected(tokens)
        path: list[int] = []
        following = self._append(tokens[len(self._cached) :])
        while len(path) < length:
            path.append(following)
            if len(path) < length:
                following = self._append([following])
        return DraftTree(
            np.array([tokens[-1], *path], np.int32), np.arange(-1, length, dtype=np.int32), source=self.name
        )

    def _drop_rejected(self, tokens: Sequence[int]) -> None:
        """Truncate the cache to the tokens that it has in common with the text, without the text's last token."""
        limit = min(len(self._cached), len(tokens) - 1)
        known = next((at for at in range(self._confirmed, limit) if self._cached[at] != tokens[at]), limit)
        del self._cached[known:]
        self.model.truncate(known)
        self._confirmed = known

    def _append(self, tokens: Sequence[int]) -> int:
        """Add these tokens to the cache; returns the most likely next token."""
        chain = DraftTree(np.array(tokens, np.int32), np.arange(-1, len(tokens) - 1, dtype=np.int32))
        logits = self.model.verify(chain).logits[-1]
        self.model.commit(np.arange(len(tokens)))
        self._cached += tokens
        return int(logits.argmax())
