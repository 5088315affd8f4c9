"""A model of a family that no test covers is compared with its own full forward pass before it is used."""

from __future__ import annotations

import numpy as np
import torch

from dresd_milvus.decoding.tree import DraftTree
from dresd_milvus.errors import InputError
from dresd_milvus.target.hf_target import HFTarget

PROBED = 48
"""Tokens of the text that an untested family is compared with itself on."""

CLOSE = 0.25
"""How far its logits may be off, as a share of their spread: low precision stays far below, a wrong position far above.
"""


def compare_with_itself(target: HFTarget) -> None:
    """Raise InputError unless the nodes of a small draft tree have the logits of their own full forward passes."""
    length = min(PROBED, target.context // 2)
    text = np.random.default_rng(0).integers(0, target.vocab_size, length).tolist()
    tokens = [text[-1], *np.random.default_rng(1).permutation(min(target.vocab_size, 1000))[:5].tolist()]
    tree = DraftTree(np.array(tokens, np.int32), np.array([-1, 0, 0, 1, 2, 3], np.int32))
    below = {4: (2, 4), 5: (1, 3, 5)}  # both ends of the tree, and the way to them
    target.prefill(text[:-1])
    logits = target.verify(tree).logits
    for node, way in below.items():
        ids = torch.tensor([text + [tokens[at] for at in way]], device=target.device)
        with torch.inference_mode():
            right = target.model(input_ids=ids, use_cache=False).logits[0, -1]
        if (logits[node] - right).abs().max() > CLOSE * right.std():
            raise InputError(
                f"models of the family {target.family} are not supported: a token of a draft tree is "
                "not scored as in its own full pass"
            )
