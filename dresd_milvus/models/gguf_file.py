"""GGUF files: what one holds, and whether transformers reads all of it.

transformers passes over what it does not know. A model of such a file would run and be another one, so what the loaded
model says is compared with what the file says, and a file of which anything is left over is refused.
"""

from __future__ import annotations

import importlib.util
import json
import math
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from dresd_milvus.errors import InputError

FLOATS = ("F32", "F16", "BF16", "F64")

SPLIT_AS_GPT2 = ("gpt-2", "smollm", "starcoder")
"""Tokenizers that split text as GPT-2 does, but for digits that stand alone, which their merges never join."""

BY_SHAPE = ("vocab_size", "feed_forward_length", "expert_count", "expert_feed_forward_length",
            "expert_shared_feed_forward_length")  # fmt: skip
NEUTRAL = {"rope.scaling.type": "none", "rope.scaling.factor": 1.0, "rope.scaling.attn_factor": 1.0}
UNUSED = ("tensor_data_layout", "use_parallel_residual")
"""Fields that need not be compared: the shapes of tensors say the same, they change nothing, or tensors decide."""

SCALED = {"gemma2": (46, "Gemma-2 27B"), "gemma3": (62, "Gemma-3 27B")}
"""Models, by architecture and number of layers, that scale attention in a way that the format does not record."""


class Tensor(NamedTuple):
    """kind: how its numbers are stored (F16, Q4_1, ...). begin, size: where its bytes are in the file."""

    name: str
    kind: str
    shape: tuple[int, ...]
    begin: int
    size: int


class Header(NamedTuple):
    """fields: the file's metadata; of an array of strings, only their number."""

    fields: dict[str, Any]
    tensors: list[Tensor]

    @property
    def kind(self) -> str:
        """How most of the weights are stored."""
        weights = Counter[str]()
        for tensor in self.tensors:
            weights[tensor.kind] += math.prod(tensor.shape)
        return weights.most_common(1)[0][0]


def read_header(path: Path) -> Header:
    """What a GGUF file holds; raises InputError without the extra `gguf` and for a file that is none or is cut off."""
    if not all(importlib.util.find_spec(package) for package in ("gguf", "accelerate")):
        raise InputError("a GGUF file is read by the packages gguf and accelerate: pip install 'dresd-milvus[gguf]'")
    return _read_header(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=4)
def _read_header(path: Path, _changed: int) -> Header:
    from gguf import GGUFReader

    try:
        reader = GGUFReader(path)
        tensors = [
            Tensor(t.name, t.tensor_type.name, tuple(map(int, t.shape)), int(t.data_offset), int(t.n_bytes))
            for t in reader.tensors
        ]
        if not tensors:
            raise ValueError("it holds no tensors")
        return Header({name: _value(field) for name, field in reader.fields.items()}, tensors)
    except (ValueError, KeyError, IndexError, OverflowError) as error:
        raise InputError(f"the file {path} is no GGUF file, or is damaged ({error}); fetch it again") from error


def _value(field: Any) -> Any:
    from gguf import GGUFValueType

    strings = field.types[0] == GGUFValueType.ARRAY and field.types[-1] == GGUFValueType.STRING
    return len(field.data) if strings else field.contents()


def check_file(path: Path) -> Header:
    """What a GGUF file holds; raises InputError for what transformers would read wrongly, or only a part of."""
    header = read_header(path)
    fields = header.fields
    architecture = str(fields.get("general.architecture"))
    layers, scaled = SCALED.get(architecture, (0, ""))
    if fields.get("split.count", 1) > 1:
        raise InputError(
            f"the file {path} is one of {fields['split.count']} parts of a model; join them: llama-gguf-split --merge"
        )
    for tensor in header.tensors:
        if tensor.name.startswith(("rope_freqs", "rope_factors")):  # of Llama 3.1 and later, of long Phi-3
            raise _refusal(path, f"scales positions by its tensor {tensor.name}")
    if scaled and fields.get(f"{architecture}.block_count") == layers:
        raise _refusal(path, f"is {scaled}, whose attention is scaled in a way that the file does not say")
    if fields.get("tokenizer.ggml.model") == "gpt2" and fields.get("tokenizer.ggml.pre") not in _known_splits():
        raise _refusal(path, f"splits text for its tokenizer in the way {fields.get('tokenizer.ggml.pre')!r}")
    return header


def _known_splits() -> tuple[str, ...]:
    try:
        from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS
    except ImportError:  # an older transformers, which knows these two
        return (*SPLIT_AS_GPT2, "llama-bpe", "qwen2")
    return (*SPLIT_AS_GPT2, *GGUF_PRE_TOKENIZER_SPLITS)


def check_config(path: Path, config: Any) -> None:
    """Raise InputError where the configuration that transformers made of a file's fields does not say the same."""
    fields = read_header(path).fields
    prefix = f"{fields['general.architecture']}."
    ours = _as_fields(config.get_text_config(), fields.get(f"{prefix}context_length"))
    for key, value in fields.items():
        name = key.removeprefix(prefix)
        if not key.startswith(prefix) or name in BY_SHAPE or name in UNUSED or _same(NEUTRAL.get(name), value):
            continue
        if name not in ours or not _same(ours[name], value):
            raise _refusal(path, f"says {key} = {value}, and {ours.get(name, 'nothing')} would come of it")


def _as_fields(config: Any, context: int | None) -> dict[str, Any]:
    """What a configuration says, under the names of GGUF's fields."""

    def first(*names: str) -> Any:
        return next((value for name in names if (value := getattr(config, name, None)) is not None), None)

    heads = config.num_attention_heads
    head = first("head_dim") or config.hidden_size // heads
    rope = first("rope_parameters") or {}
    rope = rope.get("full_attention", rope)
    rotated = rope.get("partial_rotary_factor") or first("partial_rotary_factor") or 1.0
    epsilon = first("rms_norm_eps", "norm_eps", "layer_norm_eps", "layer_norm_epsilon", "norm_epsilon")
    return {
        "context_length": config.max_position_embeddings,
        "block_count": config.num_hidden_layers,
        "embedding_length": config.hidden_size,
        "attention.head_count": heads,
        "attention.head_count_kv": first("num_key_value_heads") or heads,
        "attention.key_length": head,
        "attention.value_length": head,
        "attention.layer_norm_epsilon": epsilon,
        "attention.layer_norm_rms_epsilon": epsilon,
        "attention.sliding_window": first("sliding_window"),
        "attn_logit_softcapping": first("attn_logit_softcapping"),
        "final_logit_softcapping": first("final_logit_softcapping"),
        "expert_used_count": first("num_experts_per_tok"),
        "rope.dimension_count": round(head * rotated),
        "rope.freq_base": rope.get("rope_theta"),
        "rope.scaling.original_context_length": context,
    }


def _same(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, int | float) and isinstance(theirs, int | float):
        return math.isclose(ours, theirs, rel_tol=1e-6)
    return ours == theirs


def read_tokenizer(path: Path) -> Any:
    """A file's tokenizer, with the tokens that it lists and no other.

    transformers adds GPT-2's <|endoftext|> where there is none, an id that the embedding has no row for.
    """
    from tokenizers import Tokenizer
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    listed = read_header(path).fields["tokenizer.ggml.tokens"]
    if len(tokenizer) > listed:
        content = json.loads(tokenizer.backend_tokenizer.to_str())
        content["added_tokens"] = [token for token in content["added_tokens"] if token["id"] < listed]
        tokenizer._tokenizer = Tokenizer.from_str(json.dumps(content))
        there = tokenizer.get_vocab()
        for role, token in tokenizer.special_tokens_map.items():
            if isinstance(token, str) and token not in there:
                setattr(tokenizer, role, None)
    return tokenizer


def check_read(path: Path, model: Any, lacking: Sequence[str]) -> None:
    """Raise InputError unless every value of a file is in the model and every value of the model is from the file.

    lacking: the names of the parameters that transformers found nothing for. The model can be saved then: it no longer
    counts as quantised.
    """
    check_config(path, model.config)
    inside = sum(math.prod(tensor.shape) for tensor in read_header(path).tensors)
    parameters = {tensor.data_ptr(): tensor.numel() for tensor in model.state_dict().values()}  # tied ones once
    if lacking:
        raise _refusal(path, f"has no tensor that would become {lacking[0]} (one of {len(lacking)})")
    if inside != sum(parameters.values()):
        raise _refusal(path, f"holds {inside:,} numbers, and the model is made of {sum(parameters.values()):,}")
    if getattr(model, "hf_quantizer", None) is not None:  # transformers 5.16 sets none
        model.hf_quantizer.remove_quantization_config(model)


def _refusal(path: Path, reason: str) -> InputError:
    return InputError(f"transformers would read the file {path} wrongly: it {reason}; use the model's safetensors")
