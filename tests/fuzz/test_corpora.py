"""Any corpus becomes its documents, or one line that names the file. Whole corpora give exactly what was written."""

import csv
import gzip
import io
import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dresd_milvus.corpus import ReadOptions, Source, read_documents
from dresd_milvus.corpus.documents import Document
from dresd_milvus.errors import InputError
from tests.fuzz.conftest import EXAMPLES

pytestmark = [pytest.mark.fuzz, pytest.mark.timeout(24 * 3600)]
FUZZ = settings(settings.get_profile("fuzz"), max_examples=EXAMPLES)

Pairs = list[tuple[str, str]]

CHARACTERS = st.characters(exclude_categories=["Cs"]) | st.sampled_from("\r\n\t\0\u2028\x85\ufeff\",'{}[]é😀")
TEXTS = st.text(CHARACTERS, max_size=12)
PAIRS = st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=6)

KEYS = st.sampled_from(
    ["instruction", "output", "prompt", "text", "messages", "role", "content", "from", "value", "data"]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS | st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)

Writer = Callable[[Pairs], bytes]


def rows(pairs: Pairs) -> list[dict[str, str]]:
    return [{"instruction": question, "output": answer} for question, answer in pairs]


def as_csv(pairs: Pairs) -> bytes:
    file = io.StringIO(newline="")
    csv.writer(file).writerows([("instruction", "output"), *pairs])
    return file.getvalue().encode()


def as_parquet(pairs: Pairs) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows(pairs)), file)
    return file.getvalue()


WRITERS: dict[str, tuple[str, Writer]] = {
    "lines": ("jsonl", lambda pairs: b"\n".join(json.dumps(row).encode() for row in rows(pairs))),
    "lines, not escaped": (
        "jsonl", lambda pairs: b"\r\n".join(json.dumps(row, ensure_ascii=False).encode() for row in rows(pairs)),
    ),
    "list": ("json", lambda pairs: json.dumps(rows(pairs), indent=1).encode()),
    "wrapped list": ("json", lambda pairs: json.dumps({"version": 1, "data": rows(pairs)}).encode()),
    "csv": ("csv", as_csv),
    "parquet": ("parquet", as_parquet),
    "conversations": ("jsonl", lambda pairs: b"\n".join(json.dumps(conversation(pair)).encode() for pair in pairs)),
}  # fmt: skip


def conversation(pair: tuple[str, str]) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": pair[0]}, {"role": "assistant", "content": pair[1]}]}


@st.composite
def files(draw: st.DrawFn) -> tuple[str, bytes, Pairs]:
    """(name, content, the pairs in it) of a whole file; as gzip or not, with UTF-8's mark or not."""
    (kind, write), pairs = draw(st.sampled_from(list(WRITERS.values()))), draw(PAIRS)
    if kind == "csv":  # the format has no NUL, and the csv module no lone carriage return
        pairs = [tuple(text.replace("\0", "").replace("\r", "") for text in pair) for pair in pairs]
    content = write(pairs)
    if kind != "parquet" and draw(st.booleans()):
        content = b"\xef\xbb\xbf" + content
    if packed := draw(st.booleans()):
        content = gzip.compress(content, mtime=0)
    return f"a.{kind}" + (".gz" if packed else ""), content, pairs


def read(name: str, content: bytes, **options: Any) -> Sequence[Document]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / name
        file.write_bytes(content)
        return list(read_documents(Source.parse(str(file)), ReadOptions(**options)))


def require_one_line(error: InputError) -> None:
    message = str(error)
    assert "\n" not in message and len(message) < 1_000 and "; " in message, message


@FUZZ
@given(files())
def test_a_whole_file_gives_its_documents(file: tuple[str, bytes, Pairs]) -> None:
    name, content, pairs = file
    assert [document.turns for document in read(name, content)] == pairs


@st.composite
def damaged(draw: st.DrawFn) -> tuple[str, bytes]:
    """A file with some bytes changed, taken out or put in."""
    name, content, _ = draw(files())
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(content)))
        end = at + draw(st.integers(0, 8))
        put = draw(
            st.binary(max_size=3) | st.sampled_from([b"[" * 50_000, b"1" * 5_000, b"\0", b"\xff\xfe", b"{}", b"\n"])
        )
        content = content[:at] + put + content[end:]
    return name, content[: draw(st.integers(0, len(content)))] if draw(st.booleans()) else content


@FUZZ
@given(damaged(), st.booleans())
def test_a_damaged_file_gives_documents_or_one_line(file: tuple[str, bytes], answers: bool) -> None:
    try:
        found = read(*file, answers=answers, incomplete="skip")
    except InputError as error:
        require_one_line(error)
    else:
        assert all(turn.encode() is not None for document in found for turn in document.turns)


@FUZZ
@given(st.lists(VALUES, max_size=5), st.sampled_from(["json", "jsonl"]), st.sampled_from(["skip", "refuse"]))
def test_any_json_gives_documents_or_one_line(values: list[Any], kind: str, incomplete: str) -> None:
    """Each row is a document or counted as one that cannot be used."""
    content = json.dumps(values) if kind == "json" else "\n".join(map(json.dumps, values))
    options = ReadOptions(incomplete=incomplete)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"a.{kind}"
        file.write_text(content)
        try:
            found = list(read_documents(Source.parse(str(file)), options))
        except InputError as error:
            require_one_line(error)
        else:
            assert len(found) + options.skipped.total() == len(values)


@FUZZ
@given(
    st.dictionaries(st.text("abc.", min_size=1, max_size=4), st.binary(max_size=12) | TEXTS.map(str.encode), max_size=4)
)
def test_a_folder_gives_its_texts_and_counts_the_rest(contents: dict[str, bytes]) -> None:
    """Texts are kept to the last carriage return; what is no text is counted."""
    with tempfile.TemporaryDirectory() as folder:
        named = {f"x{name}": content for name, content in contents.items()}
        for name, content in named.items():
            (Path(folder) / name).write_bytes(content)
        options = ReadOptions()
        try:
            found = list(read_documents(Source.parse(folder), options))
        except InputError as error:
            require_one_line(error)
        else:
            assert len(found) + options.skipped.total() == len(named)
            whole = {content.removeprefix(b"\xef\xbb\xbf") for content in named.values()}
            assert {document.turns[1].encode() for document in found} <= whole
