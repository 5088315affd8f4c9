"""A small language model that drafts: its greedy continuation, one path (speculative decoding, 2211.17192).

The draft is greedy even when the target samples: the acceptance rule is the tree's (see decoding.sampling), which takes
a draft only where it is the target's own draw.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dresd_milvus.decoding.protocols import Context, Step
from dresd_milvus.decoding.tree import DraftTree
from dresd_milvus.target.hf_target import HFTarget


class SmallLM:
    """model: with the target's tokenizer. It keeps a cache of its own, which catches up with what was accepted."""

    name = "small_lm"

    def __init__(self, model: HFTarget) -> None:
        self.model = model
        self._read: list[int] = []  # what the model's cache holds
        self._certain = 0  # so many of them are the text's for certain

    def begin(self, prompt: Sequence[int]) -> None:
        self._read = list(prompt[:-1])[: self.model.context]
        self.model.prefill(self._read)
        self._certain = len(self._read)

    def observe(self, step: Step) -> None:
        pass

    def draft(self, context: Context) -> DraftTree:
        tokens = context.tokens
        length = min(context.max_nodes, context.max_depth, self.model.context - len(tokens))
        if length <= 0:
            return DraftTree.root_only(tokens[-1], self.name)
        self._rewind(tokens)
        path: list[int] = []
        following = self._append(tokens[len(self._read) :])
        while len(path) < length:
            path.append(following)
            if len(path) < length:
                following = self._append([following])
        return DraftTree(
            np.array([tokens[-1], *path], np.int32), np.arange(-1, length, dtype=np.int32), source=self.name
        )

    def _rewind(self, tokens: Sequence[int]) -> None:
        """Cut the cache back to what is still the text; its last token is read again."""
        limit = min(len(self._read), len(tokens) - 1)
        known = next((at for at in range(self._certain, limit) if self._read[at] != tokens[at]), limit)
        del self._read[known:]
        self.model.rewind(known)
        self._certain = known

    def _append(self, tokens: Sequence[int]) -> int:
        """Read these tokens; the likeliest next one."""
        chain = DraftTree(np.array(tokens, np.int32), np.arange(-1, len(tokens) - 1, dtype=np.int32))
        logits = self.model.verify(chain).logits[-1]
        self.model.keep(np.arange(len(tokens)))
        self._read += tokens
        return int(logits.argmax())
