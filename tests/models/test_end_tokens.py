"""Every token that ends a text is known: of all files that name one, and of the chat template."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from dresd_milvus.models.checkpoint import SAMPLE_FOLDER
from dresd_milvus.models.end_tokens import turn_end
from dresd_milvus.models.loading import load_model, load_tokenizer
from evaluation.running.provenance import provenance

CHATML = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A folder with a copy of the sample's draft model, to change."""
    return shutil.copytree(SAMPLE_FOLDER / "draft", tmp_path / "model")


def change(path: Path, **content: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **content}))


def test_the_ends_of_all_files_count(copied: Path) -> None:
    change(copied / "config.json", eos_token_id=7)
    change(copied / "generation_config.json", eos_token_id=[0, 9])
    loaded = load_model(str(copied), "float32", "cpu")
    assert loaded.target.eos_ids == {0, 1, 7, 9}  # 1 is the tokenizer's
    assert loaded.target.model.generation_config.eos_token_id == [0, 1, 7, 9]


def test_what_ends_a_turn_ends_a_text_and_is_in_the_provenance(copied: Path) -> None:
    tokenizer = load_tokenizer(str(copied))
    vocabulary = json.loads((copied / "tokenizer.json").read_text())
    for token in vocabulary["added_tokens"]:
        if token["id"] == 2:
            token["content"] = "<|im_end|>"
    model = vocabulary["model"]["vocab"]
    model["<|im_end|>"] = model.pop(tokenizer.convert_ids_to_tokens(2))
    (copied / "tokenizer.json").write_text(json.dumps(vocabulary))
    change(copied / "tokenizer_config.json", chat_template=CHATML, pad_token=None)
    loaded = load_model(str(copied), "float32", "cpu")
    assert loaded.target.eos_ids == {1, 2}
    assert provenance(loaded, {})["model"]["end_tokens"] == ["</s>", "<|im_end|>"]


@pytest.mark.parametrize(
    ("template", "end"),
    [
        (None, None),
        ("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}", None),
        ("{% for m in messages %}[{{ m.role }}] {{ m.content }} </s>\n{% endfor %}", 1),
        ("{% for m in messages %}{{ m.content }}{% if m.role == 'assistant' %}</s>{% endif %}{% endfor %}<s>", 1),
        ("{{ raise_exception('only another role') }}", None),
        ("{% for m in messages %}", None),
    ],
)
def test_templates_of_many_kinds(template: str | None, end: int | None) -> None:
    tokenizer = load_tokenizer("sample")
    tokenizer.chat_template = template
    assert turn_end(tokenizer) == end


def test_an_end_token_that_the_vocabulary_lacks_is_none(copied: Path) -> None:
    change(copied / "tokenizer_config.json", eos_token=None)
    assert load_model(str(copied), "float32", "cpu").target.eos_ids == {1}  # of the other files
