"""Models with the shapes of real ones and random weights, made on the device, and the least that a step needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from dresd_milvus.models.fingerprint import weights_fingerprint
from dresd_milvus.models.loading import LoadedModel
from dresd_milvus.target.hf_target import HFTarget

SHAPES: dict[str, dict[str, Any]] = {
    "tiny": {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 512,
        "tie_word_embeddings": False,
    },
    "1b": {  # Llama 3.2 1B: 1.24 B parameters
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128_256,
        "tie_word_embeddings": True,
    },
    "7b": {  # Llama 2 7B: 6.74 B parameters
        "hidden_size": 4096,
        "intermediate_size": 11_008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "vocab_size": 32_000,
        "tie_word_embeddings": False,
    },
}

CONTEXT = 8192
"""Maximum number of positions; more than any part here reads."""


def random_model(size: str, device: torch.device) -> LoadedModel:
    """A Llama with one of SHAPES in bfloat16 and no end token, its weights drawn at random on the device.

    Weights are not zeros, because a device computes faster with zeros.
    """
    config = LlamaConfig(**SHAPES[size], max_position_embeddings=CONTEXT, bos_token_id=None, eos_token_id=None)
    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16, attn_implementation="sdpa")
    return LoadedModel(f"random-{size}", HFTarget(model, frozenset()), None, weights_fingerprint(model), "")


def random_text(model: LoadedModel, length: int, seed: int = 0) -> list[int]:
    """Random token ids."""
    return np.random.default_rng(seed).integers(model.target.vocab_size, size=length).tolist()


@dataclass(frozen=True)
class StepDemand:
    """What one step must read and compute at least.

    parameters: number of all. read: number of those that a step reads (without the input embedding, unless it is also
    the output head). width: bytes of a parameter. kv_row: bytes of the keys and values of one token. attention:
    operations of one query over one cached token, in all layers.
    """

    parameters: int
    read: int
    width: int
    kv_row: int
    attention: int

    @classmethod
    def of(cls, model: LoadedModel) -> StepDemand:
        hf = model.target.model
        config, width = hf.config, hf.dtype.itemsize
        parameters = sum(weights.numel() for weights in hf.parameters())
        table = 0 if config.tie_word_embeddings else hf.get_input_embeddings().weight.numel()
        head = config.hidden_size // config.num_attention_heads
        kv_row = 2 * config.num_hidden_layers * config.num_key_value_heads * head * width
        attention = 4 * config.num_hidden_layers * config.num_attention_heads * head
        return cls(parameters, parameters - table, width, kv_row, attention)

    def bytes(self, length: int, nodes: int) -> int:
        """Bytes of weights and cache, each read once, with a text of this length, a root and draft nodes."""
        return self.read * self.width + (length + nodes + 1) * self.kv_row

    def operations(self, length: int, nodes: int) -> int:
        """Floating point operations: two for each weight and token, and those of attention."""
        rows = nodes + 1
        return rows * (2 * self.read + (length + rows) * self.attention)
