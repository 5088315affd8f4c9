"""What the results page asks: of every domain held-out prompts, and the prompts and people's answers that stores hold.

A folder of public data files is needed, each as its authors publish it (docs/evaluation.md lists them with licences).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dresd_milvus.corpus.rows import read_rows

FILES = {
    "gsm8k/test.jsonl": "MIT, openai/grade-school-math",
    "gsm8k/train.jsonl": "MIT, openai/grade-school-math",
    "humaneval/HumanEval.jsonl.gz": "MIT, openai/human-eval",
    "mbpp/mbpp.jsonl": "CC BY 4.0, google-research/mbpp",
    "gpteacher_codegen/codegen-instruct.json": "MIT, teknium1/GPTeacher",
    "codealpaca/code_alpaca_2k.json": "CC BY-NC 4.0, sahil280114/codealpaca: measured with, never shipped",
    "mt_bench/question.jsonl": "Apache-2.0, lm-sys/FastChat",
    "mt_bench/vicuna_bench_question.jsonl": "Apache-2.0, lm-sys/FastChat",
    "oasst_octopack/oasstcommitpackftmanual.jsonl": "MIT, OASST1 itself Apache-2.0, bigcode-project/octopack",
}
"""Below the data folder, with licence and source."""

LONGEST = 1200
"""Characters of a prompt at most: what a model of this size can answer."""

OASST = 700
"""Rows of the OASST file before its commits begin."""


class Pair(NamedTuple):
    """A prompt and what people answered, '' where nobody did."""

    prompt: str
    answer: str = ""


class Domain(NamedTuple):
    """held: prompts that no store holds, in the order in which they are taken; stored: what stores are made of."""

    held: list[Pair]
    stored: list[Pair]


def read_domains(data: Path) -> dict[str, Domain]:
    """The domains by name. Ends the program with one line where files are missing."""
    if missing := [name for name in FILES if not (data / name).exists()]:
        sys.exit(f"error: {data} lacks {', '.join(missing)}; see docs/evaluation.md, or say with --data where it is")
    return {"gsm8k": _gsm8k(data), "code": _code(data), "mt-bench": _chat(data)}


def _gsm8k(data: Path) -> Domain:
    held, stored = (
        [Pair(row["question"], row["answer"]) for row in read_rows(data / "gsm8k" / f"{name}.jsonl")]
        for name in ("test", "train")
    )
    return Domain(_mixed(held), _mixed(stored))


def _code(data: Path) -> Domain:
    """Held: HumanEval and MBPP's test tasks in turn. Stored: MBPP's other tasks, GPTeacher and CodeAlpaca in turn."""
    mbpp = list(read_rows(data / "mbpp" / "mbpp.jsonl"))
    tests = [11 <= row["task_id"] <= 510 for row in mbpp]
    tasks = [Pair(row["text"], row["code"].replace("\r\n", "\n")) for row in mbpp]
    humaneval = [Pair(row["prompt"]) for row in read_rows(data / "humaneval" / "HumanEval.jsonl.gz")]
    others = [
        [_instructed(row) for row in read_rows(data / name)]
        for name in ("gpteacher_codegen/codegen-instruct.json", "codealpaca/code_alpaca_2k.json")
    ]
    held = [_mixed(humaneval), _mixed(task for task, test in zip(tasks, tests, strict=True) if test)]
    stored = [_mixed(task for task, test in zip(tasks, tests, strict=True) if not test), *map(_mixed, others)]
    return Domain(_in_turn(*held), _in_turn(*stored))


def _chat(data: Path) -> Domain:
    """Held out: MT-Bench's first turns, then Vicuna-Bench. Stored: the pairs of OASST that are English."""
    questions = (
        Pair(row["turns"][0])
        for name in ("question", "vicuna_bench_question")
        for row in read_rows(data / "mt_bench" / f"{name}.jsonl")
    )
    pairs = (
        Pair(row["prompt"], row["completion"])
        for row in read_rows(data / "oasst_octopack" / "oasstcommitpackftmanual.jsonl", OASST)
        if row["prompt"].isascii()
    )
    return Domain(list(questions), _mixed(pairs))


def _instructed(row: dict[str, Any]) -> Pair:
    """Alpaca's form: an instruction, and an input that may be empty."""
    asked = "\n".join(filter(None, (row["instruction"], row.get("input", ""))))
    return Pair(asked, row.get("response", row.get("output", "")))


def _mixed(pairs: Iterator[Pair] | list[Pair]) -> list[Pair]:
    """Those of a usable length, each prompt once, in an order that is the same every time."""
    once = {pair.prompt: pair for pair in pairs if len(pair.prompt) <= LONGEST}
    found = list(once.values())
    return [found[at] for at in np.random.default_rng(0).permutation(len(found))]


def _in_turn(*lists: list[Pair]) -> list[Pair]:
    return [pair for pair in chain.from_iterable(zip_longest(*lists)) if pair]
