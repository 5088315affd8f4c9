"""Files that are not as they were written are named; what was verified once is not read again."""

import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dresd_milvus.errors import DamagedFileError
from dresd_milvus.files.digests import read_checked, verify_digests, write_checked, write_digests


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.npy", "b.npy"):
        (tmp_path / name).write_bytes(bytes(range(100)))
    write_digests(tmp_path, ["a.npy", "b.npy"])
    verify_digests(tmp_path)
    return tmp_path


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "flipped": lambda content: content[:50] + b"\xff" + content[51:],
    "cut": lambda content: content[:-1],
    "empty": lambda content: b"",
    "longer": lambda content: content + b"x",
}


@pytest.mark.parametrize("how", list(DAMAGE))
def test_a_changed_file_is_named(folder: Path, how: str) -> None:
    path = folder / "b.npy"
    path.write_bytes(DAMAGE[how](path.read_bytes()))
    with pytest.raises(DamagedFileError, match=r"b\.npy is not as it was written"):
        verify_digests(folder)


def test_a_missing_file_and_damaged_digests_are_errors(folder: Path) -> None:
    (folder / "digests.json").write_text("{")
    with pytest.raises(DamagedFileError, match=r"digests\.json is damaged"):
        verify_digests(folder)
    write_digests(folder, ["a.npy"])
    (folder / "a.npy").unlink()
    with pytest.raises(FileNotFoundError):
        verify_digests(folder)


def test_what_was_verified_is_not_read_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = list[Path]()
    real = Path.open
    monkeypatch.setattr(Path, "open", lambda path, *how, **more: opened.append(path) or real(path, *how, **more))
    verify_digests(folder)
    assert not [path for path in opened if path.suffix == ".npy"]
    (folder / "verified.json").write_text("[]")
    verify_digests(folder)
    assert {path.name for path in opened if path.suffix == ".npy"} == {"a.npy", "b.npy"}


def test_only_files_of_earlier_versions_have_no_digests(tmp_path: Path) -> None:
    verify_digests(tmp_path, required=False)
    with pytest.raises(DamagedFileError, match=r"digests\.json is missing"):
        verify_digests(tmp_path)


@pytest.mark.parametrize("content", [{}, {"a": 1, "b": ["é", None]}])
def test_a_checked_file_gives_what_was_written(tmp_path: Path, content: dict) -> None:
    write_checked(tmp_path / "a.json", content)
    assert read_checked(tmp_path / "a.json") == content


@given(st.integers(0, 200), st.integers(1, 255))
def test_no_changed_byte_changes_what_is_read(at: int, change: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path, content = Path(folder) / "a.json", {"rows": 1234, "checksum": "abcdef"}
        write_checked(path, content)
        data = bytearray(path.read_bytes())
        data[at % len(data)] ^= change
        path.write_bytes(data)
        with suppress(DamagedFileError):  # but white space, and the name of the digest
            assert content.items() <= read_checked(path).items()


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", '"digest"', '{"digest": 3}', "\xff"])
def test_what_is_no_checked_file_is_damaged(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(DamagedFileError, match=r"a\.json is damaged"):
        read_checked(tmp_path / "a.json")


def test_a_file_without_a_digest_is_of_an_earlier_version(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"rows": 3}')
    assert read_checked(tmp_path / "a.json") == {"rows": 3}
