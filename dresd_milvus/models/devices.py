"""The device and the dtype of a model: what --device and --dtype mean on this machine."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from dresd_milvus.errors import InputError

DTYPES = ("auto", "bfloat16", "float16", "float32", "float64")


def pick_device(device: str) -> torch.device:
    """The device that a value of --device names.

    'auto' is CUDA if there is one (the rank's own under a launcher), else the CPU. Raises InputError for a device that
    this machine does not have.
    """
    if device == "auto":
        rank = os.environ.get("LOCAL_RANK", "")
        return torch.device(f"cuda:{rank}" if rank else "cuda") if torch.cuda.is_available() else torch.device("cpu")
    try:
        found = torch.device(device)
    except RuntimeError:
        found = torch.device("meta")
    if found.type not in ("cpu", "cuda"):
        raise InputError(f"there is no device '{device}'; use auto, cpu or cuda")
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise InputError(
            f"there is no device '{device}': this machine has {torch.cuda.device_count()} CUDA devices; "
            "use --device cpu or another one"
        )
    return found


def pick_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """The dtype that a value of --dtype names (see DTYPES).

    'auto' is bfloat16 if the device multiplies it natively, else float32. Raises InputError for an unknown name.
    """
    if dtype not in DTYPES:
        raise InputError(f"there is no dtype '{dtype}'; use one of {', '.join(DTYPES)}")
    if dtype != "auto":
        return torch.__dict__[dtype]
    return torch.bfloat16 if multiplies_bfloat16(device) else torch.float32


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 natively: CUDA from Ampere on, CPUs with AVX512-BF16 or AMX."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device)[0] >= 8
    capabilities = torch.backends.cpu.get_cpu_capability()
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    return "AVX512" in capabilities.upper() and ("avx512_bf16" in flags or "amx_bf16" in flags)
