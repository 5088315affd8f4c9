"""Tiny GGUF files, written as llama.cpp's converter writes them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from tokenizers.pre_tokenizers import ByteLevel
from transformers import AutoModelForCausalLM, LlamaConfig

LETTERS = sorted(ByteLevel.alphabet())
TOKENS = [*LETTERS, "th", "the", "<|im_start|>", "<|im_end|>"]
START, END = 258, 259
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
HEADS, KV_HEADS = 4, 2


def tiny_llama(tied: bool = True, seed: int = 0) -> Any:
    """A random Llama in float32 with a row for each of TOKENS."""
    return tiny(LlamaConfig, tied, seed)


def tiny(kind: Callable[..., Any], tied: bool = True, seed: int = 0) -> Any:
    """A random model of this kind of configuration."""
    config = kind(
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=HEADS,
        num_key_value_heads=KV_HEADS,
        intermediate_size=96,
        vocab_size=len(TOKENS),
        max_position_embeddings=256,
        initializer_range=0.3,
        tie_word_embeddings=tied,
        bos_token_id=START,
        eos_token_id=START,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config).eval()
        for parameter in model.parameters():
            parameter.data += 0.01 * torch.randn_like(parameter)  # biases and norms differ, too
        return model


def write_gguf(
    path: Path,
    model: Any,
    kind: str = "F32",
    architecture: str = "llama",
    split: str = "smollm",
    fields: dict[str, Any] | None = None,
    extra: dict[str, np.ndarray] | None = None,
    without: str = "",
) -> Path:
    """Write a model with its tokenizer. kind: how matrices are stored. fields: more metadata, without the
    architecture's name in front. extra: more tensors. without: a tensor to leave out.
    """
    config = model.config
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    if architecture == "llama":
        writer.add_rope_dimension_count(config.head_dim)
        writer.add_vocab_size(config.vocab_size)
    for name, value in (fields or {}).items():
        writer.add_key_value(name.format(a=architecture), value, _TYPES[type(value)])
    _write_tokenizer(writer, split)
    for name, tensor in {**_tensors(model, architecture), **(extra or {})}.items():
        if name == without:
            continue
        stored = gguf.GGMLQuantizationType[kind] if tensor.ndim > 1 else gguf.GGMLQuantizationType.F32
        writer.add_tensor(name, gguf.quants.quantize(tensor, stored), raw_dtype=stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


_TYPES = {
    int: gguf.GGUFValueType.UINT32,
    float: gguf.GGUFValueType.FLOAT32,
    str: gguf.GGUFValueType.STRING,
}


def _write_tokenizer(writer: gguf.GGUFWriter, split: str) -> None:
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(split)
    writer.add_token_list(TOKENS)
    writer.add_token_types([1] * (len(TOKENS) - 2) + [3, 3])  # the last two are control tokens
    writer.add_token_merges(["t h", "th e"])
    writer.add_bos_token_id(START)
    writer.add_eos_token_id(START)
    writer.add_chat_template(TEMPLATE)


def _tensors(model: Any, architecture: str) -> dict[str, np.ndarray]:
    kind = {"qwen2": gguf.MODEL_ARCH.QWEN2, "qwen3": gguf.MODEL_ARCH.QWEN3}.get(architecture, gguf.MODEL_ARCH.LLAMA)
    names = gguf.get_tensor_name_map(kind, model.config.num_hidden_layers)
    found = {}
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and model.config.tie_word_embeddings:
            continue
        values, (base, _, ending) = tensor.float().numpy(), name.rpartition(".")
        if kind is gguf.MODEL_ARCH.LLAMA and ("q_proj" in name or "k_proj" in name):  # a head's halves alternate there
            heads = HEADS if "q_proj" in name else KV_HEADS
            values = values.reshape(heads, 2, -1, values.shape[1]).swapaxes(1, 2).reshape(values.shape)
        found[f"{names.get_name(base)}.{ending}"] = np.ascontiguousarray(values)
    return found
