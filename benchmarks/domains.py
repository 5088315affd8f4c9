"""The domains of the results page: held-out prompts, and prompts with people's answers for the stores.

The data are public files in one folder, each as its authors publish it (docs/evaluation.md lists them with licences).
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
"""The data files, below the data folder, with licence and source."""

MAX_PROMPT = 1200
"""Characters of a prompt at most. Longer ones are too hard for a model of this size."""

OASST_ROWS = 700
"""The first rows of the OASST file are conversations; the later ones are commits."""


class Pair(NamedTuple):
    """A prompt and the answer of a person, '' without one."""

    prompt: str
    answer: str = ""


class Domain(NamedTuple):
    """A kind of text. held_out: prompts for evaluation, which no store holds, in the order in which they are used.
    stored: pairs for stores, in the same way.
    """

    held_out: list[Pair]
    stored: list[Pair]


def read_domains(data: Path) -> dict[str, Domain]:
    """The domains by name. Ends the program with an error message where files are missing."""
    if missing := [name for name in FILES if not (data / name).exists()]:
        sys.exit(f"error: {data} lacks {', '.join(missing)}; see docs/evaluation.md, or say with --data where it is")
    return {"gsm8k": _gsm8k(data), "code": _code(data), "mt-bench": _chat(data)}


def _gsm8k(data: Path) -> Domain:
    held_out, stored = (
        [Pair(row["question"], row["answer"]) for row in read_rows(data / "gsm8k" / f"{name}.jsonl")]
        for name in ("test", "train")
    )
    return Domain(_shuffled(held_out), _shuffled(stored))


def _code(data: Path) -> Domain:
    """Held out: HumanEval, MBPP's test tasks. Stored: MBPP's other tasks, GPTeacher, CodeAlpaca. Each in turn."""
    mbpp = list(read_rows(data / "mbpp" / "mbpp.jsonl"))
    tests = [11 <= row["task_id"] <= 510 for row in mbpp]
    tasks = [Pair(row["text"], row["code"].replace("\r\n", "\n")) for row in mbpp]
    humaneval = [Pair(row["prompt"]) for row in read_rows(data / "humaneval" / "HumanEval.jsonl.gz")]
    others = [
        [_instructed(row) for row in read_rows(data / name)]
        for name in ("gpteacher_codegen/codegen-instruct.json", "codealpaca/code_alpaca_2k.json")
    ]
    held_out = [_shuffled(humaneval), _shuffled(task for task, test in zip(tasks, tests, strict=True) if test)]
    stored = [_shuffled(task for task, test in zip(tasks, tests, strict=True) if not test), *map(_shuffled, others)]
    return Domain(_interleaved(*held_out), _interleaved(*stored))


def _chat(data: Path) -> Domain:
    """Held out: MT-Bench's first turns, then Vicuna-Bench. Stored: the English pairs of OASST."""
    questions = (
        Pair(row["turns"][0])
        for name in ("question", "vicuna_bench_question")
        for row in read_rows(data / "mt_bench" / f"{name}.jsonl")
    )
    pairs = (
        Pair(row["prompt"], row["completion"])
        for row in read_rows(data / "oasst_octopack" / "oasstcommitpackftmanual.jsonl", OASST_ROWS)
        if row["prompt"].isascii()
    )
    return Domain(list(questions), _shuffled(pairs))


def _instructed(row: dict[str, Any]) -> Pair:
    """A row in the format of Alpaca: an instruction, and an input that may be empty."""
    prompt = "\n".join(filter(None, (row["instruction"], row.get("input", ""))))
    return Pair(prompt, row.get("response", row.get("output", "")))


def _shuffled(pairs: Iterator[Pair] | list[Pair]) -> list[Pair]:
    """The pairs whose prompt is not too long, each prompt once, in a random order that is always the same."""
    once = {pair.prompt: pair for pair in pairs if len(pair.prompt) <= MAX_PROMPT}
    unique = list(once.values())
    return [unique[at] for at in np.random.default_rng(0).permutation(len(unique))]


def _interleaved(*lists: list[Pair]) -> list[Pair]:
    return [pair for pair in chain.from_iterable(zip_longest(*lists)) if pair]
