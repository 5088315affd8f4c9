"""Files of rows: they come back as they were written, and what is damaged is refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dresd_milvus.errors import DamagedFileError
from dresd_milvus.retrieval.store import Rows
from dresd_milvus.storage.row_file import RowFile, read_rows
from tests.oracle import example_rows

ORIGINS = st.sampled_from(["one.jsonl", "two", "", 'a "quoted" source'])


def by_key(batches: list[Rows]) -> dict[int, tuple[object, ...]]:
    return {
        pk: (vector.tolist(), tokens.tolist(), batch.origin, preview)
        for batch in batches
        for pk, vector, tokens, preview in zip(
            batch.pk.tolist(), batch.vectors, batch.next_tokens, batch.previews or [""] * len(batch), strict=True
        )
    }


@given(parts=st.lists(st.tuples(st.integers(1, 40), ORIGINS, st.booleans()), max_size=5), dim=st.integers(1, 9))
def test_rows_come_back_with_their_source_and_previews(
    tmp_path_factory: pytest.TempPathFactory, parts: list[tuple[int, str, bool]], dim: int
) -> None:
    path = tmp_path_factory.mktemp("rows") / "rows.parquet"
    written = []
    for number, (count, origin, readable) in enumerate(parts):
        rows = example_rows(count, dim, seed=number)
        previews = rows.previews if readable else None
        written.append(replace(rows, pk=rows.pk + (number << 50), origin=origin, previews=previews))
    with RowFile(path) as file:
        for rows in written:
            file.write(rows)
    assert file.rows == sum(count for count, *_ in parts)
    found = list(read_rows(path, file.digest))
    assert by_key(found) == by_key(written) == by_key(list(read_rows(path)))
    for rows in found:
        assert (rows.pk.dtype, rows.vectors.dtype, rows.next_tokens.dtype) == (np.int64, np.float32, np.int32)


def test_a_file_has_its_name_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    with RowFile(path) as file:
        file.write(example_rows(5))
        assert not path.exists() and not file.digest
    assert path.exists() and file.digest
    with pytest.raises(KeyboardInterrupt), RowFile(tmp_path / "other.parquet") as other:
        other.write(example_rows(5))
        raise KeyboardInterrupt
    assert [each.name for each in tmp_path.iterdir()] == ["rows.parquet"]


@given(at=st.floats(0, 1), bit=st.integers(0, 7))
def test_one_bit_that_was_flipped_is_noticed(tmp_path_factory: pytest.TempPathFactory, at: float, bit: int) -> None:
    path = tmp_path_factory.mktemp("rows") / "rows.parquet"
    with RowFile(path) as file:
        file.write(example_rows(20))
    content = bytearray(path.read_bytes())
    content[int(at * (len(content) - 1))] ^= 1 << bit
    path.write_bytes(content)
    with pytest.raises(DamagedFileError, match=r"rows\.parquet is damaged"):
        list(read_rows(path, file.digest))


def test_what_is_no_file_of_rows_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"nothing of the kind")
    for name in ("a.parquet", "none.parquet"):
        with pytest.raises(DamagedFileError, match=f"{name} cannot be read"):
            list(read_rows(tmp_path / name))
