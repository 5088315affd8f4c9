"""A check at load time for untested families: a small draft tree must have the logits of ordinary forward passes."""

from __future__ import annotations

import numpy as np
import torch

from dresd_milvus.decoding.tree import DraftTree
from dresd_milvus.errors import InputError
from dresd_milvus.target.hf_target import HFTarget

TEXT_TOKENS = 48
"""Tokens of the random text before the tree."""

TOLERANCE = 0.25
"""The largest allowed error of a logit, in standard deviations of the logits. Rounding in low precision stays far
below, a wrong position or mask is far above."""


def check_tree_logits(target: HFTarget) -> None:
    """Raise InputError unless the nodes of a small draft tree get the logits of a forward pass over their own text."""
    length = min(TEXT_TOKENS, target.context // 2)
    text = np.random.default_rng(0).integers(0, target.vocab_size, length).tolist()
    tokens = [text[-1], *np.random.default_rng(1).permutation(min(target.vocab_size, 1000))[:5].tolist()]
    tree = DraftTree(np.array(tokens, np.int32), np.array([-1, 0, 0, 1, 2, 3], np.int32))
    leaves = {4: (2, 4), 5: (1, 3, 5)}  # the two deepest nodes, with the nodes on their paths
    target.prefill(text[:-1])
    logits = target.verify(tree).logits
    for node, path in leaves.items():
        ids = torch.tensor([text + [tokens[at] for at in path]], device=target.device)
        with torch.inference_mode():
            expected = target.model(input_ids=ids, use_cache=False).logits[0, -1]
        if (logits[node] - expected).abs().max() > TOLERANCE * expected.std():
            raise InputError(
                f"models of the family {target.family} are not supported: the logits of a draft tree differ from those "
                "of an ordinary forward pass; use another model"
            )
