"""Files as people have them: what is read of them, and the one line where they cannot be read."""

import bz2
import errno
import gzip
import json
import lzma
import os
import zipfile
import zlib
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dresd_milvus.corpus import ReadOptions, Source, read_documents
from dresd_milvus.corpus.sources import content_hash
from dresd_milvus.errors import InputError
from tests.corpus.reading import read
from tests.helpers import dresd

ROW = b'{"instruction": "q", "output": "a"}'
TABLE = b"instruction,output\nq,a\n"
BOM = b"\xef\xbb\xbf"
MANY = b"".join(b'{"instruction": "q%d", "output": "a%d"}\n' % (n, n * n) for n in range(20_000))
PACKED = gzip.compress(MANY)


def row(output: str) -> bytes:
    """A row whose answer is this JSON."""
    return b'{"instruction": "q", "output": %s}' % output.encode()


def with_bytes(data: bytes, at: int, other: bytes) -> bytes:
    return data[:at] + other + data[at + len(other) :]


def zipped(data: bytes) -> bytes:
    file = BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.jsonl", data)
    return file.getvalue()


READ = {
    "a mark first": ("a.jsonl", BOM + ROW, ["a"]),
    "a mark in the middle, of files put together": ("a.jsonl", ROW + b"\n" + BOM + ROW + b"\n", ["a", "a"]),
    "a mark before a list": ("a.json", BOM + b"[" + ROW + b"]", ["a"]),
    "a mark before a quoted column": ("a.csv", BOM + b'"instruction","output"\nq,a\n', ["a"]),
    "a mark in a gzip file": ("a.jsonl.gz", gzip.compress(BOM + ROW), ["a"]),
    "numbers that JSON does not know": ("a.jsonl", b'{"text": "a", "x": [NaN, -Infinity, 1e999]}', ["a"]),
    "nested columns": ("a.jsonl", b'{"text": "a", "x": ' + b"[" * 200 + b"]" * 200 + b"}", ["a"]),
    "a .gz that is not compressed": ("a.jsonl.gz", ROW, ["a"]),
    "gzip without the ending": ("a.jsonl", gzip.compress(ROW), ["a"]),
    "gzip in two parts": ("a.jsonl.gz", gzip.compress(ROW + b"\n") + gzip.compress(ROW), ["a", "a"]),
    "gzip padded with NUL": ("a.csv.gz", gzip.compress(TABLE) + bytes(512), ["a"]),
    "columns without a name": ("a.csv", b"instruction,output,,\nq,a,,\n", ["a"]),
    "empty lines in a table": ("a.csv", b"instruction,output\n\nq,a\n\n", ["a"]),
    "line ends in a field": ("a.csv", b'instruction,output\r\nq,"a\r\nb\nc"\r\n', ["a\r\nb\nc"]),
    "a table of old Macs": ("a.csv", b"instruction,output\rq,a\rq,b\r", ["a", "b"]),
    "a line separator in a field": ("a.csv", "instruction,output\nq,a\u2028b\x85c\n".encode(), ["a\u2028b\x85c"]),
    "a long field": ("a.csv", b"instruction,output\nq," + b"a" * 200_000, ["a" * 200_000]),
    "rows under a key": ("a.json", b'{"version": 1, "data": [%s, %s]}' % (ROW, ROW), ["a", "a"]),
    "a split": ("a.json", b'{"train": [%s]}' % ROW, ["a"]),
    "one row": ("a.json", ROW, ["a"]),
    "one row with a list": ("a.json", row('"a", "tags": ["x", "y"]'), ["a"]),
    "one conversation": (
        "a.json", b'{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}', ["a"],
    ),
    "rows in lines, called .json": ("a.json", ROW + b"\n" + ROW + b"\n", ["a", "a"]),
    "CRLF": ("a.jsonl", ROW + b"\r\n\r\n" + ROW + b"\r\n", ["a", "a"]),
    "line separators in a text": ("a.jsonl", row('"a\u2028b\u2029c\x85d"'), ["a\u2028b\u2029c\x85d"]),
    "CRLF in a text": ("a.jsonl", row('"a\\r\\nb\\rc\\n"'), ["a\r\nb\rc\n"]),
    "NUL in a text": ("a.jsonl", row('"a\\u0000b"'), ["a\0b"]),
    "half a character": ("a.jsonl", row('"a\\ud800b"'), ["a?b"]),
    "both halves": ("a.jsonl", row('"\\ud83d\\ude00"'), ["😀"]),
    "half a character in a conversation": (
        "a.jsonl",
        b'{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "\\udc00"}]}',
        ["?"],
    ),
    "capitals in the ending": ("a.JSONL", ROW, ["a"]),
    "capitals and gzip": ("a.Json.GZ", gzip.compress(ROW), ["a"]),
    "another name of jsonl": ("a.ndjson", ROW, ["a"]),
    "spaces": ("a b .jsonl", ROW, ["a"]),
    "a line break in the name": ("a\nb.jsonl", ROW, ["a"]),
    "a name that is not UTF-8": ("a\udcff.jsonl", ROW, ["a"]),
    "an equals sign in the name": ("mine=a.jsonl", ROW, ["a"]),
}  # fmt: skip

REFUSED = {
    "UTF-16": ("a.jsonl", ROW.decode().encode("utf-16"), "is UTF-16; convert it to UTF-8"),
    "UTF-16 in a list": ("a.json", b"\xfe\xff" + ROW.decode().encode("utf-16-be"), "is UTF-16; convert"),
    "UTF-16 in a table": ("a.csv", TABLE.decode().encode("utf-16"), "is UTF-16; convert"),
    "UTF-32": ("a.json", ROW.decode().encode("utf-32"), "is UTF-32; convert"),
    "UTF-16 without a mark": ("a.jsonl", ROW.decode().encode("utf-16-le"), "NUL bytes, as UTF-16"),
    "UTF-16 in gzip": ("a.csv.gz", gzip.compress(TABLE.decode().encode("utf-16")), "is UTF-16; convert"),
    "Latin-1": ("a.jsonl", ROW + b"\n" + row('"é"').decode().encode("latin-1"), r"line 2 .*not UTF-8 .*0xe9.* convert"),
    "Latin-1 in a table": ("a.csv", TABLE + b"q,\xe9\n", r"line 3 .*not UTF-8 .*0xe9.* convert"),
    "Latin-1 in the columns": ("a.csv", b"instruction,\xe9\n", r"line 1 .*not UTF-8 .*0xe9.* convert"),
    "Latin-1 in a list": ("a.json", b'[{"text": "\xe9"}]', r"not UTF-8 .byte 12 is 0xe9.*convert"),
    "half a character in UTF-8": ("a.jsonl", b'{"text": "\xed\xa0\x80"}', r"line 1 .*not UTF-8 .*0xed"),
    "5,000 digits": ("a.jsonl", ROW + b"\n" + row("1" * 5000), "line 2 .*number .*4,300 digits"),
    "5,000 digits in a list": ("a.json", b"[%s]" % row("1" * 5000), "number .*4,300 digits"),
    "100,000 brackets": ("a.jsonl", b"[" * 100_000, "line 1 .*nested too deeply"),
    "100,000 brackets in a list": ("a.json", row("[" * 100_000), "nested too deeply"),
    "a byte changed in gzip": ("a.jsonl.gz", with_bytes(PACKED, 10, b"\xff\xff"), "damaged"),
    "a checksum changed in gzip": ("a.jsonl.gz", with_bytes(PACKED, len(PACKED) - 8, b"\0\0"), "damaged"),
    "gzip that is cut": ("a.jsonl.gz", PACKED[:20_000], "damaged"),
    "gzip with more behind it": ("a.jsonl.gz", PACKED + b"more", "damaged"),
    "zstd": ("a.jsonl", b"\x28\xb5\x2f\xfd\x04\x00", "compressed with zstd; .*gzip"),
    "zstd by its name": ("a.jsonl.zst", b"\x28\xb5\x2f\xfd\x04\x00", r"type .* can be read; .*\.gz"),
    "bzip2": ("a.jsonl", bz2.compress(ROW), "compressed with bzip2"),
    "xz": ("a.csv", lzma.compress(TABLE), "compressed with xz"),
    "zip": ("a.json", zipped(ROW), "compressed with zip"),
    "zlib": ("a.jsonl", zlib.compress(ROW), "line 1 .*not UTF-8"),
    "a field too many": ("a.csv", TABLE + b"q,a,b\n", "line 3 .*fields: 3, columns: 2.*; "),
    "a field too few": ("a.csv", TABLE + b"q\n", "line 3 .*fields: 1, columns: 2.*; "),
    "a column twice": ("a.csv", b"instruction,output,output\nq,a,b\n", "column 'output' twice"),
    "no names of columns": ("a.csv", b"what is it,this\nand that,those\n", "columns what is it, this; .*first line"),
    "a quote that is not closed": ("a.csv", TABLE + b'q,"a\nq,b\n', "line 4 .*quote|unexpected end"),
    "text behind a quote": ("a.csv", TABLE + b'q,"a"b\n', "line 3 "),
    "semicolons": ("a.csv", b"instruction;output\nq;a\n", "separated by semicolons; .*commas"),
    "tabs": ("a.csv", b"instruction\toutput\nq\ta\n", "separated by tabs; .*commas"),
    "columns only": ("a.csv", b"instruction,output\n", "has no rows"),
    "two lists of rows": ("a.json", b'{"train": [%s], "test": [%s]}' % (ROW, ROW), "lists of rows under train, test; "),
    "lists of values": ("a.json", b'{"instruction": ["q", "r"], "output": ["a", "b"]}', "columns.*; .*list of rows"),
    "numbered values": ("a.json", b'{"prompt": {"0": "q"}, "output": {"0": "a"}}', "columns.*; .*list of rows"),
    "a row that is cut": ("a.jsonl", ROW + b"\n" + ROW[:20], "line 2 .*not JSON .*character 21"),
    "a list that is cut": ("a.json", b"[%s, " % ROW, "not JSON"),
    "another type": ("a.xlsx", b"a,b", "not a type of file"),
    "a list of texts": ("a.json", b'["a", "b"]', "row 1 .*is not a JSON object"),
    "a number": ("a.json", b"1", "is not a JSON object"),
    "null": ("a.jsonl", b"null", "line 1 .*is not a JSON object"),
    "a list, called .jsonl": ("a.jsonl", b"[%s, %s]" % (ROW, ROW), r"line 1 .* is a list.*; .*\.json"),
    "rows over several lines": ("a.jsonl", json.dumps(json.loads(ROW), indent=1).encode(), "line 1 .*JSON"),
    "lines of old Macs": ("a.jsonl", ROW + b"\r" + ROW, "line 1 .*JSON"),
    "NUL bytes behind the rows": ("a.jsonl", ROW + b"\n" + bytes(100), "line 2 .*NUL bytes"),
    "nothing": ("a.jsonl", b"", "has no rows"),
    "nothing, called .json": ("a.json", b"", "has no rows"),
    "nothing, called .csv": ("a.csv", b"", "has no rows"),
    "nothing, called .parquet": ("a.parquet", b"", "has no rows"),
    "nothing in gzip": ("a.json.gz", gzip.compress(b""), "has no rows"),
    "nothing instead of gzip": ("a.jsonl.gz", b"", "has no rows"),
    "only a mark": ("a.json", BOM, "has no rows"),
    "only spaces": ("a.jsonl", b" \n \r\n\t\n", "has no rows"),
    "an empty list": ("a.json", b"[]", "has no rows"),
    "an object of nothing": ("a.json", b"{}", "nothing in it; .*list of rows"),
    "a string that does not end": ("a.jsonl", b'{"text": "a', "starting at character 10"),
    "a conversation of nothing": ("a.jsonl", b'{"messages": []}', "1 of 1 rows .*not a list of messages"),
    "many keys": ("a.jsonl", json.dumps({f"key {n}": n for n in range(10_000)}).encode(), "key 0, .* more; "),
    "a long key": ("a.jsonl", json.dumps({"k" * 100_000: 1}).encode(), "kkk.*; "),
}


@pytest.mark.parametrize(("name", "content", "answers"), READ.values(), ids=READ)
def test_what_can_be_read_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: bytes, answers: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(content)
    documents = read(name)
    assert [document.turns[-1] for document in documents] == answers
    assert all(turn.encode() is not None for turn in (documents[0].origin, *documents[0].turns))


@pytest.mark.parametrize(("name", "content", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_read_is_refused_in_one_line(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message) as refused:
        read(tmp_path / name)
    assert str(tmp_path / name) in str(refused.value) and "; " in str(refused.value)
    assert len(str(refused.value)) < 700 and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (os.mkfifo, "is not a file; .*pipe"),
        (lambda path: path.symlink_to("/dev/zero"), "is not a file; .*pipe"),
        (lambda path: path.symlink_to(path), "symbolic links"),
        (lambda path: path.symlink_to("nowhere"), "no source"),
    ],
    ids=["pipe", "device", "link to itself", "link to nothing"],
)
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, make: Callable[[Path], None], message: str) -> None:
    make(tmp_path / "a.jsonl")
    with pytest.raises(InputError, match=message):
        read(tmp_path / "a.jsonl")


@pytest.mark.parametrize("where", ["-", "a" * 300 + ".jsonl", "a.jsonl/b.jsonl", "a\0b.jsonl", "~nobody/a.jsonl"])
def test_names_of_nothing_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.jsonl").write_bytes(ROW)
    with pytest.raises(InputError, match=r"no source|too long"):
        read(where)


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.csv", "a.json", "a.parquet", "folder/a.txt"])
def test_what_may_not_be_read_is_called_unreadable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The test may run as root, who may read everything, so the refusal is made up."""
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(ROW)

    def refuse(opened: Path, *_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(opened))

    for how in ("open", "read_bytes"):
        monkeypatch.setattr(Path, how, refuse)
    with pytest.raises(InputError, match=r"a\..* cannot be read \(Permission denied\); "):
        read(path if path.parent == tmp_path else path.parent)


def by_type(**columns: pa.Array) -> pa.Table:
    return pa.table({"output": ["a", "b"], "instruction": ["p", "q"], **columns})


def test_columns_of_parquet_that_are_not_needed_are_not_read(tmp_path: Path) -> None:
    """Python has no date after the year 9999, and fails where it converts one."""
    far = pa.array([2**52, 2**52], pa.timestamp("ms"))
    table = by_type(far=far, days=pa.array([10**8] * 2, pa.date32()), **{"a.b": pa.array([{"c": [1]}] * 2)})
    pq.write_table(table, tmp_path / "a.parquet")
    assert [document.turns for document in read(tmp_path / "a.parquet")] == [("p", "a"), ("q", "b")]
    with pytest.raises(InputError, match=r"2 of 2 .*under 'a.b' .* output, instruction, far, days, a\.b"):
        read(tmp_path / "a.parquet", response_key="a.b")
    with pytest.raises(InputError, match=r"a\.parquet cannot be read .*; "):
        read(tmp_path / "a.parquet", response_key="far")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (pa.table([["q"], ["a"], ["b"]], ["instruction", "output", "output"]), "column 'output' twice"),
        (pa.table({"instruction": ["q"], "output": [b"a"]}), "1 of 1 rows .*no text under 'output'"),
        (pa.table({"instruction": pa.array([], pa.string()), "output": pa.array([], pa.string())}), "has no rows"),
        (pa.table({"x": [1]}), "has the keys x; "),
        (
            pa.table({"instruction": ["q"], "output": pa.array([b"\xff"]).view(pa.string())}),
            "a.parquet cannot be read .*utf-8",
        ),
    ],
    ids=["a column twice", "bytes", "no rows", "other columns", "not UTF-8"],
)
def test_parquet_that_does_not_fit_is_refused_in_one_line(tmp_path: Path, table: pa.Table, message: str) -> None:
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(InputError, match=message):
        read(tmp_path / "a.parquet")


@pytest.mark.parametrize("change", ["cut", "flipped", "text"])
def test_damaged_parquet_is_refused(tmp_path: Path, change: str) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"instruction": ["q"] * 1000, "output": [f"a{n}" for n in range(1000)]}), path)
    data = path.read_bytes()
    path.write_bytes({"cut": data[:-100], "flipped": with_bytes(data, 8, b"\xff" * 8), "text": b"PAR1 not"}[change])
    with pytest.raises(InputError, match=r"a\.parquet cannot be read"):
        read(path)


def test_a_damaged_parquet_file_does_not_end_the_process(tmp_path: Path) -> None:
    """Arrow aborts where it is to make a batch of very many rows and no columns."""
    pq.write_table(pa.table({}), tmp_path / "a.parquet")
    data = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "a.parquet").write_bytes(data.replace(b"\x16\x00\x16\x00&", b"\x16\x00\x16\xeb&"))
    with pytest.raises(InputError, match=r"has no rows|cannot be read"):
        read(tmp_path / "a.parquet")
    assert (tmp_path / "a.parquet").read_bytes() != data


def test_parquet_of_other_kinds_of_text(tmp_path: Path) -> None:
    """Dictionaries, long texts, a column twice that is not needed, compressed once more."""
    values = [pa.array(["q", "q"]).dictionary_encode(), pa.array(["a", "b"], pa.large_string()), [1, 2], [3, 4]]
    pq.write_table(pa.table(values, ["instruction", "output", "x", "x"]), tmp_path / "a.parquet")
    (tmp_path / "a.parquet.gz").write_bytes(gzip.compress((tmp_path / "a.parquet").read_bytes()))
    for name in ("a.parquet", "a.parquet.gz"):
        assert [document.turns for document in read(tmp_path / name)] == [("q", "a"), ("q", "b")]


def test_a_folder_says_what_it_passes_over(tmp_path: Path) -> None:
    folder = tmp_path / "x.jsonl"
    (folder / "deep").mkdir(parents=True)
    for name, content in {
        "a.txt": BOM + b"a\r\nb\rc\n", "b.txt": b"", "deep/c\udcff.txt": b"c", "d d\n.py": "d\u2028\x0c".encode(),
        "u.txt": "u".encode("utf-16"), "v.txt": b"\xe9", "w.txt": b"w\0", "z.txt.gz": PACKED, ".env": b"s",
    }.items():  # fmt: skip
        (folder / name).write_bytes(content)
    os.mkfifo(folder / "pipe")
    (folder / "deep" / "up").symlink_to(folder)
    (folder / "gone").symlink_to("nowhere")
    (folder / "loop").symlink_to("loop")
    (folder / "same.txt").symlink_to("a.txt")
    (folder / "__pycache__").mkdir()
    reading = ReadOptions()
    documents = list(read_documents(Source.parse(str(folder)), reading))
    assert [d.turns[1] for d in documents] == ["a\r\nb\rc\n", "", "d\u2028\x0c", "c", "a\r\nb\rc\n"]
    assert reading.skipped == {
        "hidden files and caches (the first: .env)": 2,
        "links to folders (the first: deep/up)": 1,
        "links to nothing (the first: gone)": 2,
        "pipes, sockets and devices (the first: pipe)": 1,
        "files that are not UTF-8 (the first: u.txt)": 3,
        "binary files (the first: w.txt)": 1,
    }


def test_a_folder_that_may_not_be_entered_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "closed").mkdir()
    inside = Path.iterdir

    def refuse(folder: Path) -> Iterator[Path]:
        if folder.name == "closed":
            raise PermissionError(errno.EACCES, "Permission denied")
        return inside(folder)

    monkeypatch.setattr(Path, "iterdir", refuse)
    for use in (read, lambda folder: content_hash(Source.parse(str(folder)))):
        with pytest.raises(InputError, match=r"closed cannot be read \(Permission denied\); "):
            use(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "documents"),
    [
        ("a.jsonl", ROW * 1 + b"\r\n" + ROW.replace(b"q", b"r"), "2 documents"),
        ("a\udcff\n.JSONL", BOM + row('"a\\ud800"'), "1 documents"),
        ("a.csv", TABLE + b"q,a,b\n", "line 3 of "),
        ("a.jsonl", b"[" * 100_000, "line 1 of "),
        ("a.jsonl.gz", PACKED[:-9], "damaged"),
        ("a" * 300, b"", "too long"),
    ],
)
def test_the_command_line_plans_or_says_why_not(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str, content: bytes, documents: str
) -> None:
    if content:
        (tmp_path / name).write_bytes(content)
    done = dresd(capsys, "ingest", "plan", "--source", tmp_path / name, "--uri", tmp_path / "s.db", "--collection", "c")
    assert documents in (done.out if documents.endswith("documents") else done.error), done
