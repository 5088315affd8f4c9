"""Loading the sample model, refusing what cannot be loaded, and telling models apart."""

from __future__ import annotations

import io
import json
import shutil

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM, MixtralConfig, MixtralForCausalLM, T5Config

from dresd_milvus.decoding.loop import FixedBudget, generate
from dresd_milvus.decoding.sampling import Greedy
from dresd_milvus.decoding.token_stream import TokenStream
from dresd_milvus.drafters.base import Vanilla
from dresd_milvus.drafters.prompt_lookup import PromptLookup
from dresd_milvus.errors import InputError
from dresd_milvus.models.checkpoint import SAMPLE_FOLDER
from dresd_milvus.models.loading import check_model, load_model
from tests.conftest import TINY

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


def test_a_refused_family_is_named_before_its_weights_are_read(tmp_path):
    T5Config().save_pretrained(tmp_path)
    assert "family t5 are not supported: it has an encoder and a decoder" in refusal(str(tmp_path))


def test_a_folder_without_a_tokenizer_is_told_so(copied):
    for path in copied.glob("*token*"):
        path.unlink()
    assert "has no tokenizer" in refusal(str(copied))


def test_experts_are_computed_in_float64(copied):
    config = MixtralConfig(**{**TINY.to_dict(), "vocab_size": 8192}, num_local_experts=4, num_experts_per_tok=2)
    MixtralForCausalLM(config).save_pretrained(copied)
    loaded = load_model(str(copied), "float64", "cpu")
    assert loaded.dtype == "float64"
    assert len(generate(loaded.target, Vanilla(), Greedy(), [5, 6, 7], 4, FixedBudget()).tokens) == 4


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
    assert "mlp.down_proj.weight (one of 18) is missing or has another shape" in refusal(str(copied))


def test_a_parameter_that_the_files_lack_is_refused(copied):
    tensors = load_file(copied / "model.safetensors")
    del tensors["model.norm.weight"]
    save_file(tensors, copied / "model.safetensors", {"format": "pt"})
    assert "model.norm.weight (one of 1) is missing" in refusal(str(copied))


def with_rows(folder, rows):
    """A random model in `folder` whose embedding has this many rows, with the sample's tokenizer of 8,192 ids."""
    model = LlamaForCausalLM(LlamaConfig(**{**TINY.to_dict(), "vocab_size": rows}))
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(SAMPLE_FOLDER / name, folder / name)
    return str(folder)


@pytest.mark.parametrize("load", [load_model, check_model])
def test_a_tokenizer_with_more_ids_than_the_embedding_has_rows_is_refused(tmp_path, load):
    name = with_rows(tmp_path, 8000)
    with pytest.raises(InputError, match="has 8,192 ids, but its embedding only 8,000 rows"):
        load(name)


def test_rows_that_no_token_belongs_to_do_no_harm(tmp_path):
    loaded = load_model(with_rows(tmp_path, 8192 + 64), "float32", "cpu")
    with torch.no_grad():
        loaded.target.model.get_output_embeddings().weight[:8192] = 0  # every pick is a row of the padding
    console = Console(file=io.StringIO())
    done = generate(
        loaded.target,
        PromptLookup(),
        Greedy(),
        [5, 6, 7],
        12,
        FixedBudget(),
        on_step=TokenStream(loaded.tokenizer, console),
    )
    assert len(done.tokens) == 12 and min(done.tokens) >= 8192
    assert loaded.tokenizer.decode(done.tokens) == "" == console.file.getvalue()
