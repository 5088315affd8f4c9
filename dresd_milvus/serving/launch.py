"""Starting vLLM's OpenAI server with this drafter: what is checked before, and the command."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from dresd_milvus.errors import InputError
from dresd_milvus.models.checkpoint import find_checkpoint
from dresd_milvus.models.fingerprint import checkpoint_fingerprint, tokenizer_hash
from dresd_milvus.models.loading import load_tokenizer
from dresd_milvus.serving.settings import DOOR, ServeSettings, worker_module

LOOPBACK = ("127.0.0.1", "localhost", "::1")
"""Addresses that only this machine reaches."""

ENGINE = {"VLLM_USE_V2_MODEL_RUNNER": "0"}
"""What the engine's environment must say: only the older runner loads a drafter of one's own."""


METRICS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""Where the processes of the engine count together; the server shows the sums under /metrics."""


def require_engine() -> None:
    """Raise InputError where vLLM is not installed, or calls drafters in another way."""
    if importlib.util.find_spec("vllm") is None:
        raise InputError("vLLM is not installed in this environment; make vllm (CPU), or see docs/serving.md for a GPU")
    from dresd_milvus.serving.vllm_speculator import check_engine

    check_engine()


def require_key(host: str, flags: Sequence[str]) -> None:
    """Raise InputError for a server that others can reach and that asks for no key."""
    if (
        host not in LOOPBACK
        and not os.environ.get("VLLM_API_KEY")
        and not any(f.startswith("--api-key") for f in flags)
    ):
        raise InputError(f"a server on {host} can be reached by others; set VLLM_API_KEY, or leave out --host")


def identify(name: str) -> tuple[str, str, str]:
    """(folder, fingerprint, tokenizer hash) of the model that --model names; its weights are not loaded.

    Raises InputError for a model that cannot be found, and for a GGUF file, which vLLM reads in another way.
    """
    found = find_checkpoint(name)
    if found.file:
        raise InputError(f"vLLM is given a folder or a hub name, not the GGUF file {found.file}; name such a model")
    return str(found.path), checkpoint_fingerprint(found.path), tokenizer_hash(load_tokenizer(name))


def server_command(
    folder: str, name: str, host: str, port: int, draft_tokens: int, flags: Sequence[str], require_corpus: bool = False
) -> list[str]:
    """The command of the server. folder: of the model. name: by which requests ask for it. flags: passed on to vLLM.
    require_corpus: refuse requests that name no corpus."""
    drafting = {"method": "custom_class", "model": worker_module(), "num_speculative_tokens": draft_tokens}
    return [
        sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", folder,
        "--served-model-name", name, "--host", host, "--port",
        str(port), "--speculative-config", json.dumps(drafting), *(["--middleware", DOOR] if require_corpus else []),
        *flags,
    ]  # fmt: skip


def check_corpora(corpora: Sequence[str], default: str | None, required: bool) -> None:
    """Raise InputError where these corpora do not allow this default, or requests that must name one."""
    if required and default is not None:
        raise InputError("--require-corpus and --default-corpus exclude each other; leave one of them out")
    if required and not corpora:
        raise InputError("the collection is of an earlier version, which kept no names of sources; ingest it again")
    if default is not None and default not in corpora:
        raise InputError(f"the collection has no corpus '{default}' (it has: {', '.join(corpora) or 'no names'})")


def start(settings: ServeSettings, command: Sequence[str], port: int) -> None:
    """Become the server: this process is replaced. Does not return. port: names the folder of the metrics."""
    metrics = Path(tempfile.gettempdir()) / f"dresd-serve-{os.getuid()}-{port}"
    shutil.rmtree(metrics, ignore_errors=True)  # what a server before has counted
    metrics.mkdir(mode=0o700)
    environment = {**os.environ, **ENGINE, METRICS_FOLDER: str(metrics), **settings.to_environment()}
    os.execvpe(command[0], list(command), environment)
