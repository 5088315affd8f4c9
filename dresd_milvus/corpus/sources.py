"""Where documents come from: files, folders of text or code, the hub, a recipe, the standard library."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from dresd_milvus.corpus import stdlib
from dresd_milvus.corpus.chat import (
    CHAT,
    Message,
    UnwritableError,
    ask_by_chat_template,
    exchanges,
    is_conversation,
    read_messages,
    turns_by_chat_template,
    turns_by_template,
)
from dresd_milvus.corpus.documents import Document, Template
from dresd_milvus.corpus.recipes import RECIPES, Recipe
from dresd_milvus.corpus.rows import KINDS, kind_of, read_hub, read_rows
from dresd_milvus.errors import InputError

STDLIB, HUB = "stdlib", "hf:"
PROMPT_KEYS = ("instruction", "prompt", "question", "query", "text")
RESPONSE_KEYS = ("output", "response", "completion", "answer", "canonical_solution", "code")
MESSAGES_KEYS = ("messages", "conversations", "conversation")


class Source(NamedTuple):
    """One --source: [NAME=]WHERE. name: the origin of its rows in the store; recipe: if the name or place is one."""

    name: str
    where: str
    recipe: Recipe | None = None

    @classmethod
    def parse(cls, text: str) -> Source:
        """'stdlib', a recipe, hf:DATASET, a file or a folder, or NAME= before one; RECIPE=FILE is a local copy."""
        name, given, where = text.partition("=")
        if not given or "/" in name:
            name, where = "", text
        if not where:
            raise InputError(f"the source '{text}' names no place; give NAME=FILE, NAME=hf:DATASET or NAME=FOLDER")
        recipe = RECIPES.get(name) or RECIPES.get(where)
        if not name:
            hub = where.removeprefix(HUB)
            name = where if where == STDLIB or recipe else hub if where != hub else Path(where).resolve().name
        return cls(name, where, recipe)

    @property
    def path(self) -> Path | None:
        """The local file or folder, if it is one."""
        remote = self.where == STDLIB or self.where in RECIPES or self.where.startswith(HUB)
        return None if remote else Path(self.where)


@dataclass
class Reading:
    """How rows become documents, and what became of them.

    keys: None for the usual names. template: what a prompt goes into, None for nothing, CHAT for the chat template of
    the tokenizer, which nothing else needs. answers: whether rows must have one (not when the target is to write them).
    incomplete: 'refuse' or 'skip' rows without text under a key. skipped: why documents were passed over, counted.
    """

    prompt_key: str | None = None
    response_key: str | None = None
    template: Template | str | None = None
    tokenizer: Any = None
    answers: bool = True
    split: str = "train"
    config: str | None = None
    streaming: bool = False
    incomplete: str = "refuse"
    skipped: Counter[str] = field(default_factory=Counter)

    def put(self, prompt: str) -> str:
        """What the model reads of a prompt."""
        if self.template == CHAT:
            return ask_by_chat_template(self.tokenizer, prompt)
        return self.template(prompt) if isinstance(self.template, Template) else prompt

    def turns(self, messages: list[Message]) -> tuple[str, ...]:
        """What the model reads and answers in a conversation; raises UnwritableError where it cannot be written so."""
        if self.template == CHAT:
            return turns_by_chat_template(self.tokenizer, messages)
        return turns_by_template(self.template if isinstance(self.template, Template) else None, messages)


def read_documents(source: Source, reading: Reading, limit: int | None = None) -> Iterator[Document]:
    """The documents of a source, at most `limit`, always in the same order.

    Raises InputError when the source cannot be used, at its end when rows had no text under a key.
    """
    path = source.path
    documents: Iterator[Document]
    if source.where == STDLIB:
        documents = (Document((reading.put(pair.prompt), pair.response), source.name) for pair in stdlib.pairs())
    elif path is not None and path.is_dir():
        documents = _folder(path, source.name, reading)
    elif path is not None and not path.exists():
        raise InputError(
            f"there is no source '{source.where}'; give a file, a folder, {HUB}DATASET, '{STDLIB}' or one of "
            f"{', '.join(RECIPES)}"
        )
    elif path is not None and not kind_of(path):
        raise InputError(
            f"{source.where} is not a kind of file that can be ingested; give {', '.join(KINDS)}, these with .gz, or a "
            "folder"
        )
    else:
        documents = _rows(source, reading, limit)
    return islice(documents, limit)


def stamp(source: Source) -> str:
    """A hash that changes when what lies on this machine under a source does; of what is remote, its name."""
    digest = hashlib.blake2b(f"{source.name} {source.where}".encode(), digest_size=16)
    if source.path is not None:
        root = source.path
        for path in sorted(root.rglob("*")) if root.is_dir() else [root]:
            if path.is_file():
                digest.update(f"{path.relative_to(root)} {path.stat().st_size}".encode(errors="replace"))
                with path.open("rb") as file:
                    while part := file.read(1 << 20):
                        digest.update(part)
    return digest.hexdigest()


def _rows(source: Source, reading: Reading, limit: int | None) -> Iterator[Document]:
    recipe, path = source.recipe, source.path
    if recipe and (recipe.shuffle is not None or path is None):
        rows = read_hub(recipe.hub, None, recipe.split, reading.streaming, recipe.shuffle, path)
    elif path is not None:
        rows = read_rows(path)
    else:
        name = source.where.removeprefix(HUB)
        rows = read_hub(name, reading.config, reading.split, reading.streaming)
    most = min((n for n in (limit, recipe and recipe.take) if n is not None), default=None)
    convert: Callable[[dict[str, Any]], tuple[str, ...]] | None = None
    read, incomplete = 0, []
    for read, row in enumerate(islice(rows, most), 1):
        if convert is None:
            convert = _converter(source, row, reading)
        try:
            yield Document(convert(row), source.name)
        except UnwritableError as why:
            incomplete.append(f"row {read}: {why}")
    if not read:
        raise InputError(f"{source.where} has no rows")
    if incomplete and reading.incomplete == "refuse":
        raise InputError(
            f"{len(incomplete)} of {read} rows of {source.where} cannot be used, the first of them {incomplete[0]}; "
            "correct the file, give --prompt-key and --response-key, or --skip-incomplete"
        )
    reading.skipped["incomplete rows"] += len(incomplete)


def _converter(source: Source, row: dict[str, Any], reading: Reading) -> Callable[[dict[str, Any]], tuple[str, ...]]:
    """What makes turns of this source's rows, by the first of them; it raises UnwritableError for one without text."""
    recipe, put = source.recipe, reading.put
    prompt_key = reading.prompt_key or (recipe and recipe.prompt_key)
    response_key = reading.response_key or (recipe and recipe.response_key)
    if not prompt_key:
        prompt_key = next((key for key in MESSAGES_KEYS if is_conversation(row.get(key))), None)
        prompt_key = prompt_key or _usual(source, row, PROMPT_KEYS, "--prompt-key")
    if is_conversation(row.get(prompt_key)):
        return lambda row: _conversation(row.get(prompt_key), recipe, reading)
    if not reading.answers:
        return lambda row: (put(_first(row, prompt_key)), "")
    if prompt_key == "text" and not response_key and not set(row) & set(RESPONSE_KEYS):  # a corpus of plain text
        return lambda row: ("", _under(row, "text"))
    response = response_key or _usual(source, row, RESPONSE_KEYS, "--response-key")
    return lambda row: (put(_first(row, prompt_key)), _under(row, response))


def _under(row: dict[str, Any], key: str) -> str:
    """The text under a key."""
    if not isinstance(row.get(key), str):
        raise UnwritableError(f"there is no text under '{key}' (its keys: {', '.join(row)})")
    return str(row[key])


def _first(row: dict[str, Any], key: str) -> str:
    """A prompt: the text under a key, or the first of several turns."""
    value = row.get(key)
    return _under({**row, key: value[0]} if isinstance(value, list) and value else row, key)


def _conversation(value: Any, recipe: Recipe | None, reading: Reading) -> tuple[str, ...]:
    messages = exchanges(read_messages(value), recipe.turns if recipe else None)
    if not messages:
        raise UnwritableError("nobody answers in it")
    try:
        return reading.turns(messages)
    except InputError as error:  # the chat template refuses it
        raise UnwritableError(str(error)) from error


def _usual(source: Source, row: dict[str, Any], names: tuple[str, ...], option: str) -> str:
    found = next((name for name in names if name in row), None)
    if found is None:
        raise InputError(f"{source.where} has the keys {', '.join(row)}; say with {option} which to use")
    return found


def _folder(folder: Path, origin: str, reading: Reading) -> Iterator[Document]:
    """Every readable text file under a folder; hidden ones and binary ones are passed over."""
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if not path.is_file() or any(part.startswith(".") or part == "__pycache__" for part in parts):
            continue
        try:
            text = path.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError:
            reading.skipped["files that are not UTF-8"] += 1
            continue
        if "\0" in text:
            reading.skipped["binary files"] += 1
        else:
            yield Document(("", text), origin)
