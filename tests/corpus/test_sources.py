"""Corpora: what is read, in which order, and what is refused."""

import csv
import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dresd_milvus.corpus import Document, ReadOptions, Source, Template, read_documents
from dresd_milvus.errors import InputError
from tests.corpus.reading import read, write_jsonl

ROWS = [{"instruction": f"q{n}", "output": f"a{n}"} for n in range(5)]


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.jsonl.gz", "a.csv", "a.csv.gz", "a.parquet"])
def test_files_of_every_kind(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name.endswith("parquet"):
        pq.write_table(pa.Table.from_pylist(ROWS), path)
    else:
        with gzip.open(path, "wt") if name.endswith("gz") else path.open("w") as file:
            if "csv" in name:
                writer = csv.DictWriter(file, ["instruction", "output"])
                writer.writeheader()
                writer.writerows(ROWS)
            else:
                file.write(json.dumps(ROWS) if name == "a.json" else "\n".join(map(json.dumps, ROWS)) + "\n\n")
    assert [d.turns for d in read(path)] == [(f"q{n}", f"a{n}") for n in range(5)]
    assert len(read(path, limit=2)) == 2 and {d.origin for d in read(f"mine={path}")} == {"mine"}


def test_rows_without_a_key_are_counted_and_named(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [*ROWS, {"instruction": "q"}, {"instruction": "q", "output": None}])
    with pytest.raises(InputError, match=r"2 of 7 rows of .* row 6: .* under 'output' \(its keys: instruction\)"):
        read(path)
    assert len(read(path, limit=5)) == 5
    with pytest.raises(InputError, match=r"7 of 7 rows .*--response-key"):
        read(path, response_key="answer")
    reading = ReadOptions(incomplete="skip")
    assert len(list(read_documents(Source.parse(str(path)), reading))) == 5
    assert reading.skipped.total() == 2 and all(why.startswith("incomplete rows (") for why in reading.skipped)


def test_unusual_keys_are_asked_for(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{"in": "q", "out": "a"}])
    with pytest.raises(InputError, match="keys in, out; say with --prompt-key"):
        read(path)
    assert read(path, prompt_key="in", response_key="out") == [Document(("q", "a"), "a.jsonl")]


def test_plain_text_rows_are_answers_to_nothing(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{"text": "one"}, {"text": "two"}])
    assert [d.turns for d in read(path, template=Template())] == [("", "one"), ("", "two")]


def test_what_is_not_there_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no source 'nowhere'"):
        read("nowhere")
    with pytest.raises(InputError, match="names no place"):
        read("mine=")
    with pytest.raises(InputError, match="cannot load the dataset 'no-such/dataset'"):
        read("hf:no-such/dataset")
