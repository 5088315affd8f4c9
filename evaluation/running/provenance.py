"""Where numbers come from: code, versions, hardware, command."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

from dresd_milvus import __version__
from dresd_milvus.models.loading import LoadedModel

PACKAGES = ("torch", "transformers", "pymilvus", "milvus-lite", "numpy", "tokenizers")


def provenance(model: LoadedModel, options: dict[str, Any]) -> dict[str, Any]:
    """Everything that is needed to judge and repeat a run."""
    about = origin(options)
    about["hardware"] |= {
        "device": str(model.target.device),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "torch_threads": torch.get_num_threads(),
    }
    about["model"] = {
        "name": model.name,
        "fingerprint": model.fingerprint,
        "dtype": model.dtype,
        "end_tokens": list(model.end_tokens),
    }
    return about


def origin(options: dict[str, Any]) -> dict[str, Any]:
    """What of it holds without a model in this process."""
    return {
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "made_at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "dresd_milvus": __version__,
        "git": git_commit(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "hardware": {"processor": processor(), "cores": os.cpu_count()},
        "options": options,
    }


def git_commit() -> str | None:
    """The commit of the code that runs, with '+' when it was changed; None outside a repository."""
    here = Path(__file__).parent

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=here, capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()

    try:
        return git("rev-parse", "--short=12", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def processor() -> str:
    """The processor's name as the system gives it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
