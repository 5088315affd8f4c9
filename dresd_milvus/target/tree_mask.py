"""What a forward pass over a draft tree takes: ids, positions, and a mask for every kind of attention."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dresd_milvus.decoding.tree import DraftTree

Windows = Mapping[str, int | None]
"""By kind of layer, as a config's `layer_types` names them: how many positions a token sees back, itself counted;
None: all."""


class Inputs(NamedTuple):
    """ids, positions: int64 [1, N]. masks: by kind of layer, additive [1, 1, N, rows of the cache that are looked at],
    0 for what a node sees and the lowest number elsewhere; None: each token sees all before it, as far as its layer's
    window goes."""

    ids: Tensor
    positions: Tensor
    masks: dict[str, Tensor] | None


def tree_inputs(tree: DraftTree, start: int, windows: Windows, device: torch.device, dtype: torch.dtype) -> Inputs:
    """The inputs of a tree whose root lies behind `start` committed tokens: nodes see these and their ancestors, as
    far as each kind of layer looks back. Nodes of one depth have one position, so windows are counted in positions."""
    numbers = np.stack((tree.tokens, start + tree.depths())).astype(np.int64)
    ids, positions = torch.from_numpy(numbers).to(device)[:, None].unbind()
    seen = torch.from_numpy(_lines(tree)).to(device)
    masks = {kind: _mask(seen, positions[0], start, window, dtype) for kind, window in windows.items()}
    return Inputs(ids, positions, masks)


def _lines(tree: DraftTree) -> np.ndarray:
    """bool [N, N]: whether the second node is the first or above it."""
    lines = np.eye(len(tree.tokens), dtype=bool)
    for node in range(1, len(lines)):  # parents come first
        lines[node] |= lines[tree.parents[node]]
    return lines


def _mask(seen: Tensor, positions: Tensor, start: int, window: int | None, dtype: torch.dtype) -> Tensor:
    """seen: bool [N, N]; positions: int64 [N]; the mask [1, 1, N, start + N]."""
    mask = torch.zeros(len(seen), start + len(seen), dtype=dtype, device=seen.device)
    lowest = torch.finfo(dtype).min
    mask[:, start:].masked_fill_(~seen, lowest)
    if window is not None:
        of_rows = torch.cat((torch.arange(start, device=seen.device), positions))
        mask.masked_fill_(positions[:, None] - of_rows >= window, lowest)
    return mask[None, None]
