"""What every test shares: one thread, a hypothesis profile, and a tiny target whose arithmetic is exact enough."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings
from transformers import LlamaConfig, LlamaForCausalLM

from dresd_milvus.milvus.client.libraries import MilvusClient
from dresd_milvus.milvus.collections import store_names
from dresd_milvus.models.loading import LoadedModel, load_model
from dresd_milvus.target.hf_target import HFTarget
from tests import milvus_server as milvus_server_module
from tests.milvus_server import MilvusServer

torch.set_num_threads(1)  # threads that wait for each other crawl when the machine has other work
os.environ["OMP_NUM_THREADS"] = "1"  # nor do those of the commands that tests start
settings.register_profile("core", deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("core")

TINY = LlamaConfig(
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    intermediate_size=64,
    vocab_size=64,
    max_position_embeddings=256,
    initializer_range=0.3,  # large enough that greedy text varies
    tie_word_embeddings=False,
    bos_token_id=None,
    eos_token_id=None,
)


def build_tiny(
    eos_ids: Iterable[int] = (),
    seed: int = 0,
    context: int = TINY.max_position_embeddings,
    vocabulary: int = TINY.vocab_size,
) -> HFTarget:
    """A tiny random Llama in float64; the same seed gives the same weights."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        sizes = {"max_position_embeddings": context, "vocab_size": vocabulary}
        config = LlamaConfig(**{**TINY.to_dict(), **sizes})
        model = LlamaForCausalLM(config).to(torch.float64)
    return HFTarget(model, frozenset(eos_ids))


@pytest.fixture(scope="session")
def tiny() -> HFTarget:
    """The tiny target, without end tokens."""
    return build_tiny()


@pytest.fixture(scope="session")
def tiny_ending_at() -> Callable[[Iterable[int]], HFTarget]:
    """Builds the tiny target with these end tokens."""
    return build_tiny


@pytest.fixture(scope="session")
def sample() -> LoadedModel:
    """The sample model in float32."""
    return load_model("sample", "float32", "cpu")


@pytest.fixture(scope="session")
def milvus_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MilvusServer]:
    """A real Milvus server of its own, shared by the tests that do it no harm."""
    if not milvus_server_module.installed():
        pytest.skip(milvus_server_module.MISSING)
    server = MilvusServer(tmp_path_factory.mktemp("milvus") / "server")
    yield server
    server.stop()


@pytest.fixture
def server_uri(milvus_server: MilvusServer) -> Iterator[str]:
    """The address of an empty server; what a test leaves there is removed, but for projections (they take long)."""
    yield milvus_server.uri
    client = MilvusClient(milvus_server.uri, dedicated=True)
    for name in store_names(client, milvus_server.uri):
        for alias in client.list_aliases(name)["aliases"]:
            client.drop_alias(alias)
        client.drop_collection(name)
    client.close()


@pytest.fixture(params=["milvus-lite", "server"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty database: an embedded one, and a server."""
    return str(tmp_path / "a.db") if request.param == "milvus-lite" else request.getfixturevalue("server_uri")


def pytest_terminal_summary(terminalreporter) -> None:
    """Say plainly when the tests on a real server did not run."""
    if not milvus_server_module.installed():
        terminalreporter.write_line(f"tests on a real server were skipped: {milvus_server_module.MISSING}")
