"""GGUF files: reading their header, and checking that transformers reads all of a file.

transformers ignores fields and tensors that it does not know. It would then load another model than the one in the
file, without an error. Therefore the loaded configuration and parameters are compared with the file, and a file with
anything left over is refused.
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
"""Kinds of tensors that are not quantised."""

SPLIT_AS_GPT2 = ("gpt-2", "smollm", "starcoder")
"""Tokenizers that split text as GPT-2 does. They also separate digits, but their merges never join digits anyway."""

SHAPE_FIELDS = ("vocab_size", "feed_forward_length", "expert_count", "expert_feed_forward_length",
            "expert_shared_feed_forward_length")  # fmt: skip
"""Fields that the shapes of tensors repeat, so that they need no comparison."""

NEUTRAL = {"rope.scaling.type": "none", "rope.scaling.factor": 1.0, "rope.scaling.attn_factor": 1.0}
"""Values that change nothing, by field."""

UNUSED = ("tensor_data_layout", "use_parallel_residual")
"""Fields that the model does not depend on."""

UNRECORDED_SCALE = {"gemma2": (46, "Gemma-2 27B"), "gemma3": (62, "Gemma-3 27B")}
"""Models whose scale of attention the format does not record, by architecture: the number of layers, and the name."""


class Tensor(NamedTuple):
    """A tensor in the file. kind: format of its numbers (F16, Q4_1, ...). begin, size: its place, in bytes."""

    name: str
    kind: str
    shape: tuple[int, ...]
    begin: int
    size: int


class Header(NamedTuple):
    """The header of a file. fields: its metadata, where an array of strings is replaced by its length."""

    fields: dict[str, Any]
    tensors: list[Tensor]

    @property
    def kind(self) -> str:
        """The format in which most of the weights are stored."""
        weights = Counter[str]()
        for tensor in self.tensors:
            weights[tensor.kind] += math.prod(tensor.shape)
        return weights.most_common(1)[0][0]


def read_header(path: Path) -> Header:
    """The header of a GGUF file.

    Raises InputError if the extra `gguf` is not installed, and for a file that is not GGUF or is cut off.
    """
    if not all(importlib.util.find_spec(package) for package in ("gguf", "accelerate")):
        raise InputError("reading a GGUF file needs the packages gguf and accelerate; pip install 'dresd-milvus[gguf]'")
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
        raise InputError(f"the file {path} is not a GGUF file, or is damaged ({error}); fetch it again") from error


def _value(field: Any) -> Any:
    from gguf import GGUFValueType

    strings = field.types[0] == GGUFValueType.ARRAY and field.types[-1] == GGUFValueType.STRING
    return len(field.data) if strings else field.contents()


def check_gguf(path: Path) -> Header:
    """The header of a GGUF file; raises InputError for a file that transformers would read wrongly or incompletely."""
    header = read_header(path)
    fields = header.fields
    architecture = str(fields.get("general.architecture"))
    layers, scaled = UNRECORDED_SCALE.get(architecture, (0, ""))
    if fields.get("split.count", 1) > 1:
        raise InputError(
            f"the file {path} is one of {fields['split.count']} parts of a model; join them: llama-gguf-split --merge"
        )
    for tensor in header.tensors:
        if tensor.name.startswith(("rope_freqs", "rope_factors")):  # Llama 3.1 and later, Phi-3 with a long context
            raise _refusal(path, f"scales positions by its tensor {tensor.name}")
    if scaled and fields.get(f"{architecture}.block_count") == layers:
        raise _refusal(path, f"is {scaled}, and the file does not record how its attention is scaled")
    if fields.get("tokenizer.ggml.model") == "gpt2" and fields.get("tokenizer.ggml.pre") not in _known_splits():
        raise _refusal(path, f"splits text for its tokenizer in the way {fields.get('tokenizer.ggml.pre')!r}")
    return header


def _known_splits() -> tuple[str, ...]:
    """The ways to split text, by their names in `tokenizer.ggml.pre`, that transformers reads correctly."""
    try:
        from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS
    except ImportError:  # older versions of transformers know these two
        return (*SPLIT_AS_GPT2, "llama-bpe", "qwen2")
    return (*SPLIT_AS_GPT2, *GGUF_PRE_TOKENIZER_SPLITS)


def check_gguf_config(path: Path, config: Any) -> None:
    """Raise InputError if a configuration that transformers made from a file disagrees with a field of the file."""
    fields = read_header(path).fields
    prefix = f"{fields['general.architecture']}."
    ours = _as_fields(config.get_text_config(), fields.get(f"{prefix}context_length"))
    for key, value in fields.items():
        name = key.removeprefix(prefix)
        if not key.startswith(prefix) or name in SHAPE_FIELDS or name in UNUSED or _same(NEUTRAL.get(name), value):
            continue
        if name not in ours or not _same(ours[name], value):
            raise _refusal(path, f"says {key} = {value}, but the model would have {ours.get(name, 'nothing')}")


def _as_fields(config: Any, context: int | None) -> dict[str, Any]:
    """The values of a configuration under the names of GGUF's fields. context: the file's own context length."""

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
    """The tokenizer of a GGUF file, with exactly the tokens that the file lists.

    transformers adds GPT-2's <|endoftext|> if the file has none. Its id would have no row in the embedding.
    """
    from tokenizers import Tokenizer
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    listed = read_header(path).fields["tokenizer.ggml.tokens"]
    if len(tokenizer) > listed:
        content = json.loads(tokenizer.backend_tokenizer.to_str())
        content["added_tokens"] = [token for token in content["added_tokens"] if token["id"] < listed]
        tokenizer._tokenizer = Tokenizer.from_str(json.dumps(content))
        vocabulary = tokenizer.get_vocab()
        for role, token in tokenizer.special_tokens_map.items():
            if isinstance(token, str) and token not in vocabulary:
                setattr(tokenizer, role, None)
    return tokenizer


def check_loaded(path: Path, model: Any, lacking: Sequence[str]) -> None:
    """Raise InputError unless the model has all numbers of the file and no others.

    lacking: names of the parameters for which transformers found no tensor. Afterwards transformers no longer treats
    the model as quantised, so that it can be saved.
    """
    check_gguf_config(path, model.config)
    inside = sum(math.prod(tensor.shape) for tensor in read_header(path).tensors)
    parameters = {tensor.data_ptr(): tensor.numel() for tensor in model.state_dict().values()}  # tied ones count once
    if lacking:
        raise _refusal(path, f"has no tensor that would become {lacking[0]} (one of {len(lacking)})")
    if inside != sum(parameters.values()):
        raise _refusal(path, f"holds {inside:,} numbers, but the model has {sum(parameters.values()):,}")
    if getattr(model, "hf_quantizer", None) is not None:  # transformers 5.16 has no quantizer here
        model.hf_quantizer.remove_quantization_config(model)


def _refusal(path: Path, reason: str) -> InputError:
    """The error for a file that transformers would read wrongly; reason: what the file does, without a subject."""
    return InputError(f"transformers would read the file {path} wrongly: it {reason}; use the model's safetensors")
