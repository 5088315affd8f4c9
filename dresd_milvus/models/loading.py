"""Loading a model and its tokenizer by a value of --model, checking both, and splitting the model over ranks."""

from __future__ import annotations

import logging
import os
import sys
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from dresd_milvus.errors import InputError
from dresd_milvus.models.checkpoint import Checkpoint, cannot_load, find_checkpoint
from dresd_milvus.models.devices import pick_device, pick_dtype
from dresd_milvus.models.end_tokens import end_tokens
from dresd_milvus.models.fingerprint import checkpoint_fingerprint, tokenizer_hash, weights_fingerprint
from dresd_milvus.models.gguf_file import check_gguf_config, check_loaded, read_tokenizer
from dresd_milvus.models.ranks import model_group
from dresd_milvus.models.self_check import check_tree_logits
from dresd_milvus.target.families import TESTED, refuse_unsupported
from dresd_milvus.target.hf_target import HFTarget

UNREADABLE = (OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError, ImportError, SafetensorError)
"""The exceptions of transformers for a model that it cannot read."""


@dataclass(frozen=True)
class LoadedModel:
    """A target with its tokenizer, and what identifies both in a store's manifest.

    name: for people and results, with a note on converted weights. fingerprint: of the checkpoint's files.
    weights_fingerprint: of the loaded weights, which stores of earlier versions have. end_tokens: the tokens that end a
    text, as strings. requested_name: the name that load_model was given; it loads the same model again.
    """

    name: str
    target: HFTarget
    tokenizer: Any
    fingerprint: str
    tokenizer_hash: str
    weights_fingerprint: str = ""
    end_tokens: tuple[str, ...] = ()
    requested_name: str = ""

    @property
    def dtype(self) -> str:
        """The dtype of the parameters, as --dtype names it."""
        return str(self.target.dtype).removeprefix("torch.")


def load_model(name: str, dtype: str = "auto", device: str = "auto", tp: int = 1, graphs: bool = False) -> LoadedModel:
    """Load a causal language model and its tokenizer.

    name:   'sample', a named model, a folder, a GGUF file or a hub name.
    dtype:  one of DTYPES; 'auto' is bfloat16 if the device multiplies it natively, else float32.
    device: 'cpu', 'cuda', 'cuda:1', ...; 'auto' is CUDA if there is one.
    tp:     tensor parallelism, the number of ranks that the matrices are split over. Every rank has joined (see
            Ranks.join) and calls this function.
    graphs: verify trees by CUDA graphs (see target.cuda_graphs).

    Raises InputError for a model that cannot be found, read or used, and for graphs without a GPU or with tp above 1.
    """
    from transformers import GenerationConfig
    from transformers.utils import logging as hf_logging

    hf_logging.disable_progress_bar()
    hf_logging.set_verbosity_error()
    target_device = pick_device(device)
    if graphs and (target_device.type != "cuda" or tp > 1):
        raise InputError("--graphs replays CUDA graphs on one GPU; leave it out on a CPU and with --tp above 1")
    found = find_checkpoint(name)
    _read_config(found)  # refuses a family before the weights are read
    tokenizer = _read_tokenizer(found)
    # With several ranks only a part goes to each device, where the whole model may not fit.
    first_device = target_device if tp == 1 else torch.device("cpu")
    model = _read_model(found, pick_dtype(dtype, target_device), first_device)
    _check_ids(found, tokenizer, model.get_input_embeddings().num_embeddings)
    weights = weights_fingerprint(model)  # of the whole model, so before the split
    ends = end_tokens(model, tokenizer)
    # The sampling parameters that a model's authors recommend are dropped: `generate` of transformers would use them.
    model.generation_config = GenerationConfig(eos_token_id=sorted(ends) or None, pad_token_id=tokenizer.pad_token_id)
    if tp > 1:
        model = split_model(model, tp, target_device)
    target = HFTarget(model, ends, cuda_graphs=graphs)
    if target.family not in TESTED:
        check_tree_logits(target)
    names = tuple(tokenizer.convert_ids_to_tokens(sorted(ends)))
    files = checkpoint_fingerprint(found.path)
    return LoadedModel(found.display_name, target, tokenizer, files, tokenizer_hash(tokenizer), weights, names, name)


def _read_model(found: Checkpoint, dtype: torch.dtype, device: torch.device) -> Any:
    """The whole model on a device.

    Raises InputError for a parameter that the files have no values for: transformers would leave it random.
    """
    from transformers import AutoModelForCausalLM

    options: dict[str, Any] = {"output_loading_info": True, "ignore_mismatched_sizes": True}  # checked below
    if dtype == torch.float64:
        options["experts_implementation"] = "eager"  # the grouped matrix products of experts have no float64
    try:
        model, info = AutoModelForCausalLM.from_pretrained(found.location, dtype=dtype, **options, **found.load_options)
        model = model.to(device)
    except UNREADABLE as error:
        raise cannot_load(found.name, error) from error
    lacking = sorted({*info["missing_keys"], *(key for key, *_ in info["mismatched_keys"])})
    if found.file:
        check_loaded(found.path, model, lacking)
    elif lacking:
        raise InputError(
            f"the weights of the model '{found.name}' do not fit its configuration: {lacking[0]} (one of "
            f"{len(lacking)}) is missing or has another shape; fetch the model again"
        )
    return model


def _check_ids(found: Checkpoint, tokenizer: Any, rows: int) -> None:
    """Raise InputError for a tokenizer with ids that have no row in the embedding, which has this number of rows."""
    ids = max(tokenizer.get_vocab().values(), default=-1) + 1
    if ids > rows:
        raise InputError(
            f"the tokenizer of the model '{found.name}' has {ids:,} ids, but its embedding only {rows:,} rows; use the "
            "tokenizer that the model was trained with, or enlarge the embedding"
        )


def split_model(model: Any, tp: int, device: torch.device) -> Any:
    """Split a model over tp ranks by DeepSpeed's tensor parallelism (AutoTP); returns this rank's part, on its device.

    model: the whole model, on the CPU. Raises InputError for a dtype or an architecture that AutoTP cannot split.
    On CPUs the ranks sum their results over gloo: DeepSpeed's own operator is compiled at first use, and waits forever
    for a rank that has died.
    """
    if model.dtype == torch.float64:
        raise InputError("tensor parallelism does not support float64; use --dtype float32")
    if device.type == "cpu":
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    with redirect_stdout(sys.stderr):
        import deepspeed
        from deepspeed.inference.engine import InferenceEngine

        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
        deepspeed.init_distributed(verbose=False)  # uses the group that Ranks.join has made
        InferenceEngine.inference_mp_group = model_group(tp)  # DeepSpeed's own waits half an hour for a rank
        try:
            engine = deepspeed.init_inference(
                model, tensor_parallel={"tp_size": tp}, dtype=model.dtype, replace_with_kernel_inject=False
            )
        except (AssertionError, ValueError, NotImplementedError) as error:
            raise InputError(f"DeepSpeed cannot split this model over {tp} ranks ({error}); use --tp 1") from error
    return engine.module


def load_tokenizer(name: str) -> Any:
    """The tokenizer of the model that load_model would load by this name; raises InputError if it cannot be read."""
    return _read_tokenizer(find_checkpoint(name))


def _read_tokenizer(found: Checkpoint) -> Any:
    from transformers import AutoTokenizer

    try:
        return read_tokenizer(found.path) if found.file else AutoTokenizer.from_pretrained(found.location)
    except UNREADABLE as error:
        if not found.file and Path(found.location).is_dir() and not list(Path(found.location).glob("*token*")):
            raise InputError(f"the model '{found.name}' has no tokenizer; copy its tokenizer files there") from error
        raise cannot_load(found.name, error) from error


def check_model(name: str, dtype: str = "auto", device: str = "auto") -> int:
    """Check a model without reading its weights; returns its hidden size.

    Raises InputError if the configuration or the tokenizer would make load_model raise it.
    """
    pick_dtype(dtype, pick_device(device))
    found = find_checkpoint(name)
    config = _read_config(found)
    if found.file:
        check_gguf_config(found.path, config)
    _check_ids(found, _read_tokenizer(found), config.vocab_size)
    return int(config.hidden_size)


def _read_config(found: Checkpoint) -> Any:
    """The configuration of a model's text part; raises InputError for an unsupported family."""
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(found.location, **found.load_options)
    except UNREADABLE as error:
        raise cannot_load(found.name, error) from error
    refuse_unsupported(config)
    return config.get_text_config()
