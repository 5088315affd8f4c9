"""Suites: the prompts of an evaluation, by name or from a file.

A named suite is a TOML file in suites/: where its rows are (a file beside it, or hub, config, split), which key holds
the prompt, which rows count (shuffle, take, range), how many turns, and what a prompt goes into. NAME=FILE reads a
local copy instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import tomli

from dresd_milvus.corpus import Template, stdlib
from dresd_milvus.corpus.chat import CHAT
from dresd_milvus.corpus.rows import file_type, read_hub, read_rows
from dresd_milvus.errors import InputError

SUITES = {path.stem: path for path in sorted((Path(__file__).parent / "suites").glob("*.toml"))}

PROMPT_KEYS = ("prompt", "instruction", "turns", "question", "text")
ID_KEYS = ("prompt_id", "question_id", "task_id", "id")


class Prompt(NamedTuple):
    """One prompt of a suite, before the template. id: what the results name it by; turns: what is asked, in order;
    category: the task that it belongs to, '' for none.
    """

    id: str
    turns: tuple[str, ...]
    category: str = ""

    @property
    def text(self) -> str:
        """The first turn."""
        return self.turns[0]


class Suite(NamedTuple):
    """name; prompts; template: what the suite's prompts go into where a model has no chat template, 'chat' where every
    model needs one, None for no opinion; max_new_tokens: likewise.
    """

    name: str
    prompts: list[Prompt]
    template: str | None = None
    max_new_tokens: int | None = None


def load_suite(suite: str, limit: int | None = None) -> Suite:
    """A suite with at most `limit` prompts.

    suite: 'stdlib' (the functions held back from ingestion), a name of SUITES, NAME=FILE for a local copy of one, or a
    file of rows (json, jsonl, csv, parquet) with `prompt`, `instruction`, `turns`, `question` or `text`.
    Raises InputError when it cannot be used or is empty.
    """
    name, given, where = suite.partition("=")
    if suite == "stdlib":
        found = Suite(suite, _held_back()[:limit])
    elif name in SUITES:
        found = _named(name, Path(where) if given else None, limit)
    elif Path(suite).exists() and file_type(Path(suite)):
        rows = read_rows(Path(suite), limit)
        found = Suite(suite, [_prompt(suite, n, row, PROMPT_KEYS, None) for n, row in enumerate(rows, 1)])
    else:
        raise InputError(f"there is no suite '{suite}'; give stdlib, {', '.join(SUITES)} or a .jsonl file of prompts")
    if not found.prompts:
        raise InputError(f"the suite {suite} holds no prompts")
    return found


@cache  # reading the library takes seconds
def _held_back() -> list[Prompt]:
    # Every eleventh, wrapped round: neighbours come from one module and are alike.
    held = list(stdlib.pairs(held_back=True))
    spread = [held[index] for start in range(11) for index in range(start, len(held), 11)]
    return [Prompt(f"stdlib-{n}", (pair.prompt,)) for n, pair in enumerate(spread)]


def about_suite(name: str) -> dict[str, Any]:
    """What the TOML file of a named suite says."""
    return tomli.loads(SUITES[name].read_text())


def _named(name: str, path: Path | None, limit: int | None) -> Suite:
    about = about_suite(name)
    if path is None and "file" in about:
        path = SUITES[name].with_name(about["file"])
    if path is None and "hub" not in about:
        raise InputError(f"the suite {name} is not on the hub; download it and give --suite {name}=FILE")
    if path is not None and not (path.exists() and file_type(path)):
        raise InputError(f"there is no file of prompts {path}")
    rows: Iterator[dict[str, Any]]
    if path is not None and "shuffle" not in about:
        rows = read_rows(path)
    else:
        rows = read_hub(about.get("hub", ""), about.get("config"), about.get("split", "train"), False,
                        about.get("shuffle"), path)  # fmt: skip
    if "range" in about:
        key, low, high = about["range"]
        rows = (row for row in rows if low <= int(row.get(key, low)) <= high)
    keys = about["prompt"] if isinstance(about["prompt"], list) else [about["prompt"]]
    most = min((n for n in (about.get("take"), limit) if n is not None), default=None)
    prompts = [_prompt(name, n, row, keys, about.get("turns")) for n, row in enumerate(islice(rows, most), 1)]
    template = about.get("template")
    if template not in (None, CHAT):
        template = Template.parse(template).text
    return Suite(name, prompts, template, about.get("max_new_tokens"))


def _prompt(suite: str, number: int, row: dict[str, Any], keys: Sequence[str], most: int | None) -> Prompt:
    for key in keys:
        value = row.get(key)
        turns = [turn for turn in (value if isinstance(value, list) else [value]) if isinstance(turn, str)]
        if turns and all(turn.strip() for turn in turns):
            identity = next((row[name] for name in ID_KEYS if row.get(name) is not None), number)
            return Prompt(str(identity), tuple(turns[:most]), str(row.get("category", "")))
    raise InputError(
        f"row {number} of {suite} has no text under {', '.join(keys)} (its keys: {', '.join(row) or 'none'})"
    )
