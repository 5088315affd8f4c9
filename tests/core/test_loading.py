"""Loading the sample model, refusing what cannot be loaded, and telling models apart."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

from dresd_milvus.choose import Greedy
from dresd_milvus.decode import FixedBudget, generate
from dresd_milvus.drafters.base import Vanilla
from dresd_milvus.errors import InputError
from dresd_milvus.loading import (
    DTYPES,
    SAMPLE_FOLDER,
    load_model,
    load_tokenizer,
    model_fingerprint,
    pick_device,
    pick_dtype,
    tokenizer_hash,
)

CPU = torch.device("cpu")


@pytest.fixture
def copied(tmp_path):
    """A folder with a copy of the sample model, to spoil."""
    return shutil.copytree(SAMPLE_FOLDER, tmp_path / "model")


def refusal(*arguments: str) -> str:
    """What load_model says when it refuses; checked to be one line."""
    with pytest.raises(InputError) as caught:
        load_model(*arguments)
    message = str(caught.value)
    assert message and "\n" not in message
    return message


def test_the_sample_model_loads_and_continues_a_prompt(sample):
    prompt = sample.tokenizer("Once upon a time")["input_ids"]
    result = generate(sample.target, Vanilla(), Greedy(), prompt, 8, FixedBudget())
    assert sample.dtype == "float32" and sample.name == "sample"
    assert sample.target.eos_ids == {1} and len(sample.tokenizer) <= sample.target.vocab_size
    assert len(result.tokens) == 8 or result.reason == "eos"


def test_a_folder_is_loaded_like_the_sample_it_copies(sample, copied):
    loaded = load_model(str(copied), "float32", "cpu")
    assert loaded.fingerprint == sample.fingerprint and loaded.tokenizer_hash == sample.tokenizer_hash


@pytest.mark.parametrize("name", ["no-such-model", "nobody-at-all/no-such-model", "./missing", "/no/such/folder"])
def test_an_unknown_model_is_refused(name, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert name in refusal(name)


def test_graphs_without_a_gpu_are_refused():
    with pytest.raises(InputError, match="leave it out on a CPU"):
        load_model("sample", device="cpu", graphs=True)


def test_a_folder_without_a_config_is_refused(tmp_path):
    assert "config.json" in refusal(str(tmp_path))


@pytest.mark.parametrize("content", ["", "{}", "not json", '{"model_type": "unheard-of"}'])
def test_a_folder_with_a_bad_config_is_refused(copied, content):
    (copied / "config.json").write_text(content)
    refusal(str(copied))


@pytest.mark.parametrize("missing", ["model.safetensors", "tokenizer.json"])
def test_a_folder_with_a_file_missing_is_refused(copied, missing):
    (copied / missing).unlink()
    refusal(str(copied))


def test_truncated_weights_are_refused(copied):
    weights = copied / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    refusal(str(copied))


def test_weights_of_another_shape_are_refused(copied):
    config = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps({**config, "intermediate_size": 100}))
    refusal(str(copied))


@pytest.mark.parametrize("dtype", ["float8", "int8", "Float32", ""])
def test_a_bad_dtype_is_refused(dtype):
    assert "float32" in refusal("sample", dtype, "cpu")


@pytest.mark.parametrize("device", ["nonsense", "", "cpu:x", "meta"])
def test_a_bad_device_is_refused(device):
    refusal("sample", "float32", device)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_cuda_is_refused_where_there_is_none(device):
    assert "CUDA" in refusal("sample", "float32", device)


def test_auto_is_a_device_and_a_dtype_that_work():
    assert pick_device("auto").type in ("cpu", "cuda")
    assert pick_dtype("auto", CPU) in (torch.bfloat16, torch.float32)
    assert [pick_dtype(dtype, CPU) for dtype in DTYPES[1:]] == [getattr(torch, dtype) for dtype in DTYPES[1:]]


@pytest.mark.parametrize("dtype", ["bfloat16", "float64"])
def test_the_fingerprint_is_the_same_in_every_dtype_that_holds_the_checkpoint(sample, dtype):
    assert load_model("sample", dtype, "cpu").fingerprint == sample.fingerprint


def test_the_fingerprint_differs_after_training():
    model = load_model("sample", "float32", "cpu").target.model
    before = model_fingerprint(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    assert model_fingerprint(model) != before


def test_the_fingerprint_differs_between_random_models(tiny, tiny_ending_at):
    assert model_fingerprint(tiny.model) == model_fingerprint(tiny_ending_at(()).model)
    assert model_fingerprint(tiny.model) != model_fingerprint(type(tiny.model)(tiny.model.config))


def test_the_tokenizer_hash_is_stable_and_sees_added_tokens(sample):
    tokenizer = load_tokenizer("sample")
    assert tokenizer_hash(tokenizer) == sample.tokenizer_hash
    tokenizer.add_tokens(["a-token-that-was-not-there"])
    assert tokenizer_hash(tokenizer) != sample.tokenizer_hash


def test_every_rank_of_a_launcher_has_its_own_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    assert pick_device("auto") == torch.device("cuda")
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert pick_device("auto") == torch.device("cuda:3")
