"""Document files are read as they were written, or refused."""

from pathlib import Path

import pytest

from dresd_milvus.corpus import Document
from dresd_milvus.errors import StoreError
from ingestion.planning.documents import NumberedDocuments, read_documents, write_documents

DOCUMENTS = [Document(("", "a text\r\n"), "one"), Document(("What is é?", "a letter", "And \x00?", "none"), "two")] * 3


def test_a_file_with_a_changed_byte_is_refused_or_reads_the_same(tmp_path: Path) -> None:
    """A changed number of a document gave rows other keys; a changed text would be stored without a word."""
    path = tmp_path / "00000.parquet"
    write_documents(path, 7, DOCUMENTS)
    content, refused = path.read_bytes(), 0
    for at in range(0, len(content), 2):
        path.write_bytes(content[:at] + bytes([content[at] ^ (1 + at % 255)]) + content[at + 1 :])
        try:
            assert read_documents(path) == NumberedDocuments(7, DOCUMENTS)
        except StoreError as error:
            assert str(path) in str(error) and "--replace" in str(error)
            refused += 1
    assert refused > 100


@pytest.mark.parametrize("size", [0, 1, 50])
def test_a_cut_file_is_refused(tmp_path: Path, size: int) -> None:
    path = tmp_path / "00000.parquet"
    write_documents(path, 7, DOCUMENTS)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(StoreError, match="--replace"):
        read_documents(path)
