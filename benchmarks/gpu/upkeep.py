"""What a step does on the device besides the forward pass: closing gaps in the cache, picks, copies to the host."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from model import random_text
from shared import alternate, milliseconds, summary
from verifying import binary_tree

from dresd_milvus.decoding.sampling import Greedy, GumbelSampler, Sampler
from dresd_milvus.decoding.scores import Scored
from dresd_milvus.decoding.tree import DraftTree, Int64
from dresd_milvus.models.loading import LoadedModel

NODES = 64
PATHS = {
    "0 1 (no gap)": [0, 1],
    "0 2": [0, 2],
    "0 2 6 14": [0, 2, 6, 14],
    "0 2 6 14 30 62": [0, 2, 6, 14, 30, 62],
}
"""Paths through the binary tree, the root first."""


def keeping(model: LoadedModel, length: int, repeats: int) -> dict[str, Any]:
    """Milliseconds of TreeCache.keep after a tree of NODES draft nodes, by the path that is kept."""
    target = model.target
    target.prefill(random_text(model, length))
    tree = binary_tree(NODES, target.vocab_size)

    def side(path: Int64) -> Callable[[], float]:
        def measure() -> float:
            target.truncate(length)
            target.verify(tree)
            return milliseconds(target.device, lambda: target.commit(path))

        return measure

    measured = alternate({name: side(np.array(path)) for name, path in PATHS.items()}, repeats)
    return {name: summary(times) for name, times in measured.items()}


def picking(model: LoadedModel, repeats: int) -> dict[str, Any]:
    """Milliseconds of the picks of a step: a walk through 16 draft nodes, with logits [17, V] on the device.

    A greedy walk visits two draft nodes. The logits fall off as those of a language model (Zipf, exponent 1.5), because
    the number of tokens in the nucleus matters.
    """
    target = model.target
    ranks = np.random.default_rng(0).permutation(target.vocab_size) + 1.0
    logits = torch.from_numpy(-1.5 * np.log(ranks)).to(target.device, target.dtype)
    rows = logits.expand(17, -1).contiguous()
    best, parents = int(logits.argmax()), np.array([-1, 0, 1, *[2] * 14], np.int32)
    tree = DraftTree(np.array([0, best, best, *(best + 1 + np.arange(14)) % target.vocab_size], np.int32), parents)
    samplers: dict[str, Sampler] = {
        "greedy": Greedy(),
        "sampled, temperature 0.7, top-p 0.95": GumbelSampler(0.7, 0.95),
        "sampled, temperature 1": GumbelSampler(1.0, 1.0),
    }

    def side(sampler: Sampler) -> Callable[[], float]:
        return lambda: milliseconds(target.device, lambda: sampler.walk(tree, Scored(rows, rows), [0] * 100))

    sides = {name: side(sampler) for name, sampler in samplers.items()}
    return {name: summary(times) for name, times in alternate(sides, repeats).items()}


def fetching(model: LoadedModel, repeats: int) -> dict[str, Any]:
    """Milliseconds of copying a hidden state [H] to the host and the token ids [64] of a draft to the device."""
    target = model.target
    hidden = torch.randn(target.hidden_size, device=target.device).to(target.dtype)
    tokens = torch.zeros(NODES, dtype=torch.int32)
    sides: dict[str, Callable[[], float]] = {
        "hidden state to the host": lambda: milliseconds(target.device, lambda: hidden.cpu()),
        "64 token ids to the device": lambda: milliseconds(target.device, lambda: tokens.to(target.device)),
        "waiting for an idle device": lambda: milliseconds(target.device, lambda: None),
    }
    return {name: summary(times) for name, times in alternate(sides, repeats).items()}
