"""Tiny random models of every family that draft trees are verified on, built from transformers' own configurations."""

from __future__ import annotations

from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM

VOCAB = 64
CONTEXT = 256
WINDOW = 3
"""Shorter than the trees of a test are deep."""

SIZES: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": CONTEXT,
    "initializer_range": 0.3,  # large enough that attention matters and greedy text varies
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}
OLD = {**SIZES, "num_key_value_heads": None}
"""As many keys as heads: families that know no others."""

MIXED = {"sliding_window": WINDOW, "layer_types": ["sliding_attention", "full_attention"]}
EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
LATENT = {
    "num_key_value_heads": 4, "kv_lora_rank": 16, "q_lora_rank": 24, "qk_rope_head_dim": 8, "qk_nope_head_dim": 16,
    "v_head_dim": 12, "n_routed_experts": 4, "num_experts_per_tok": 2, "n_shared_experts": 1, "n_group": 2,
    "topk_group": 1, "moe_intermediate_size": 32, "first_k_dense_replace": 1, "head_dim": 8,
}  # fmt: skip
GEMMA4 = {
    **SIZES, **MIXED, "head_dim": 8, "num_kv_shared_layers": 0, "hidden_size_per_layer_input": 0,
    "vocab_size_per_layer_input": VOCAB,
}  # fmt: skip
EYES = {
    "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 28,
    "patch_size": 14,
}  # fmt: skip
BORDER = 24
"""Of longrope: the last position of its short factors is one less."""

LONGROPE = {
    "rope_type": "longrope", "rope_theta": 10000.0, "original_max_position_embeddings": BORDER, "factor": 4.0,
    "short_factor": [1.0, 1.1, 1.2, 1.3], "long_factor": [2.0, 3.0, 4.0, 5.0],
}  # fmt: skip


def rope(kind: str, **other: Any) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": kind, "rope_theta": 10000.0, **other}}


FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", SIZES),
    "llama tied": ("Llama", {**SIZES, "tie_word_embeddings": True}),
    "llama llama3": ("Llama", {**SIZES, **rope("llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                                               original_max_position_embeddings=32)}),
    "llama yarn": ("Llama", {**SIZES, **rope("yarn", factor=4.0, original_max_position_embeddings=64)}),
    "llama dynamic": ("Llama", {**SIZES, **rope("dynamic", factor=2.0)}),
    "llama longrope": ("Llama", {**SIZES, "rope_parameters": LONGROPE}),
    "llama of a large vocabulary": ("Llama", {**SIZES, "vocab_size": 2**17 + 64, "hidden_size": 128}),
    "qwen2": ("Qwen2", SIZES),
    "qwen2 with windows": ("Qwen2", {**SIZES, **MIXED, "use_sliding_window": True}),
    "qwen3": ("Qwen3", {**SIZES, "head_dim": 8}),
    "mistral": ("Mistral", {**SIZES, "sliding_window": None}),
    "mistral with a window": ("Mistral", {**SIZES, "sliding_window": WINDOW}),
    "mixtral": ("Mixtral", {**SIZES, **EXPERTS, "sliding_window": None}),
    "qwen3-moe": ("Qwen3Moe", {**SIZES, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32,
                               "head_dim": 8}),
    "gemma": ("Gemma", {**SIZES, "head_dim": 8}),
    "gemma2": ("Gemma2", {**SIZES, **MIXED, "head_dim": 8, "query_pre_attn_scalar": 8}),
    "gemma3": ("Gemma3Text", {**SIZES, **MIXED, "head_dim": 8, "query_pre_attn_scalar": 8}),
    "phi": ("Phi", SIZES),
    "phi3": ("Phi3", {**SIZES, "sliding_window": None}),
    "phi3 with a window": ("Phi3", {**SIZES, "sliding_window": WINDOW}),
    "phi3 with a window wider than its context": ("Phi3", {**SIZES, "sliding_window": CONTEXT + 1}),
    "phi3 longrope": ("Phi3", {**SIZES, "sliding_window": None, "original_max_position_embeddings": BORDER,
                               "rope_parameters": LONGROPE}),
    "gpt-oss": ("GptOss", {**SIZES, **EXPERTS, **MIXED, "head_dim": 8}),
    "smollm3": ("SmolLM3", {**SIZES, "no_rope_layers": [1, 0]}),
    "olmo2": ("Olmo2", SIZES),
    "granite": ("Granite", {**SIZES, "logits_scaling": 4.0, "residual_multiplier": 0.5}),
    "cohere": ("Cohere", SIZES),
    "cohere2": ("Cohere2", {**SIZES, **MIXED}),
    "stablelm": ("StableLm", SIZES),
    "starcoder2": ("Starcoder2", {**SIZES, "sliding_window": WINDOW}),
    "glm4": ("Glm4", {**SIZES, "head_dim": 8}),
    "exaone4": ("Exaone4", {**SIZES, **MIXED, "head_dim": 8}),
    "seed-oss": ("SeedOss", {**SIZES, "head_dim": 8}),
    "ernie4.5": ("Ernie4_5", {**SIZES, "head_dim": 8}),
    "nemotron": ("Nemotron", {**SIZES, "head_dim": 8}),
    "gpt2": ("GPT2", OLD),
    "gpt-neox": ("GPTNeoX", OLD),
    "gpt-j": ("GPTJ", {**OLD, "rotary_dim": 8}),
    "opt": ("OPT", {**OLD, "ffn_dim": 64, "word_embed_proj_dim": 32}),
    "opt with projected words": ("OPT", {**OLD, "ffn_dim": 64, "word_embed_proj_dim": 16}),
    "falcon": ("Falcon", {**SIZES, "multi_query": True}),
    "falcon of the new kind": ("Falcon", {**SIZES, "new_decoder_architecture": True, "num_kv_heads": 2}),
    "deepseek-v2": ("DeepseekV2", LATENT | SIZES | {"num_key_value_heads": 4}),
    "arcee": ("Arcee", SIZES),
    "ernie4.5-moe": ("Ernie4_5_Moe", {**SIZES, "moe_num_experts": 4, "moe_k": 2, "moe_intermediate_size": 32}),
    "gemma3 for images and text": ("Gemma3", {"text_config": {**SIZES, **MIXED, "head_dim": 8}, "vision_config": EYES}),
    "gemma3n": ("Gemma3nText", {**SIZES, **MIXED, "head_dim": 8, "num_kv_shared_layers": 0, "laurel_rank": 4,
                                "hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": 64,
                                "altup_num_inputs": 2, "activation_sparsity_pattern": [0.0, 0.0]}),
    "gemma4": ("Gemma4Text", {**GEMMA4, "global_head_dim": 16}),
    "gemma4 with shared keys": ("Gemma4Text", {**GEMMA4, "num_hidden_layers": 4, "num_kv_shared_layers": 2,
                                               "layer_types": MIXED["layer_types"] * 2,
                                               "hidden_size_per_layer_input": 8}),
    "glm": ("Glm", {**SIZES, "head_dim": 8}),
    "glm4-moe": ("Glm4Moe", {**SIZES, "head_dim": 8, "n_routed_experts": 4, "num_experts_per_tok": 2,
                             "moe_intermediate_size": 32, "first_k_dense_replace": 1}),
    "granite-moe": ("GraniteMoe", {**SIZES, **EXPERTS}),
    "helium": ("Helium", {**SIZES, "head_dim": 8}),
    "hunyuan": ("HunYuanDenseV1", {**SIZES, "head_dim": 8}),
    "minimax-m2": ("MiniMaxM2", {**SIZES, **EXPERTS, "head_dim": 8}),
    "ministral": ("Ministral", {**SIZES, **MIXED, "head_dim": 8}),
    "ministral3": ("Ministral3", {**SIZES, "head_dim": 8, **rope("yarn", factor=4.0, llama_4_scaling_beta=0.1,
                                                                  original_max_position_embeddings=64)}),
    "olmo": ("Olmo", SIZES),
    "olmo3": ("Olmo3", {**SIZES, **MIXED}),
    "olmoe": ("Olmoe", {**SIZES, "num_experts": 4, "num_experts_per_tok": 2}),
    "phi-moe": ("Phimoe", {**SIZES, **EXPERTS, "sliding_window": None}),
    "qwen2-moe": ("Qwen2Moe", {**SIZES, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32,
                               "shared_expert_intermediate_size": 32}),
    "deepseek-v3": ("DeepseekV3", LATENT | SIZES | {"num_key_value_heads": 4}),
}  # fmt: skip


def build_family(name: str, seed: int = 0) -> Any:
    """A model of a family with random weights in float64 (in float32 where its vocabulary is large)."""
    kind, fields = FAMILIES[name]
    known = {
        field: value for field, value in fields.items() if value is not None or field.endswith(("token_id", "window"))
    }
    config = getattr(transformers, f"{kind}Config")(**known)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, experts_implementation="eager")
        for parameter in model.parameters():  # norms, biases and sinks begin as constants, which would hide faults
            if parameter.ndim == 1:
                parameter.data += 0.1 * torch.randn_like(parameter)
    return model.eval().to(torch.float32 if config.get_text_config().vocab_size > VOCAB else torch.float64)
