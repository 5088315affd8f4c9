"""Models and tokenizers, from whatever a name stands for; what ends their texts; a model split over ranks."""

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
from dresd_milvus.models.gguf_file import check_config, check_read, read_tokenizer
from dresd_milvus.models.ranks import model_group
from dresd_milvus.models.self_check import compare_with_itself
from dresd_milvus.target.families import TESTED, refuse_unsupported
from dresd_milvus.target.hf_target import HFTarget

UNREADABLE = (OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError, ImportError, SafetensorError)
"""What transformers raises for a model that it cannot read."""


@dataclass(frozen=True)
class LoadedModel:
    """A target with its tokenizer and what identifies it in a store's manifest.

    name: as it was asked for, with what was done to the weights. fingerprint: of the checkpoint's files.
    weights: the fingerprint of the loaded weights, by which stores of earlier versions know the model. ends: the tokens
    that end a text. asked: the name that load_model was given, by which the model can be loaded again.
    """

    name: str
    target: HFTarget
    tokenizer: Any
    fingerprint: str
    tokenizer_hash: str
    weights: str = ""
    ends: tuple[str, ...] = ()
    asked: str = ""

    @property
    def dtype(self) -> str:
        return str(self.target.dtype).removeprefix("torch.")


def load_model(name: str, dtype: str = "auto", device: str = "auto", tp: int = 1, graphs: bool = False) -> LoadedModel:
    """Load a causal language model and its tokenizer.

    name:   'sample', a named model, a folder, a GGUF file or a hub name. dtype: one of DTYPES; auto is bfloat16 where
    the processor multiplies it natively, else float32. device: 'cpu', 'cuda', 'cuda:1', ...; auto is CUDA when there is
    one. tp: over how many ranks its matrices are split, each of which has joined (see Ranks.join) and calls this.
    graphs: verify by CUDA graphs (see target.cuda_graphs).
    Raises InputError when the model cannot be found, read or used, and for graphs without a GPU or over several ranks.
    """
    from transformers import GenerationConfig
    from transformers.utils import logging as hf_logging

    hf_logging.disable_progress_bar()
    hf_logging.set_verbosity_error()
    where = pick_device(device)
    if graphs and (where.type != "cuda" or tp > 1):
        raise InputError("--graphs replays CUDA graphs on one GPU; leave it out on a CPU and with --tp above 1")
    found = find_checkpoint(name)
    _read_config(found)  # a family that is refused, before its weights are read
    tokenizer = _read_tokenizer(found)
    # Split, each rank's part goes to its device; the whole may not fit there.
    model = _read_model(found, pick_dtype(dtype, where), where if tp == 1 else torch.device("cpu"))
    _check_ids(found, tokenizer, model.get_input_embeddings().num_embeddings)
    weights = weights_fingerprint(model)  # of the whole, before it is split
    ends = end_tokens(model, tokenizer)
    # What a model's authors recommend for sampling (penalties and the like) is no part of what it says.
    model.generation_config = GenerationConfig(eos_token_id=sorted(ends) or None, pad_token_id=tokenizer.pad_token_id)
    if tp > 1:
        model = split_model(model, tp, where)
    target = HFTarget(model, ends, fixed=graphs)
    if target.family not in TESTED:
        compare_with_itself(target)
    shown = tuple(tokenizer.convert_ids_to_tokens(sorted(ends)))
    files = checkpoint_fingerprint(found.path)
    return LoadedModel(found.title, target, tokenizer, files, tokenizer_hash(tokenizer), weights, shown, name)


def _read_model(found: Checkpoint, dtype: torch.dtype, where: torch.device) -> Any:
    """The whole model, on a device; InputError for a parameter without a value in the files, which would be random."""
    from transformers import AutoModelForCausalLM

    told: dict[str, Any] = {"output_loading_info": True, "ignore_mismatched_sizes": True}  # looked at below, and named
    if dtype == torch.float64:
        told["experts_implementation"] = "eager"  # grouped products of experts know no float64
    try:
        model, seen = AutoModelForCausalLM.from_pretrained(found.where, dtype=dtype, **told, **found.how)
        model = model.to(where)
    except UNREADABLE as error:
        raise cannot_load(found.name, error) from error
    lacking = sorted({*seen["missing_keys"], *(key for key, *_ in seen["mismatched_keys"])})
    if found.file:
        check_read(found.path, model, lacking)
    elif lacking:
        raise InputError(
            f"the weights of the model '{found.name}' are not those of its configuration: {lacking[0]} (one of "
            f"{len(lacking)}) is missing or has another shape"
        )
    return model


def _check_ids(found: Checkpoint, tokenizer: Any, rows: int) -> None:
    """Raise InputError for a tokenizer with ids that the embedding has no row for."""
    ids = max(tokenizer.get_vocab().values(), default=-1) + 1
    if ids > rows:
        raise InputError(
            f"the tokenizer of the model '{found.name}' has {ids:,} ids and its embedding {rows:,} rows: they do not "
            "belong together; use the tokenizer that the model was trained with, or enlarge the embedding"
        )


def split_model(model: Any, tp: int, where: torch.device) -> Any:
    """This rank's part of a model that lies on the CPU, on its device, under DeepSpeed's tensor parallelism (AutoTP).

    Raises InputError for a dtype or a kind of model that AutoTP does not split. On a CPU the ranks add up their parts
    over gloo: DeepSpeed's own operator has to be compiled at first use, and waits for ever for a rank that has died.
    """
    if model.dtype == torch.float64:
        raise InputError("tensor parallelism knows no float64; use --dtype float32")
    if where.type == "cpu":
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    with redirect_stdout(sys.stderr):
        import deepspeed
        from deepspeed.inference.engine import InferenceEngine

        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
        deepspeed.init_distributed(verbose=False)  # joins the group that is there
        InferenceEngine.inference_mp_group = model_group(tp)  # its own would wait half an hour for a rank that hangs
        try:
            engine = deepspeed.init_inference(
                model, tensor_parallel={"tp_size": tp}, dtype=model.dtype, replace_with_kernel_inject=False
            )
        except (AssertionError, ValueError, NotImplementedError) as error:
            raise InputError(f"DeepSpeed cannot split this model over {tp} ranks ({error}); use --tp 1") from error
    return engine.module


def load_tokenizer(name: str) -> Any:
    """The tokenizer of what load_model can load by this name; raises InputError when there is none."""
    return _read_tokenizer(find_checkpoint(name))


def _read_tokenizer(found: Checkpoint) -> Any:
    from transformers import AutoTokenizer

    try:
        return read_tokenizer(found.path) if found.file else AutoTokenizer.from_pretrained(found.where)
    except UNREADABLE as error:
        if not found.file and Path(found.where).is_dir() and not list(Path(found.where).glob("*token*")):
            raise InputError(f"the model '{found.name}' has no tokenizer; copy its tokenizer files there") from error
        raise cannot_load(found.name, error) from error


def check_model(name: str, dtype: str = "auto", device: str = "auto") -> int:
    """The hidden size of a model, from its configuration alone; raises InputError where load_model would for it."""
    pick_dtype(dtype, pick_device(device))
    found = find_checkpoint(name)
    config = _read_config(found)
    if found.file:
        check_config(found.path, config)
    _check_ids(found, _read_tokenizer(found), config.vocab_size)
    return int(config.hidden_size)


def _read_config(found: Checkpoint) -> Any:
    """The configuration of a model's text part; InputError for a family that is refused."""
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(found.where, **found.how)
    except UNREADABLE as error:
        raise cannot_load(found.name, error) from error
    refuse_unsupported(config)
    return config.get_text_config()
