"""The model's own answers to prompts, for the results page: texts to draft for, and the content of ID stores.

They are kept as JSONL, one answer a row: instruction, output, tokens (its ids, with the end token). Rows are written
batch by batch, and an interrupted run goes on with the next batch.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from stores import write

from dresd_milvus.corpus.chat import CHAT
from dresd_milvus.corpus.conversation import Conversation
from dresd_milvus.models.loading import LoadedModel
from evaluation.running.results import read_records

BATCH = 32
"""Prompts of similar length that are answered at once."""

Row = dict[str, Any]


def answer_all(
    model: LoadedModel,
    prompts: Sequence[str],
    file: Path,
    tokens: int,
    temperature: float,
    advance: Callable[[int], None] = lambda answers: None,
) -> None:
    """Have the model answer the prompts that are not in the file yet, in its chat template, and append the answers.

    tokens: of an answer, at most. advance: called with the number of answers of every batch.
    """
    conversation = Conversation(model.tokenizer, CHAT)
    known = {row["instruction"] for row in answers_in(file)}
    todo = sorted(((conversation.begin(p), p) for p in prompts if p not in known), key=lambda each: len(each[0]))
    for start in range(0, len(todo), BATCH):
        part = todo[start : start + BATCH]
        torch.manual_seed(len(known) + start)
        written = write(model.target, [ids for ids, _ in part], tokens, temperature)
        texts = (model.tokenizer.decode(ids, skip_special_tokens=True) for ids in written)
        rows = [
            {"instruction": prompt, "output": text, "tokens": ids}
            for (_, prompt), text, ids in zip(part, texts, written, strict=True)
        ]
        with file.open("a") as out:
            out.write("".join(json.dumps(row) + "\n" for row in rows))
        advance(len(part))


def answers_in(file: Path) -> list[Row]:
    """The rows of a file, [] without one. A last row that is not whole is removed from the file."""
    if not file.exists():
        return []
    text = file.read_text()
    rows = read_records(text)
    if text.count("\n") != len(rows) or not text.endswith("\n"):
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return rows
