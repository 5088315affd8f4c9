"""Which models a draft tree can be verified on exactly, and what the masks of a family have to look like.

A tree puts several tokens at one position, out of order in the cache. A family works when its attention takes positions
and a mask from outside and its cache can be cut back. tests/target/test_families.py holds every family named here
against its own full forward pass and against transformers' `generate`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dresd_milvus.errors import InputError
from dresd_milvus.target.tree_mask import Windows

TESTED = frozenset((
    "arcee", "cohere", "cohere2", "deepseek_v2", "deepseek_v3", "ernie4_5", "ernie4_5_moe", "exaone4", "falcon",
    "gemma", "gemma2", "gemma3_text", "gemma3n_text", "gemma4_text", "glm", "glm4", "glm4_moe", "gpt2", "gpt_neox",
    "gpt_oss", "gptj", "granite", "granitemoe", "helium", "hunyuan_v1_dense", "llama", "minimax_m2", "ministral",
    "ministral3", "mistral", "mixtral", "nemotron", "olmo", "olmo2", "olmo3", "olmoe", "opt", "phi", "phi3",
    "phimoe", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "seed_oss", "smollm3", "stablelm", "starcoder2",
))  # fmt: skip
"""Values of `model_type` that the matrix of tests covers; another family is compared with itself when it is loaded."""

BY_ROW = {"bloom", "mpt", "gpt_neo"}
"""Families whose own code counts positions or windows in rows of the cache, whatever positions it is given."""

FULL, SLIDING = "full_attention", "sliding_attention"


def refuse_unsupported(config: Any) -> None:
    """Raise InputError, naming the family and the reason, for a model on which a tree cannot be verified exactly."""
    text = config.get_text_config()
    kinds = _kinds(text)
    if getattr(config, "is_encoder_decoder", False):
        reason = "it has an encoder and a decoder; use a decoder-only model"
    elif text.model_type in BY_ROW or getattr(text, "alibi", False):
        reason = "it counts positions in rows of its cache, and the nodes of a draft tree share positions"
    elif getattr(_architecture(config), "_is_stateful", False):
        reason = "it keeps a running state, which cannot be cut back to an accepted path"
    elif others := kinds - {FULL, SLIDING}:
        reason = f"it has layers of the kind {', '.join(sorted(others))}, on which a draft tree cannot be verified"
    elif SLIDING in kinds and text.model_type not in TESTED:
        reason = "it has layers with a sliding window, which were never tested for this family"
    else:
        return
    raise InputError(f"models of the family {text.model_type} are not supported: {reason}")


def attention_windows(config: Any) -> Windows:
    """The kinds of layers of a model and how far back they look. A window wider than the context is none."""
    config = config.get_text_config()
    window = getattr(config, "sliding_window", None)
    if window is not None and window >= config.max_position_embeddings:
        window = None
    return {kind: window if kind == SLIDING else None for kind in sorted(_kinds(config))}


def rope_border(config: Any) -> int | None:
    """Positions up to which a model with RoPE of the kind 'longrope' uses its short factors; None for other models.

    transformers takes one set of factors a pass, by the pass's highest position. So a text that begins below the border
    is decoded with the short factors and ends there, and another is decoded with the long ones (see HFTarget.room).
    """
    config = config.get_text_config()
    rope = getattr(config, "rope_parameters", None) or {}
    if rope.get("rope_type") != "longrope":
        return None
    border = rope.get("original_max_position_embeddings") or config.original_max_position_embeddings
    return int(border) if border < config.max_position_embeddings else None


def head_to_logits(numbers: Tensor, config: Any) -> Tensor:
    """Logits [N, V] of what the output head gives [N, V]; some families scale (Granite, Cohere) or cap (Gemma) it."""
    config = config.get_text_config()
    logits = numbers * (getattr(config, "logit_scale", None) or 1.0) / (getattr(config, "logits_scaling", None) or 1.0)
    cap = getattr(config, "final_logit_softcapping", None)
    return logits if cap is None else cap * torch.tanh(logits / cap)


def _kinds(config: Any) -> set[str]:
    if kinds := getattr(config, "layer_types", None):
        return set(kinds)
    return {SLIDING if getattr(config, "sliding_window", None) else FULL}


def _architecture(config: Any) -> Any:
    """The class that transformers makes of this configuration; None where it has none."""
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

    return MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
