"""Model families: on which of them a draft tree is verified exactly, and what is special about their layers.

A tree has several tokens at one position, and they are out of order in the cache. A family can be supported when its
attention uses the positions and the mask that it is given, and its cache can be reduced to an accepted path.
tests/target/test_families.py compares every family named here with its own full forward pass and with transformers'
`generate`.
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
"""Values of `model_type` that the tests cover. Another family is checked when it is loaded (see models.self_check)."""

COUNTS_CACHE_ROWS = {"bloom", "mpt", "gpt_neo"}
"""Families whose code derives positions or windows from the number of cache rows and ignores the given positions."""

FULL, SLIDING = "full_attention", "sliding_attention"


def refuse_unsupported(config: Any) -> None:
    """Raise InputError for a configuration of a model on which a draft tree cannot be verified exactly.

    The message names the family and the reason.
    """
    text = config.get_text_config()
    kinds = _kinds(text)
    if getattr(config, "is_encoder_decoder", False):
        reason = "it has an encoder and a decoder; use a decoder-only model"
    elif text.model_type in COUNTS_CACHE_ROWS or getattr(text, "alibi", False):
        reason = "it counts positions in rows of its cache, but the nodes of a draft tree share positions"
    elif getattr(_architecture(config), "_is_stateful", False):
        reason = "it keeps a running state, which cannot be reduced to an accepted path"
    elif others := kinds - {FULL, SLIDING}:
        reason = f"a draft tree cannot be verified on its layers of the kind {', '.join(sorted(others))}"
    elif SLIDING in kinds and text.model_type not in TESTED:
        reason = "it has sliding-window layers, which were never tested for this family"
    else:
        return
    raise InputError(f"models of the family {text.model_type} are not supported: {reason}; use another model")


def attention_windows(config: Any) -> Windows:
    """The attention window of each kind of layer (see tree_mask.Windows), from a model's configuration.

    A window that is as wide as the context counts as none.
    """
    config = config.get_text_config()
    window = getattr(config, "sliding_window", None)
    if window is not None and window >= config.max_position_embeddings:
        window = None
    return {kind: window if kind == SLIDING else None for kind in sorted(_kinds(config))}


def longrope_border(config: Any) -> int | None:
    """The number of positions for which a model with RoPE of the kind 'longrope' uses its short factors.

    None for other models, and for one whose context ends there. In each forward pass transformers uses the short or the
    long factors for all tokens, depending on the highest position. Therefore a text that begins below this border ends
    there; a text that begins above it is decoded with the long factors (see HFTarget.context_left).
    """
    config = config.get_text_config()
    rope = getattr(config, "rope_parameters", None) or {}
    if rope.get("rope_type") != "longrope":
        return None
    border = rope.get("original_max_position_embeddings") or config.original_max_position_embeddings
    return int(border) if border < config.max_position_embeddings else None


def head_to_logits(output: Tensor, config: Any) -> Tensor:
    """Logits [N, V] from the output [N, V] of the output head, which some families scale (Granite, Cohere) or cap
    (Gemma)."""
    config = config.get_text_config()
    logits = output * (getattr(config, "logit_scale", None) or 1.0) / (getattr(config, "logits_scaling", None) or 1.0)
    cap = getattr(config, "final_logit_softcapping", None)
    return logits if cap is None else cap * torch.tanh(logits / cap)


def _kinds(config: Any) -> set[str]:
    """The kinds of layers that a configuration has, as its `layer_types` names them."""
    if kinds := getattr(config, "layer_types", None):
        return set(kinds)
    return {SLIDING if getattr(config, "sliding_window", None) else FULL}


def _architecture(config: Any) -> Any:
    """The model class that transformers has for this configuration, or None."""
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

    return MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
