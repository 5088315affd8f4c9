"""Suites: named ones from local copies, files, and what the model reads of them."""

import json
from pathlib import Path

import numpy as np
import pytest

from dresd_milvus.corpus import Document, Template, encode_documents
from dresd_milvus.corpus.chat import turns_by_template
from dresd_milvus.corpus.conversation import Conversation
from dresd_milvus.corpus.rows import read_rows
from dresd_milvus.errors import InputError
from dresd_milvus.models.loading import LoadedModel
from evaluation.prompts import SUITES, about_suite, load_suite


def write(path: Path, *rows: dict) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_files(tmp_path: Path) -> None:
    path = write(
        tmp_path / "s.jsonl", {"question_id": 81, "turns": ["a", "b"]}, {"prompt": "p"}, {"text": "i", "id": "x"}
    )
    prompts = load_suite(str(path)).prompts
    assert [(p.id, p.turns) for p in prompts] == [("81", ("a", "b")), ("2", ("p",)), ("x", ("i",))]
    assert len(load_suite("stdlib", 5).prompts) == 5
    with pytest.raises(InputError, match=r"row 2 of .* \(its keys: other\)"):
        load_suite(str(write(tmp_path / "s.jsonl", {"prompt": "p"}, {"other": "q"})))
    with pytest.raises(InputError, match="holds no prompts"):
        load_suite(str(write(tmp_path / "s.jsonl")))


def test_every_named_suite_reads_its_file(tmp_path: Path) -> None:
    rows = {
        "codealpaca": {"instruction": "i", "input": "", "output": "o"},
        "mt-bench": {"question_id": 81, "category": "writing", "turns": ["one", "two"]},
        "humaneval": {"task_id": "HumanEval/0", "prompt": "def f():\n"},
        "mbpp": {"task_id": 11, "text": "t", "code": "c"},
        "gsm8k": {"question": "q", "answer": "a"},
        "gsm8k-extract": {"question": "q", "answer": "a"},
        "spec-bench": {"question_id": 81, "category": "qa", "turns": ["one", "two"]},
    }
    assert set(rows) == set(SUITES) - {"adversarial"}
    for name, row in rows.items():
        suite = load_suite(f"{name}={write(tmp_path / 'rows.jsonl', row)}")
        assert suite.name == name and len(suite.prompts) == 1 and about_suite(name)["description"]
        assert len(suite.prompts[0].turns) == (2 if name == "spec-bench" else 1)
    with pytest.raises(InputError, match="no file of prompts"):
        load_suite("gsm8k=nothing.jsonl")


def test_shipped_suites_need_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evaluation.prompts.read_hub", None)
    sizes = {name: len(load_suite(name).prompts) for name in ("adversarial", "gsm8k-extract", "mt-bench")}
    assert sizes == {"adversarial": 24, "gsm8k-extract": 100, "mt-bench": 80}
    licences = (SUITES["mt-bench"].parent / "LICENSES.md").read_text()
    shipped = {path.name for path in SUITES["mt-bench"].parent.glob("*.jsonl")}
    assert {name for name in shipped if f"`{name}`" in licences} == shipped, "every file has its licence"


def test_what_stores_are_made_of_is_held_out_of_the_suite() -> None:
    stored = {row["question"] for row in read_rows(SUITES["gsm8k"].with_name("gsm8k-stored.jsonl"))}
    assert len(stored) == 200 and not stored & {prompt.text for prompt in load_suite("gsm8k-extract").prompts}


def test_a_seeded_suite_takes_the_datasets_librarys_order(tmp_path: Path) -> None:
    """shuffle(seed=42).select(range(100)) of the released code; the order is numpy's and must never change."""
    path = write(tmp_path / "rows.jsonl", *({"instruction": f"p{n}"} for n in range(200)))
    texts = [prompt.text for prompt in load_suite(f"codealpaca={path}").prompts]
    assert texts == [f"p{n}" for n in np.random.default_rng(42).permutation(200)[:100]]
    limits = write(tmp_path / "mbpp.jsonl", *({"task_id": n, "text": f"t{n}"} for n in range(1, 30)))
    assert [p.id for p in load_suite(f"mbpp={limits}", 2).prompts] == ["11", "12"]


def test_a_conversation_is_read_as_ingestion_wrote_it(sample: LoadedModel) -> None:
    template = Template()
    said = [("user", "one"), ("assistant", "def f(): 1"), ("user", "two"), ("assistant", "def g(): 2")]
    messages = [{"role": role, "content": text} for role, text in said]
    document = encode_documents(sample.tokenizer, [Document(turns_by_template(template, messages), "")])[0].ids.tolist()
    conversation = Conversation(sample.tokenizer, template)
    first = conversation.begin("one")
    answer = sample.tokenizer("def f(): 1", add_special_tokens=False)["input_ids"]
    second = conversation.follow([*first, *answer], ["one", "two"], ["def f(): 1"])
    assert document[: len(second)] == second
