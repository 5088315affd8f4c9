"""Files and folders that appear whole or not at all."""

import os
from pathlib import Path

import pytest

from dresd_milvus.files.atomic import atomic_file, atomic_folder, write_json, write_text


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_has_its_name_when_it_is_whole_and_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, synced = tmp_path / "deep" / "a.txt", []
    monkeypatch.setattr(os, "fsync", lambda opened: synced.append(Path(f"/proc/self/fd/{opened}").readlink().name))
    with atomic_file(path) as file:
        file.write(b"half")
        assert not path.exists()
        file.write(b" and half")
    assert path.read_bytes() == b"half and half" and names(path.parent) == ["a.txt"]
    assert synced[0].endswith(".part") and synced[1] == "deep"  # the content before the name, then the name


def test_an_error_leaves_what_was_there(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "befóre")
    with pytest.raises(OSError, match="full"), atomic_file(tmp_path / "a.txt") as file:
        file.write(b"half")
        raise OSError("the disk is full")
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.txt", object())
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "befóre" and names(tmp_path) == ["a.txt"]


def test_two_processes_do_not_write_one_temporary_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with atomic_file(tmp_path / "a") as first:
        monkeypatch.setattr(os, "getpid", lambda: 0)
        with atomic_file(tmp_path / "a") as second:
            first.write(b"first")
            second.write(b"second")
        assert (tmp_path / "a").read_bytes() == b"second"
    assert (tmp_path / "a").read_bytes() == b"first"


def test_what_a_killed_process_left_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "a.part").write_text("half")
    (tmp_path / "b.part" / "deep").mkdir(parents=True)
    with atomic_file(tmp_path / "a", single_writer=True) as file:
        file.write(b"x")
    with atomic_folder(tmp_path / "b", single_writer=True) as folder:
        assert list(folder.iterdir()) == []
    assert names(tmp_path) == ["a", "b"]


@pytest.mark.parametrize("replace", [True, False])
def test_a_folder_replaces_another_only_where_that_is_asked_for(tmp_path: Path, replace: bool) -> None:
    write_text(tmp_path / "a" / "old", "")
    try:
        with atomic_folder(tmp_path / "a", replace=replace) as folder:
            write_text(folder / "new", "")
    except OSError:
        assert not replace
    assert names(tmp_path / "a") == ["new" if replace else "old"] and names(tmp_path) == ["a"]


def test_a_folder_that_could_not_be_filled_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="half-way"), atomic_folder(tmp_path / "a", replace=True) as folder:
        write_text(folder / "new", "")
        raise ValueError("half-way")
    assert names(tmp_path) == []
