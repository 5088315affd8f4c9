"""Suites: the prompts of an evaluation, by name or from a file."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from dresd_milvus.corpus import stdlib
from dresd_milvus.corpus.rows import read_rows
from dresd_milvus.errors import InputError

PROMPT_KEYS = ("prompt", "instruction", "turns")
ID_KEYS = ("prompt_id", "question_id", "task_id", "id")


class Prompt(NamedTuple):
    """One prompt of a suite, before the template. id: what the results name it by."""

    id: str
    text: str


def load_suite(suite: str, limit: int | None = None) -> list[Prompt]:
    """The prompts of a suite, at most `limit`.

    suite: 'stdlib' (the functions held back from ingestion), or a .json / .jsonl / .jsonl.gz file whose rows have
    `prompt`, `instruction` or `turns` (of which the first is taken).
    Raises InputError when it cannot be used or is empty.
    """
    if suite == "stdlib":
        # Every eleventh, wrapped round: neighbours come from one module and are alike.
        held = list(stdlib.pairs(held_back=True))
        spread = [held[index] for start in range(11) for index in range(start, len(held), 11)]
        prompts = [Prompt(f"stdlib-{n}", pair.prompt) for n, pair in enumerate(islice(spread, limit))]
    elif Path(suite).exists():
        prompts = [_prompt(suite, n, row) for n, row in enumerate(read_rows(Path(suite), limit), 1)]
    else:
        raise InputError(f"there is no suite '{suite}'; give 'stdlib' or a .jsonl file of prompts")
    if not prompts:
        raise InputError(f"the suite {suite} holds no prompts")
    return prompts


def _prompt(suite: str, number: int, row: dict[str, Any]) -> Prompt:
    for key in PROMPT_KEYS:
        value = row.get(key)
        text = value[0] if isinstance(value, list) and value else value
        if isinstance(text, str) and text.strip():
            identity = next((row[name] for name in ID_KEYS if name in row), number)
            return Prompt(str(identity), text)
    raise InputError(
        f"row {number} of {suite} has no text under {', '.join(PROMPT_KEYS)} (its keys: {', '.join(row) or 'none'})"
    )
