"""Models and tokenizers: from a folder, from the hub, or the sample model that is shipped with the package."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sys
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from dresd_milvus.errors import InputError
from dresd_milvus.families import TESTED, compare_with_itself, refuse_unsupported
from dresd_milvus.ranks import model_group
from dresd_milvus.target import HFTarget

SAMPLE = "sample"
SAMPLE_FOLDER = Path(__file__).parent / "sample"
DTYPES = ("auto", "bfloat16", "float16", "float32", "float64")


@dataclass(frozen=True)
class LoadedModel:
    """A target with its tokenizer and what identifies it in a store's manifest."""

    name: str
    target: HFTarget
    tokenizer: Any
    fingerprint: str
    tokenizer_hash: str

    @property
    def dtype(self) -> str:
        return str(self.target.dtype).removeprefix("torch.")


def load_model(name: str, dtype: str = "auto", device: str = "auto", tp: int = 1, graphs: bool = False) -> LoadedModel:
    """Load a causal language model and its tokenizer.

    name:   'sample', a folder, or a hub name. dtype: one of DTYPES; auto is bfloat16 where the processor multiplies
    it natively, else float32. device: 'cpu', 'cuda', 'cuda:1', ...; auto is CUDA when there is one. tp: over how many
    ranks its matrices are split, each of which has joined (see Ranks.join) and calls this. graphs: verify by CUDA
    graphs (see `fixed`).
    Raises InputError when the model cannot be found, read or used, and for graphs without a GPU or over several ranks.
    """
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, GenerationConfig
    from transformers.utils import logging as hf_logging

    hf_logging.disable_progress_bar()
    hf_logging.set_verbosity_error()
    where = pick_device(device)
    if graphs and (where.type != "cuda" or tp > 1):
        raise InputError("--graphs replays CUDA graphs on one GPU; leave it out on a CPU and with --tp above 1")
    tokenizer = load_tokenizer(name)
    source = str(SAMPLE_FOLDER) if name == SAMPLE else name
    try:
        model = AutoModelForCausalLM.from_pretrained(source, dtype=pick_dtype(dtype, where))
        if tp == 1:  # split, each rank's part goes to its device; the whole may not fit there
            model = model.to(where)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise _cannot_load(name, error) from error
    fingerprint = model_fingerprint(model)  # of the whole, before it is split
    ends = _eos_ids(model, tokenizer)
    # What a model's authors recommend for sampling (penalties and the like) is no part of what it says.
    model.generation_config = GenerationConfig(eos_token_id=sorted(ends) or None, pad_token_id=tokenizer.pad_token_id)
    if tp > 1:
        model = split_model(model, tp, where)
    target = HFTarget(model, ends, fixed=graphs)
    if target.family not in TESTED:
        compare_with_itself(target)
    return LoadedModel(name, target, tokenizer, fingerprint, tokenizer_hash(tokenizer))


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
    """The tokenizer of 'sample', a folder or a hub name; raises InputError when there is none."""
    from transformers import AutoTokenizer

    source = str(SAMPLE_FOLDER) if name == SAMPLE else name
    if name != SAMPLE:
        _check_there(name)
    try:
        return AutoTokenizer.from_pretrained(source)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise _cannot_load(name, error) from error


def check_model(name: str, dtype: str = "auto", device: str = "auto") -> int:
    """The hidden size of a model, from its configuration alone; raises InputError where load_model would for it."""
    from transformers import AutoConfig

    pick_dtype(dtype, pick_device(device))
    if name != SAMPLE:
        _check_there(name)
    try:
        config = AutoConfig.from_pretrained(str(SAMPLE_FOLDER) if name == SAMPLE else name)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise _cannot_load(name, error) from error
    refuse_unsupported(config)
    return int(config.get_text_config().hidden_size)


def _check_there(name: str) -> None:
    """Raise InputError for a folder without a model and for a name that the hub does not answer for.

    Asked once and at once: loading would try again for most of a minute before it says that there is no network.
    """
    from huggingface_hub import HfApi, try_to_load_from_cache

    folder = Path(name)
    if folder.is_dir():
        if not (folder / "config.json").exists():
            raise InputError(f"the folder {name} holds no model: config.json is missing")
        return
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise InputError(f"there is no model folder {name}; give a folder, a hub name or 'sample'")
    try:
        if not isinstance(try_to_load_from_cache(name, "config.json"), str):
            HfApi().model_info(name, timeout=20)
    except Exception as error:  # whatever the hub's client of the day raises, it means one thing here
        raise _cannot_load(name, error) from error


def _cannot_load(name: str, error: Exception) -> InputError:
    reason = str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__
    return InputError(f"cannot load the model '{name}': give a folder, a hub name or 'sample' ({reason})")


def pick_device(device: str) -> torch.device:
    """'auto' is CUDA when there is one, a launcher's rank its own; InputError for a device that is not there."""
    if device == "auto":
        rank = os.environ.get("LOCAL_RANK", "")
        return torch.device(f"cuda:{rank}" if rank else "cuda") if torch.cuda.is_available() else torch.device("cpu")
    try:
        where = torch.device(device)
    except RuntimeError:
        where = torch.device("meta")
    if where.type not in ("cpu", "cuda"):
        raise InputError(f"there is no device '{device}'; use auto, cpu or cuda")
    if where.type == "cuda" and (where.index or 0) >= torch.cuda.device_count():
        raise InputError(
            f"the device '{device}' was asked for and this machine has {torch.cuda.device_count()} CUDA devices; "
            "use --device cpu or another one"
        )
    return where


def pick_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """'auto' is bfloat16 where it is multiplied natively, else float32; raises InputError for another name."""
    if dtype not in DTYPES:
        raise InputError(f"there is no dtype '{dtype}'; use one of {', '.join(DTYPES)}")
    if dtype != "auto":
        return torch.__dict__[dtype]
    return torch.bfloat16 if multiplies_bfloat16(device) else torch.float32


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 is native: CUDA from Ampere on, processors with AVX512-BF16 or AMX."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device)[0] >= 8
    capabilities = torch.backends.cpu.get_cpu_capability()
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    return "AVX512" in capabilities.upper() and ("avx512_bf16" in flags or "amx_bf16" in flags)


def _eos_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    """Every id that ends a text: the generation config's, else the tokenizer's."""
    ids = getattr(model.generation_config, "eos_token_id", None)
    ids = tokenizer.eos_token_id if ids is None else ids
    return frozenset([] if ids is None else [ids] if isinstance(ids, int) else ids)


def model_fingerprint(model: Any) -> str:
    """A short hash that tells models apart: the architecture and a sample of every tensor's values.

    Sampled at up to 64 places a tensor, in float64 and rounded to bfloat16, so that a checkpoint kept in bfloat16
    has one fingerprint in every dtype it is loaded in, and a fine-tuned copy has another.
    """
    digest = hashlib.sha256(model.config.model_type.encode())
    for name, tensor in model.state_dict().items():
        flat = tensor.detach().reshape(-1)
        places = torch.linspace(0, flat.numel() - 1, min(64, flat.numel()), device=flat.device).long()
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        digest.update(flat[places].to(torch.bfloat16).view(torch.int16).cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def tokenizer_hash(tokenizer: Any) -> str:
    """A short hash of the vocabulary and the special tokens."""
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda item: (item[1], item[0]))
    content = json.dumps([vocabulary, sorted(map(str, tokenizer.special_tokens_map.items()))])
    return hashlib.sha256(content.encode()).hexdigest()[:16]
