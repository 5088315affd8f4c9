"""Fingerprints of models: the same for all ways to load a model, another one for another model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file

from dresd_milvus.errors import InputError
from dresd_milvus.models.checkpoint import SAMPLE_FOLDER, find_checkpoint
from dresd_milvus.models.fingerprint import checkpoint_fingerprint, tokenizer_hash, weights_fingerprint
from dresd_milvus.models.loading import load_model, load_tokenizer

DRAFT = SAMPLE_FOLDER / "draft"


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A folder with a copy of the sample's draft model, to change."""
    return shutil.copytree(DRAFT, tmp_path / "model")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_it_is_the_same_in_every_dtype(sample, dtype) -> None:
    loaded = load_model("sample", dtype, "cpu")
    assert loaded.fingerprint == sample.fingerprint == checkpoint_fingerprint(SAMPLE_FOLDER)
    assert loaded.weights_fingerprint == sample.weights_fingerprint  # these hold the checkpoint's bfloat16 exactly


def test_shards_are_no_other_model(copied: Path) -> None:
    tensors = load_file(copied / "model.safetensors")
    (copied / "model.safetensors").unlink()
    names = sorted(tensors)
    shards = {f"model-{n}.safetensors": names[n::2] for n in range(2)}
    for shard, of in shards.items():
        save_file({name: tensors[name] for name in of}, copied / shard, {"format": "pt"})
    index = {"metadata": {}, "weight_map": {name: shard for shard, of in shards.items() for name in of}}
    (copied / "model.safetensors.index.json").write_text(json.dumps(index))
    assert load_model(str(copied), "float32", "cpu").fingerprint == checkpoint_fingerprint(DRAFT)


def test_one_trained_tensor_or_another_name_makes_another_model(copied: Path) -> None:
    tensors = load_file(copied / "model.safetensors")
    name = min(tensors)
    found = {checkpoint_fingerprint(DRAFT)}
    for changed in ({**tensors, name: tensors[name] + 0.01}, {**tensors, "other": tensors[name].clone()}):
        save_file(changed, copied / "model.safetensors", {"format": "pt"})
        found.add(checkpoint_fingerprint(copied))
    assert len(found) == 3


def test_files_of_torch_save_have_one_too(copied: Path) -> None:
    tensors = load_file(copied / "model.safetensors")
    (copied / "model.safetensors").unlink()
    torch.save(tensors, copied / "pytorch_model.bin")
    before = load_model(str(copied), "float32", "cpu").fingerprint
    assert before == checkpoint_fingerprint(copied)
    tensors[min(tensors)].view(-1)[12345] += 1  # every byte counts
    torch.save(tensors, copied / "pytorch_model.bin")
    assert checkpoint_fingerprint(copied) != before


def test_files_of_an_older_torch_save_have_one_too(copied: Path) -> None:
    tensors = load_file(copied / "model.safetensors")
    (copied / "model.safetensors").unlink()
    torch.save(tensors, copied / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    before = load_model(str(copied), "float32", "cpu").fingerprint
    tensors[min(tensors)] = tensors[min(tensors)][:-1].clone()
    torch.save(tensors, copied / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    assert checkpoint_fingerprint(copied) != before


def test_a_model_in_the_hubs_cache_is_told_by_its_files_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    folder = tmp_path / "models--someone--tiny"
    shutil.copytree(DRAFT, folder / "snapshots" / "abc")
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("abc")
    found = find_checkpoint("someone/tiny")  # the hub does not answer: what its cache holds whole is read from there
    assert Path(found.location) == folder / "snapshots" / "abc"
    assert checkpoint_fingerprint(found.path) == checkpoint_fingerprint(DRAFT)
    (folder / "snapshots" / "abc" / "model.safetensors").unlink()
    with pytest.raises(InputError, match="someone/tiny"):
        find_checkpoint("someone/tiny")


@pytest.mark.parametrize("spoil", ["nothing there", "cut header", "cut tensors", "no index"])
def test_damaged_weights_are_refused(copied: Path, spoil: str) -> None:
    weights = copied / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:1000] if spoil == "cut header" else content[:-1000])
    if spoil not in ("cut header", "cut tensors"):
        weights.unlink()
    if spoil == "no index":
        (copied / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(InputError, match="cannot be read"):
        checkpoint_fingerprint(copied)


def test_loaded_weights_are_known_as_earlier_versions_knew_them(sample) -> None:
    assert sample.weights_fingerprint == "23198379f3b03dfd"
    assert load_model(str(DRAFT), "float32", "cpu").weights_fingerprint == "4ab18d83c04cbe0f"


def test_loaded_weights_of_any_size_have_a_fingerprint() -> None:
    size = 49_152 * 576  # the embedding of a small published model; float32 cannot say its last place
    tensors = {"embedding": torch.zeros(size, dtype=torch.bfloat16)}
    large = SimpleNamespace(config=SimpleNamespace(model_type="large"), state_dict=lambda: tensors)
    assert len(weights_fingerprint(large)) == 16


def test_loaded_weights_differ_between_random_models(tiny, tiny_ending_at) -> None:
    assert weights_fingerprint(tiny.model) == weights_fingerprint(tiny_ending_at(()).model)
    assert weights_fingerprint(tiny.model) != weights_fingerprint(type(tiny.model)(tiny.model.config))


def test_the_tokenizer_hash_is_stable_and_sees_added_tokens(sample) -> None:
    tokenizer = load_tokenizer("sample")
    assert tokenizer_hash(tokenizer) == sample.tokenizer_hash
    tokenizer.add_tokens(["a-token-that-was-not-there"])
    assert tokenizer_hash(tokenizer) != sample.tokenizer_hash
