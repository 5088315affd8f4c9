"""GGUF files: loaded as what they are, or refused in one line."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import Qwen2Config, Qwen3Config

from dresd_milvus.decoding.loop import FixedBudget, generate
from dresd_milvus.decoding.sampling import Greedy
from dresd_milvus.drafters.prompt_lookup import PromptLookup
from dresd_milvus.errors import InputError
from dresd_milvus.models.gguf_file import check_gguf_config
from dresd_milvus.models.loading import check_model, load_model, load_tokenizer
from tests.gguf_files import END, START, tiny, tiny_llama, write_gguf


def refusal(path: Path) -> str:
    """What load_model says when it refuses a file; checked to be one line that names the file."""
    with pytest.raises(InputError) as caught:
        load_model(str(path), "float32", "cpu")
    message = str(caught.value)
    assert path.name in message and "\n" not in message
    return message


@pytest.mark.parametrize("tied", [True, False])
def test_a_gguf_file_is_the_model_that_was_written(tmp_path: Path, tied: bool) -> None:
    model = tiny_llama(tied)
    path = write_gguf(tmp_path / "tiny.gguf", model)
    loaded = load_model(str(path), "float32", "cpu")
    ids = torch.arange(40)[None]
    with torch.inference_mode():
        assert torch.equal(loaded.target.model(ids).logits, model(ids).logits)
    assert loaded.name == str(path) and loaded.target.eos_ids == {START, END}
    assert loaded.tokenizer.decode(loaded.tokenizer("over the <|im_end|> 12").input_ids) == "over the <|im_end|> 12"
    assert check_model(str(path)) == 64 and len(load_tokenizer(str(path))) == 260


@pytest.mark.parametrize(
    ("kind", "architecture", "fields"),
    [
        (Qwen2Config, "qwen2", {}),
        (partial(Qwen3Config, head_dim=128), "qwen3", {"{a}.attention.key_length": 128}),
    ],
)
def test_files_of_other_architectures(
    tmp_path: Path, kind: Callable[..., Any], architecture: str, fields: dict
) -> None:
    model = tiny(kind)
    path = write_gguf(tmp_path / "tiny.gguf", model, architecture=architecture, split="qwen2", fields=fields)
    loaded = load_model(str(path), "float32", "cpu")
    ids = torch.arange(40)[None]
    with torch.inference_mode():
        assert torch.equal(loaded.target.model(ids).logits, model(ids).logits)


def test_a_head_of_another_size_than_the_reader_takes_is_refused(tmp_path: Path) -> None:
    model, sizes = tiny(partial(Qwen3Config, head_dim=16)), {"{a}.attention.key_length": 16}
    path = write_gguf(tmp_path / "tiny.gguf", model, architecture="qwen3", split="qwen2", fields=sizes)
    assert "qwen3.attention.key_length = 16, but the model would have 128" in refusal(path)


def test_rounded_weights_say_so_in_the_name(tmp_path: Path) -> None:
    model = tiny_llama()
    path = write_gguf(tmp_path / "tiny.gguf", model, kind="Q4_1")
    loaded = load_model(str(path), "float32", "cpu")
    assert loaded.name == f"{path} (Q4_1, dequantised)"
    ours, theirs = loaded.target.model.state_dict(), model.state_dict()
    gaps = [(ours[name] - theirs[name]).abs().max() for name in theirs if "proj" in name]
    assert 0 < max(gaps) < 0.2  # a block of 32 numbers has sixteen steps from the least to the largest


def test_a_model_from_a_file_drafts_as_any_other(tmp_path: Path) -> None:
    loaded = load_model(str(write_gguf(tmp_path / "tiny.gguf", tiny_llama(), kind="Q8_0")), "float32", "cpu")
    prompt = [5, 6, 7, 5, 6]
    text = loaded.target.model.generate(torch.tensor([prompt]), max_new_tokens=24, do_sample=False)
    done = generate(loaded.target, PromptLookup(), Greedy(), prompt, 24, FixedBudget())
    assert done.tokens == text[0, len(prompt) :].tolist()


def test_the_fingerprint_is_the_files_whatever_the_dtype(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "a.gguf", tiny_llama())
    copy = tmp_path / "b.gguf"
    copy.write_bytes(path.read_bytes())
    other = write_gguf(tmp_path / "c.gguf", tiny_llama(seed=1))
    found = [load_model(str(file), dtype, "cpu").fingerprint for file in (path, copy) for dtype in ("float32", "auto")]
    assert len(set(found)) == 1 and load_model(str(other), "float32", "cpu").fingerprint != found[0]


SCALING = {"{a}.rope.scaling.type": "yarn", "{a}.rope.scaling.factor": 4.0}


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"extra": {"rope_freqs.weight": np.ones(8, np.float32)}}, "rope_freqs"),
        ({"extra": {"blk.0.ffn_sub_norm.weight": np.ones(96, np.float32)}}, "numbers"),
        ({"without": "blk.1.ffn_up.weight"}, "no tensor that would become model.layers.1.mlp.up_proj.weight"),
        ({"fields": SCALING}, "rope.scaling.type = yarn"),
        ({"fields": {"{a}.attention.sliding_window": 64}}, "attention.sliding_window = 64"),
        ({"fields": {"{a}.attention.key_length": 32}}, "attention.key_length = 32"),
        ({"fields": {"{a}.logit_scale": 0.5}}, "logit_scale = 0.5, but the model would have nothing"),
        ({"fields": {"split.count": 2}}, "one of 2 parts"),
        ({"split": "deepseek-llm"}, "in the way 'deepseek-llm'"),
        ({"architecture": "plamo"}, "plamo"),
    ],
    ids=lambda value: value.split()[0] if isinstance(value, str) else "",
)
def test_what_would_be_read_wrongly_is_refused(tmp_path: Path, how: dict, message: str) -> None:
    assert message in refusal(write_gguf(tmp_path / "tiny.gguf", tiny_llama(), **how))


def test_fields_that_change_nothing_are_no_reason_to_refuse(tmp_path: Path) -> None:
    neutral = {
        "{a}.rope.scaling.type": "none",
        "{a}.rope.scaling.original_context_length": 256,
        "{a}.attention.key_length": 16,
        "{a}.tensor_data_layout": "Meta AI original pth",
        "general.name": "a name",
    }
    path = write_gguf(tmp_path / "tiny.gguf", tiny_llama(), fields=neutral)
    check_gguf_config(path, load_model(str(path), "float32", "cpu").target.model.config)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.01, 0.2, 0.9, 0.999])
def test_a_file_that_is_cut_off_is_refused(tmp_path: Path, share: float) -> None:
    path = write_gguf(tmp_path / "tiny.gguf", tiny_llama())
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert "is not a GGUF file, or is damaged" in refusal(path)


@pytest.mark.parametrize("at", [0, 4, 8, 16, 24, 32])
def test_a_file_with_a_broken_header_is_refused(tmp_path: Path, at: int) -> None:
    path = write_gguf(tmp_path / "tiny.gguf", tiny_llama())
    content = bytearray(path.read_bytes())
    content[at : at + 8] = b"\xff" * 8
    path.write_bytes(content)
    refusal(path)


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    path.write_text("words " * 100)
    assert "is not a GGUF file" in refusal(path)
    assert "there is no model folder or file" in refusal(tmp_path / "none.gguf")


def test_a_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_gguf(tmp_path / "tiny.gguf", tiny_llama())
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(InputError, match=r"pip install 'dresd-milvus\[gguf\]'"):
        load_tokenizer(str(path))
