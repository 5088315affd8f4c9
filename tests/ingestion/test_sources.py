"""Corpora: what is read, in which order, and what is refused."""

import gzip
import json
from pathlib import Path

import pytest

from dresd_milvus.corpus import Template, read_documents, stdlib
from dresd_milvus.errors import InputError

ROWS = [{"instruction": f"q{n}", "output": f"a{n}"} for n in range(5)]


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.jsonl.gz"])
def test_json_files_of_every_kind(tmp_path: Path, name: str) -> None:
    text = json.dumps(ROWS) if name == "a.json" else "\n".join(map(json.dumps, ROWS)) + "\n\n"
    opened = gzip.open if name.endswith("gz") else open
    with opened(tmp_path / name, "wt") as file:
        file.write(text)
    documents = list(read_documents(str(tmp_path / name)))
    assert [(d.prompt, d.response) for d in documents] == [(f"q{n}", f"a{n}") for n in range(5)]
    assert len(list(read_documents(str(tmp_path / name), limit=2))) == 2


def test_rows_without_a_key_are_counted_and_named(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    rows = [*ROWS, {"instruction": "q"}, {"instruction": "q", "output": None}]
    path.write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(InputError, match=r"2 of 7 rows of .* under the key 'output', the first of them row 6"):
        list(read_documents(str(path)))
    assert len(list(read_documents(str(path), limit=5))) == 5
    with pytest.raises(InputError, match=r"7 of 7 rows .* key 'answer'.*--response-key"):
        list(read_documents(str(path), response_key="answer"))


def test_unusual_keys_are_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"in": "q", "out": "a"}\n')
    with pytest.raises(InputError, match="keys in, out; say with --prompt-key"):
        list(read_documents(str(path)))
    assert next(read_documents(str(path), "in", "out")).response == "a"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b"", "has no rows"),
        ("a.jsonl", b'{"instruction": "q", "output": "a"}\n{"inst', "cannot be read"),
        ("a.jsonl", b"[1]\n", "row 1 of .* is not a JSON object"),
        ("a.jsonl.gz", b"not gzip", "cannot be read"),
        ("a.jsonl", b'{"instruction": "\xff"}', "cannot be read"),
        ("a.csv", b"a,b", "not a kind of file"),
    ],
)
def test_what_cannot_be_read_is_one_clear_line(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        list(read_documents(str(tmp_path / name)))


def test_a_folder_gives_its_text_files_in_order(tmp_path: Path) -> None:
    for name, content in {
        "b.py": b"b = 1",
        "a/x.txt": b"x",
        "z.bin": b"\xff\x00",
        "n.txt": b"a\0b",
        "e.md": b" ",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden" / "h.txt").write_text("h")
    assert [(d.prompt, d.response) for d in read_documents(str(tmp_path))] == [("", "x"), ("", "b = 1")]


def test_an_unknown_source_is_refused() -> None:
    with pytest.raises(InputError, match="no source 'nowhere'"):
        list(read_documents("nowhere"))


def test_the_standard_library_is_split_without_overlap() -> None:
    kept, held = list(stdlib.pairs()), list(stdlib.pairs(held_back=True))
    assert not {pair.response for pair in kept} & {pair.response for pair in held}
    assert len(kept) > 3000 and 0.03 < len(held) / (len(kept) + len(held)) < 0.07


def test_a_function_loses_its_docstring_and_keeps_its_body(tmp_path: Path) -> None:
    source = (
        "class A:\n    async def f(self,\n            x):  # c\n"
        '        """Do it.\n\n        More.\n        """\n        # why\n        return x\n'
    )
    (tmp_path / "m.py").write_text(source)
    pair = next(stdlib.functions(tmp_path, "here"))
    assert pair.prompt == "Write a Python function `f`. Do it."
    assert pair.response == "async def f(self,\n        x):  # c\n    # why\n    return x"


def test_templates() -> None:
    assert Template.parse("Q: {prompt}\\nA:")("{x} %s") == "Q: {x} %s\nA:"
    assert Template()("p") == "Question: p\nAnswer:\n"
    for bad in ("no placeholder", "{prompt}{instruction}"):
        with pytest.raises(InputError, match="exactly once"):
            Template(bad)
