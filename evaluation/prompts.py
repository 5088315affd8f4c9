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
from dresd_milvus.corpus.files import file_mode, valid_text
from dresd_milvus.corpus.rows import FILE_TYPES, Row, file_type, read_hub, read_rows, shown_keys, shuffled
from dresd_milvus.errors import InputError

SUITES = {path.stem: path for path in sorted((Path(__file__).parent / "suites").glob("*.toml"))}

PROMPT_KEYS = ("prompt", "instruction", "turns", "question", "text")
ID_KEYS = ("prompt_id", "question_id", "task_id", "id")
ABOUT_KEYS = (*ID_KEYS, "category")


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
        held = enumerate(held_back()[:limit])
        found = Suite(suite, [Prompt(f"stdlib-{number}", (pair.prompt,)) for number, pair in held])
    elif name in SUITES:
        found = _named(name, Path(where) if given else None, limit)
    elif file_mode(Path(suite)) and file_type(Path(suite)):
        rows = read_rows(Path(suite), limit, {*PROMPT_KEYS, *ABOUT_KEYS})
        found = Suite(suite, [_prompt(suite, n, row, PROMPT_KEYS, None) for n, row in enumerate(rows, 1)])
    else:
        raise InputError(f"there is no suite '{suite}'; give stdlib, {', '.join(SUITES)} or a .jsonl file of prompts")
    if not found.prompts:
        raise InputError(f"the suite {suite} holds no prompts")
    return found


@cache  # reading the library takes seconds
def held_back() -> list[stdlib.Pair]:
    """The functions of the standard library that ingestion leaves out, every eleventh of them, wrapped round:
    neighbours come from one module and are alike."""
    held = list(stdlib.pairs(held_back=True))
    return [pair for start in range(11) for pair in held[start::11]]


def about_suite(name: str) -> dict[str, Any]:
    """What the TOML file of a named suite says."""
    return tomli.loads(SUITES[name].read_text())


def _named(name: str, path: Path | None, limit: int | None) -> Suite:
    about = about_suite(name)
    if path is None and "file" in about:
        path = SUITES[name].with_name(about["file"])
    if path is None and "hub" not in about:
        raise InputError(f"the suite {name} is not on the hub; download it and give --suite {name}=FILE")
    if path is not None and not (file_mode(path) and file_type(path)):
        raise InputError(f"there is no file of prompts {path}; give one of {', '.join(FILE_TYPES)}")
    keys = about["prompt"] if isinstance(about["prompt"], list) else [about["prompt"]]
    rows = _rows(about, path, keys)
    if "range" in about:
        rows = _ranged(name, rows, *about["range"])
    most = min((n for n in (about.get("take"), limit) if n is not None), default=None)
    prompts = [_prompt(name, n, row, keys, about.get("turns")) for n, row in enumerate(islice(rows, most), 1)]
    template = about.get("template")
    if template not in (None, CHAT):
        template = Template.parse(template).text
    return Suite(name, prompts, template, about.get("max_new_tokens"))


def _rows(about: dict[str, Any], path: Path | None, keys: Sequence[str]) -> Iterator[Row]:
    """The rows of a named suite, of a local file or the hub, in its order."""
    shuffle = about.get("shuffle")
    if path is None:
        return read_hub(about["hub"], about.get("config"), about.get("split", "train"), False, shuffle)
    rows = read_rows(path, keys={*keys, *ABOUT_KEYS, *about.get("range", ())[:1]})
    return rows if shuffle is None else shuffled(rows, shuffle)


def _ranged(suite: str, rows: Iterator[Row], key: str, low: int, high: int) -> Iterator[Row]:
    """The rows whose number under a key is low to high; raises InputError for a row that has something else there."""
    for number, row in enumerate(rows, 1):
        try:
            if low <= int(row.get(key, low)) <= high:
                yield row
        except (TypeError, ValueError, OverflowError) as error:
            raise InputError(f"row {number} of {suite} has no number under {key}; correct the file") from error


def _prompt(suite: str, number: int, row: Row, keys: Sequence[str], most: int | None) -> Prompt:
    for key in keys:
        value = row.get(key)
        turns = [turn for turn in (value if isinstance(value, list) else [value]) if isinstance(turn, str)]
        if turns and all(turn.strip() for turn in turns):
            identity = next((row[name] for name in ID_KEYS if row.get(name) is not None), number)
            identity, *turns, category = map(valid_text, (str(identity), *turns[:most], str(row.get("category", ""))))
            return Prompt(identity, tuple(turns), category)
    raise InputError(
        f"row {number} of {suite} has no text under {', '.join(keys)} (its keys: {shown_keys(row)}); correct the file"
    )
