"""The model inputs that verify a draft tree: token ids, positions, and one attention mask per kind of layer.

All nodes of a tree go through the model in one forward pass, one after the other, behind the committed text. The mask
lets a node attend to the committed text, to its ancestors and to itself, so that it is computed as if its path were
the text. Its position is the length of the committed text plus its depth; nodes of the same depth share a position.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dresd_milvus.decoding.tree import DraftTree

Windows = Mapping[str, int | None]
"""The attention window of each kind of layer, by the kind's name in a configuration's `layer_types`: the number of
positions that a token attends to, itself included; None for all."""


class ModelInputs(NamedTuple):
    """The inputs of one forward pass over N tokens.

    ids:       int64 [1, N].
    positions: int64 [1, N].
    masks:     by kind of layer, additive masks [1, 1, N, R] over R rows of the cache in the model's dtype: 0 where a
               token attends, the dtype's lowest number elsewhere. None for an ordinary causal pass.
    """

    ids: Tensor
    positions: Tensor
    masks: dict[str, Tensor] | None


def tree_inputs(tree: DraftTree, start: int, windows: Windows, device: torch.device, dtype: torch.dtype) -> ModelInputs:
    """The inputs of a tree of N nodes behind `start` committed tokens; the masks are [1, 1, N, start + N].

    Windows count positions, not rows of the cache: behind a wide tree there are more rows than positions.
    """
    numbers = np.stack((tree.tokens, start + tree.depths())).astype(np.int64)
    ids, positions = torch.from_numpy(numbers).to(device)[:, None].unbind()
    on_path = torch.from_numpy(_on_path(tree)).to(device)
    masks = {kind: _mask(on_path, positions[0], start, window, dtype) for kind, window in windows.items()}
    return ModelInputs(ids, positions, masks)


def _on_path(tree: DraftTree) -> np.ndarray:
    """bool [N, N]: whether the second node is on the path to the first, that is, the first itself or an ancestor."""
    on_path = np.eye(len(tree.tokens), dtype=bool)
    for node in range(1, len(on_path)):  # parents come before their children
        on_path[node] |= on_path[tree.parents[node]]
    return on_path


def _mask(on_path: Tensor, positions: Tensor, start: int, window: int | None, dtype: torch.dtype) -> Tensor:
    """The mask [1, 1, N, start + N] of one kind of layer; on_path: bool [N, N]; positions: int64 [N], of the nodes."""
    mask = torch.zeros(len(on_path), start + len(on_path), dtype=dtype, device=on_path.device)
    lowest = torch.finfo(dtype).min
    mask[:, start:].masked_fill_(~on_path, lowest)
    if window is not None:
        row_positions = torch.cat((torch.arange(start, device=on_path.device), positions))
        mask.masked_fill_(positions[:, None] - row_positions >= window, lowest)
    return mask[None, None]
