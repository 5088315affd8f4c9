"""The results page: where its prompts come from, how it goes on, and that it says what is bad."""

import gzip
import json
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from dresd_milvus.errors import InputError
from dresd_milvus.models.loading import LoadedModel
from evaluation.offline.intrinsic import Tally

Module = Callable[[str], ModuleType]


def write(path: Path, *rows: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_no_prompt_is_both_held_out_and_stored(benchmark_module: Module, tmp_path: Path) -> None:
    domains = benchmark_module("domains")
    with pytest.raises(SystemExit, match=r"lacks gsm8k/test.jsonl.*--data"):
        domains.read_domains(tmp_path)
    for name in domains.FILES:
        write(tmp_path / name)
    write(tmp_path / "gsm8k/test.jsonl", {"question": "q", "answer": "a"}, {"question": "x" * 2000, "answer": "a"})
    write(tmp_path / "gsm8k/train.jsonl", {"question": "r", "answer": "b"}, {"question": "r", "answer": "b"})
    write(tmp_path / "mbpp/mbpp.jsonl", *({"task_id": n, "text": f"t{n}", "code": "c"} for n in (10, 11, 510, 511)))
    for name in ("gpteacher_codegen/codegen-instruct.json", "codealpaca/code_alpaca_2k.json"):
        (tmp_path / name).write_text(json.dumps([{"instruction": name, "input": "i", "output": "o"}]))
    write(tmp_path / "mt_bench/question.jsonl", {"turns": ["one", "two"]})
    write(tmp_path / "oasst_octopack/oasstcommitpackftmanual.jsonl", {"prompt": "¿?", "completion": "no"})
    with gzip.open(tmp_path / "humaneval/HumanEval.jsonl.gz", "wt") as file:
        file.write(json.dumps({"prompt": "def f():"}))
    found = domains.read_domains(tmp_path)
    assert [pair.prompt for pair in found["gsm8k"].held_out] == ["q"], "too long a prompt is passed over"
    assert found["gsm8k"].stored == [domains.Pair("r", "b")], "each prompt once"
    assert {pair.prompt for pair in found["code"].held_out} == {"def f():", "t11", "t510"}
    assert {pair.prompt[:3] for pair in found["code"].stored} == {"t10", "t51", "gpt", "cod"}
    assert found["mt-bench"] == domains.Domain([domains.Pair("one")], [])


def test_answers_go_on_where_they_were_cut(benchmark_module: Module, sample: LoadedModel, tmp_path: Path) -> None:
    own_answers = benchmark_module("own_answers")
    sample.tokenizer.chat_template, before = "{{ messages[0]['content'] }}", sample.tokenizer.chat_template
    try:
        file = tmp_path / "answers.jsonl"
        own_answers.answer_all(sample, ["def f(", "def g("], file, 4, 0.0)
        first = file.read_text()
        file.write_text(first + '{"instruction": "def h(", "outp')
        told: list[int] = []
        own_answers.answer_all(sample, ["def f(", "def g(", "def h("], file, 4, 0.0, told.append)
    finally:
        sample.tokenizer.chat_template = before
    rows = own_answers.answers_in(file)
    assert told == [1] and file.read_text().startswith(first), "what was whole is kept"
    assert [row["instruction"] for row in rows] == ["def f(", "def g(", "def h("]
    assert all(sample.tokenizer.decode(row["tokens"], skip_special_tokens=True) == row["output"] for row in rows)


def test_what_dense_adds_is_paired_by_text(benchmark_module: Module) -> None:
    ours, theirs = Tally(), Tally()
    ours.accepted, theirs.accepted = [[4, 2], [10]], [[2, 1], [5]]
    made = benchmark_module("forced").gain(ours, theirs)
    assert made["ratio"] == 2 and made["interval"] == [2, 2], "the same ratio in every text"


def test_figures_of_other_sizes_are_refused(benchmark_module: Module, tmp_path: Path) -> None:
    results = benchmark_module("results")
    results.keep_options(tmp_path, Namespace(texts=3, folder="a"))
    results.keep_options(tmp_path, Namespace(texts=3, folder="b"))
    with pytest.raises(InputError, match="other options"):
        results.keep_options(tmp_path, Namespace(texts=4, folder="a"))


def test_the_page_names_what_is_bad(benchmark_module: Module) -> None:
    page = benchmark_module("results_page")

    def system(value: float) -> dict:
        return {"16": {"accepted_length": value}}

    names = ("hybrid", "hybrid-no-dense", "SuffixDecoding's core", "REST's package")
    systems = {name: system(value) for name, value in zip(names, (1.0, 1.1, 1.2, 0.5), strict=True)}
    cell = {"systems": systems, "dense adds": {"16": {"ratio": 0.9, "interval": [0.8, 1.1]}}}
    counted = {"cell": {"temperature": "0"}, "compared": 8, "identical": 7, "explained": 1}
    entries = [
        {**counted, "system": "hybrid", "speedup": 0.9, "speedup_interval": [0.8, 1.0]},
        {**counted, "system": "hybrid-no-dense", "speedup": 1.2, "speedup_interval": [1.1, 1.3]},
    ]
    bad = "\n".join(page.what_is_bad({"gsm8k-id-greedy": cell}, {"gsm8k-id": entries}))
    assert "for certain: 1 of 1: gsm8k, ID store, greedy -10% [-20%, +10%]." in bad
    assert "less than SuffixDecoding's core: gsm8k, ID store, greedy at 16 nodes." in bad
    assert "less than REST's package: nowhere." in bad
    assert "not for certain:\n  - `hybrid`, 1: gsm8k, ID store temperature 0 (0.90x [0.80, 1.00])." in bad
    assert (
        "where intervals meet): gsm8k, ID store temperature 0 (0.90x [0.80, 1.00], without 1.20x [1.10, 1.30])." in bad
    )
    assert "Of 16 texts 2 differ from plain decoding's, 2 of them at a gap below 1e-4." in bad
