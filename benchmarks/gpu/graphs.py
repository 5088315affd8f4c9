"""The forward pass as a CUDA graph: the time of the device when the host need not launch the kernels.

Its difference to the bare forward pass is what a static decoder could save; `--graphs` decodes in this way
(dresd_milvus/target/cuda_graphs.py).
"""

from __future__ import annotations

from typing import Any

import torch
from model import random_text
from shared import milliseconds, summary

from dresd_milvus.errors import InputError
from dresd_milvus.models.loading import LoadedModel
from dresd_milvus.target.cache import TreeCache
from dresd_milvus.target.cuda_graphs import capture_graph

NODES = (0, 16, 64)


def replays(model: LoadedModel, length: int, repeats: int) -> dict[str, Any]:
    """{draft nodes: milliseconds, or the reason why the step could not be captured}; {} on a CPU."""
    if model.target.device.type != "cuda":
        return {}
    times_by_nodes: dict[str, Any] = {}
    for nodes in NODES:
        try:
            times_by_nodes[str(nodes)] = summary(_replay(model, length, nodes, repeats))
        except InputError as error:
            return {**times_by_nodes, str(nodes): f"not captured: {error}"}
    return times_by_nodes


@torch.inference_mode()
def _replay(model: LoadedModel, length: int, nodes: int, repeats: int) -> list[float]:
    hf, device = model.target.model, model.target.device
    cache = TreeCache(hf.config.num_hidden_layers)
    text = torch.tensor([random_text(model, length)], device=device)
    hf(input_ids=text, past_key_values=cache, use_cache=True, logits_to_keep=1)
    cache.length = length
    cache.reserve(length + nodes + 1)  # a captured cache must not grow
    inputs: dict[str, Any] = {
        "input_ids": text[:, : nodes + 1].clone(),
        "position_ids": torch.full((1, nodes + 1), length, device=device),
        # Attention with a mask takes longer; what the mask contains makes no difference.
        "attention_mask": torch.zeros(1, 1, nodes + 1, length + nodes + 1, dtype=hf.dtype, device=device),
    }
    if nodes == 0:
        del inputs["attention_mask"]
    replay = capture_graph(lambda: hf(**inputs, past_key_values=cache, use_cache=True), device)
    milliseconds(device, replay)
    return [milliseconds(device, replay) for _ in range(repeats)]
