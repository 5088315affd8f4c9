"""Sources of documents: files, folders of text or code, the hub, recipes, the standard library."""

from __future__ import annotations

import codecs
import hashlib
import stat
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
    first_exchanges,
    is_conversation,
    prompt_by_chat_template,
    read_messages,
    read_tools,
    turns_by_chat_template,
    turns_by_template,
)
from dresd_milvus.corpus.documents import Document, Template
from dresd_milvus.corpus.files import file_mode, reading, valid_text, walk
from dresd_milvus.corpus.recipes import RECIPES, Recipe
from dresd_milvus.corpus.rows import FILE_TYPES, Row, file_type, read_hub, read_rows, shown_keys, shuffled
from dresd_milvus.errors import InputError
from dresd_milvus.retrieval.store import ORIGIN_CHARACTERS

STDLIB, HUB = "stdlib", "hf:"
"""The source of the standard library, and the prefix of sources on the hub."""

PROMPT_KEYS = ("instruction", "prompt", "question", "query", "text")
"""Keys of a row that are tried for the prompt, in this order."""

RESPONSE_KEYS = ("output", "response", "completion", "answer", "canonical_solution", "code")
"""Keys that are tried for the response."""

MESSAGES_KEYS, TOOLS_KEY = ("messages", "conversations", "conversation"), "tools"
"""Keys that are tried for a conversation; key of the functions that the model was offered in it."""


class Source(NamedTuple):
    """A value of --source: [NAME=]WHERE. name: origin of its rows in the store. recipe: if NAME or WHERE is one."""

    name: str
    where: str
    recipe: Recipe | None = None

    @classmethod
    def parse(cls, text: str) -> Source:
        """Parse 'stdlib', a recipe, hf:DATASET, a file or a folder, with NAME= before it or not.

        RECIPE=FILE is a local copy of a recipe's data set; a file with = in its name is not taken apart. Raises
        InputError for a name without a place, or one that is too long.
        """
        name, given, where = text.partition("=")
        if not given or "/" in name or file_mode(Path(text)):
            name, where = "", text
        if not where:
            raise InputError(f"the source '{text}' names no place; give NAME=FILE, NAME=hf:DATASET or NAME=FOLDER")
        if len(name) > ORIGIN_CHARACTERS:
            raise InputError(f"the name '{name}' of a source has more than {ORIGIN_CHARACTERS} characters; shorten it")
        recipe = RECIPES.get(name) or RECIPES.get(where)
        if not name:
            hub = where.removeprefix(HUB)
            name = where if where == STDLIB or recipe else hub if where != hub else _name(Path(where))
        return cls(valid_text(name)[:ORIGIN_CHARACTERS], where, recipe)

    @property
    def path(self) -> Path | None:
        """The local file or folder; None for the standard library and the hub."""
        remote = self.where == STDLIB or self.where in RECIPES or self.where.startswith(HUB)
        return None if remote else Path(self.where)

    @property
    def is_folder(self) -> bool:
        """Whether it is a local folder. Raises InputError where that cannot be known."""
        return self.path is not None and stat.S_ISDIR(file_mode(self.path))


def _name(path: Path) -> str:
    """The name of a file or folder, links and dots resolved; as it is written if nothing is there."""
    return path.resolve().name if file_mode(path) else path.name


@dataclass
class ReadOptions:
    """How rows become documents.

    prompt_key, response_key: keys of a row, None for the usual names. template: of prompts, None for no template, CHAT
    for the chat template of `tokenizer`. answers: whether rows must have an answer; false if the target writes the
    answers. split, config, streaming: of a data set on the hub. incomplete: 'refuse' or 'skip' rows without text under
    a key. skipped: counts documents and files that were skipped, by reason; the reasons of files name the first.
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

    def format_prompt(self, prompt: str) -> str:
        """A prompt in the template."""
        if self.template == CHAT:
            return prompt_by_chat_template(self.tokenizer, prompt)
        return self.template(prompt) if isinstance(self.template, Template) else prompt

    def format_messages(self, messages: list[Message], tools: list[dict[str, Any]] | None) -> tuple[str, ...]:
        """The turns of a conversation in the template; raises UnwritableError if the template cannot write them.

        tools: those that the model was offered; only a chat template writes them.
        """
        if self.template == CHAT:
            return turns_by_chat_template(self.tokenizer, messages, tools)
        return turns_by_template(self.template if isinstance(self.template, Template) else None, messages)


def read_documents(source: Source, options: ReadOptions, limit: int | None = None) -> Iterator[Document]:
    """The documents of a source, at most `limit`, always in the same order.

    Raises InputError for a source that cannot be read. Incomplete rows raise it after the last document, unless the
    options say that they are skipped.
    """
    path = source.path
    documents: Iterator[Document]
    if source.where == STDLIB:
        documents = (
            Document((options.format_prompt(pair.prompt), pair.response), source.name) for pair in stdlib.pairs()
        )
    elif source.is_folder:
        documents = _folder(Path(source.where), source.name, options)
    elif path is not None and not file_mode(path):
        raise InputError(
            f"there is no source '{source.where}'; give a file, a folder, {HUB}DATASET, '{STDLIB}' or one of "
            f"{', '.join(RECIPES)}"
        )
    elif path is not None and not file_type(path):
        raise InputError(
            f"{source.where} is not a type of file that can be read; give {', '.join(FILE_TYPES)}, these with .gz, or "
            "a folder"
        )
    else:
        documents = _rows(source, options, limit)
    return islice(documents, limit)


def content_hash(source: Source) -> str:
    """A hash of the local files of a source, which changes when they change; for a remote source, of its name.

    Raises InputError for a file that cannot be read.
    """
    digest = hashlib.blake2b(f"{source.name} {source.where}".encode(errors="replace"), digest_size=16)
    if source.path is not None:
        root = source.path
        for path in (path for path, other in walk(root) if not other):
            with reading(path), path.open("rb") as file:
                digest.update(f"{path.relative_to(root)} {path.stat().st_size}".encode(errors="replace"))
                while part := file.read(1 << 20):
                    digest.update(part)
    return digest.hexdigest()


def _rows(source: Source, options: ReadOptions, limit: int | None) -> Iterator[Document]:
    """The documents of a file or a data set of the hub, one a row; see read_documents."""
    recipe = source.recipe
    most = min((n for n in (limit, recipe and recipe.take) if n is not None), default=None)
    convert: Callable[[Row], tuple[str, ...]] | None = None
    read, first, reasons = 0, "", Counter[str]()
    for read, row in enumerate(islice(_raw_rows(source, options), most), 1):
        if convert is None:
            convert = _converter(source, row, options)
        try:
            yield Document(tuple(map(valid_text, convert(row))), source.name)
        except UnwritableError as why:
            first = first or f"row {read}: {why}"
            reasons[why.reason] += 1
    if not read:
        raise InputError(f"{source.where} has no rows; give another source")
    if reasons and options.incomplete == "refuse":
        counted = ", ".join(f"{count}: {reason}" for reason, count in reasons.most_common(3))
        raise InputError(
            f"{reasons.total()} of {read} rows of {source.where} cannot be used ({counted}), the first of them "
            f"{first}; correct the file, give --prompt-key and --response-key, or --skip-incomplete"
        )
    options.skipped.update({f"incomplete rows ({reason})": count for reason, count in reasons.items()})


def _raw_rows(source: Source, options: ReadOptions) -> Iterator[Row]:
    """The rows of a file or a data set of the hub; see read_documents."""
    recipe, path = source.recipe, source.path
    if path is not None:
        rows = read_rows(path, keys=_needed_keys(source, options))
        return shuffled(rows, recipe.shuffle) if recipe and recipe.shuffle is not None else rows
    if recipe:
        return read_hub(recipe.hub, None, recipe.split, options.streaming, recipe.shuffle)
    return read_hub(source.where.removeprefix(HUB), options.config, options.split, options.streaming)


def _given_keys(source: Source, options: ReadOptions) -> tuple[str | None, str | None]:
    """The keys of prompt and response that the options or the recipe name; None for the usual names."""
    recipe = source.recipe
    prompt = options.prompt_key or (recipe.prompt_key if recipe else None)
    return prompt, options.response_key or (recipe.response_key if recipe else None)


def _needed_keys(source: Source, options: ReadOptions) -> set[str]:
    """The keys of a row that may become a document."""
    prompt, response = _given_keys(source, options)
    asked = (prompt,) if prompt else MESSAGES_KEYS + PROMPT_KEYS
    return {TOOLS_KEY, *asked, *((response,) if response else RESPONSE_KEYS if options.answers else ())}


def _converter(source: Source, row: Row, options: ReadOptions) -> Callable[[Row], tuple[str, ...]]:
    """The function from a row to its turns, chosen by the keys of the first row.

    The function raises UnwritableError for a row without text; this one raises InputError if no key fits.
    """
    recipe, format_prompt = source.recipe, options.format_prompt
    prompt_key, response_key = _given_keys(source, options)
    if not prompt_key:
        prompt_key = next((key for key in MESSAGES_KEYS if is_conversation(row.get(key))), None)
        prompt_key = prompt_key or _usual(source, row, PROMPT_KEYS + MESSAGES_KEYS, "--prompt-key")
    if prompt_key in MESSAGES_KEYS or is_conversation(row.get(prompt_key)):
        return lambda row: _conversation(row, prompt_key, recipe, options)
    if not options.answers:
        return lambda row: (format_prompt(_first(row, prompt_key)), "")
    if prompt_key == "text" and not response_key and not set(row) & set(RESPONSE_KEYS):  # a corpus of plain text
        return lambda row: ("", _under(row, "text"))
    response = response_key or _usual(source, row, RESPONSE_KEYS, "--response-key")
    return lambda row: (format_prompt(_first(row, prompt_key)), _under(row, response))


def _under(row: Row, key: str) -> str:
    """The text under a key; raises UnwritableError if there is none."""
    if not isinstance(row.get(key), str):
        raise UnwritableError(f"there is no text under '{key}' (its keys: {shown_keys(row)})")
    return str(row[key])


def _first(row: Row, key: str) -> str:
    """The prompt under a key: a text, or the first of a list of turns."""
    value = row.get(key)
    return _under({**row, key: value[0]} if isinstance(value, list) and value else row, key)


def _conversation(row: Row, key: str, recipe: Recipe | None, options: ReadOptions) -> tuple[str, ...]:
    """The turns of a conversation; raises UnwritableError if it has no answer or the template cannot write it."""
    messages = first_exchanges(read_messages(row.get(key)), recipe.turns if recipe else None)
    if not messages:
        raise UnwritableError("it has no answer")
    try:
        return options.format_messages(messages, read_tools(row.get(TOOLS_KEY)))
    except InputError as error:  # the chat template refuses it
        raise UnwritableError(str(error)) from error


def _usual(source: Source, row: Row, names: tuple[str, ...], option: str) -> str:
    """The first of these names that is a key of the row; InputError, which names the option, if none is."""
    found = next((name for name in names if name in row), None)
    if found is None:
        what, where = ("columns", " or name them in its first line") if ".csv" in source.where else ("keys", "")
        raise InputError(
            f"the first row of {source.where} has the {what} {shown_keys(row)}; say with {option} which to use{where}"
        )
    return found


def _folder(folder: Path, origin: str, options: ReadOptions) -> Iterator[Document]:
    """Every text file under a folder as a document, line ends as they are; what is no text is skipped."""
    names: dict[str, str] = {}  # reasons with the first file of each
    for path, other in walk(folder):
        text, why = ("", other) if other else _text(path)
        if why:
            name = names.setdefault(why, f"{why} (the first: {path.relative_to(folder)})")
            options.skipped[name] += 1
        else:
            yield Document(("", text), origin)


def _text(path: Path) -> tuple[str, str]:
    """The text of a file and why it is none, '' if it is one; raises InputError for a file that cannot be read."""
    with reading(path):
        data = path.read_bytes()
    try:
        text = data.removeprefix(codecs.BOM_UTF8).decode()
    except UnicodeDecodeError:
        return "", "files that are not UTF-8"
    return text, "binary files" if "\0" in text else ""
