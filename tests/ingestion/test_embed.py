"""The embed phase: keys are projected states of the document alone, continuations never leave their document."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dresd_milvus.corpus import Document, Template
from dresd_milvus.models.loading import LoadedModel
from dresd_milvus.retrieval.projection import Projection, ProjectionFit
from dresd_milvus.retrieval.store import PAD, POSITION_BITS, Rows
from dresd_milvus.storage.inspection import Checksum
from dresd_milvus.storage.row_file import read_rows
from ingestion.phases.embed import (
    BATCH_TOKENS,
    Embedder,
    RowSettings,
    batch_by_length,
    continuations,
    embed_shard,
    split_into_windows,
)
from ingestion.planning.documents import NumberedDocuments
from ingestion.planning.prune import Pruning

PROMPT = Template()("Write a Python function `add`. Add two numbers.")

DOCUMENTS = [
    Document((PROMPT, "def add(a, b):\n    return a + b"), "one"),
    Document((Template()("Write a Python function `e`. Grüße 日本."), "def e():\n    return 'é'"), "one"),
    Document(("", "x = 1\n" * 120), "two"),
    Document((PROMPT, "def add(a, b): ...", "\nAnd another.\n", "def sub(a, b): ..."), "two"),
]


def projection_of(embedder: Embedder, dim: int = 8) -> Projection:
    fit = ProjectionFit(embedder.model.target.hidden_size)
    for states, _ in embedder.flat_states(DOCUMENTS):
        fit.add(states)
    return fit.result(dim)


def embedded(embedder: Embedder, folder: Path, responses_only: bool = False) -> dict[int, list[Rows]]:
    """The rows of DOCUMENTS, numbered from 7, by document."""
    path = folder / "rows.parquet"
    settings = RowSettings(projection_of(embedder), 5, Pruning(responses_only=responses_only))
    made = embed_shard(embedder, NumberedDocuments(7, DOCUMENTS), settings, path, {})
    found: dict[int, list[Rows]] = {}
    checksum, count = Checksum(), 0
    for rows in read_rows(path, made["file"]):
        checksum.add(rows)
        count += len(rows)
        for number in np.unique(rows.pk >> POSITION_BITS):
            keep = rows.pk >> POSITION_BITS == number
            previews = [preview for preview, kept in zip(rows.previews or (), keep, strict=True) if kept]
            part = Rows(rows.pk[keep], rows.vectors[keep], rows.next_tokens[keep], rows.origin, previews)
            found.setdefault(int(number), []).append(part)
    assert (made["rows"], made["checksum"]) == (count, checksum.hexdigest())
    return found


@given(ids=st.lists(st.integers(0, 99), min_size=2, max_size=30), size=st.integers(1, 12))
def test_continuations_are_the_next_tokens_padded(ids: list[int], size: int) -> None:
    rows = continuations(np.array(ids, np.int32), size)
    expected = [(ids[t + 1 : t + 1 + size] + [PAD] * size)[:size] for t in range(len(ids) - 1)]
    assert rows.tolist() == expected


@given(lengths=st.lists(st.integers(0, 300), max_size=20), size=st.integers(1, 100))
def test_windows_cover_every_state_once_and_fit(lengths: list[int], size: int) -> None:
    windows = split_into_windows(lengths, size)
    for document, length in enumerate(lengths):
        own = [window for window in windows if window.document == document]
        assert [position for w in own for position in range(w.first, w.stop)] == list(range(length))
        assert all(w.start <= w.first and len(w) <= size for w in own)
    batches = list(batch_by_length(windows))
    assert sorted(window for batch in batches for window in batch) == sorted(windows)
    assert all(len(batch) == 1 or len(batch) * max(map(len, batch)) <= BATCH_TOKENS for batch in batches)


def test_keys_are_the_projected_states_of_the_document_alone(sample: LoadedModel, tmp_path: Path) -> None:
    embedder = Embedder(sample, max_length=1024)
    projection, encoded = projection_of(embedder), embedder.encode(DOCUMENTS)
    by_document = embedded(embedder, tmp_path)
    assert sorted(by_document) == [7, 8, 9, 10]
    for index, document in enumerate(encoded):
        (rows,) = by_document[7 + index]
        assert (rows.pk - ((7 + index) << POSITION_BITS)).tolist() == list(range(len(document.ids) - 1))
        assert rows.next_tokens[:, 0].tolist() == document.ids[1:].tolist() and rows.origin == DOCUMENTS[index].origin
        ids = torch.from_numpy(document.ids.astype(np.int64))[None]
        alone = sample.target.embed(ids, torch.ones_like(ids))[0, :-1]
        np.testing.assert_allclose(rows.vectors, projection(alone).numpy(), atol=1e-4)


def test_a_long_document_goes_through_in_windows_and_loses_no_row(sample: LoadedModel, tmp_path: Path) -> None:
    whole, parted = Embedder(sample, max_length=1024), Embedder(sample, max_length=48)
    one, many = embedded(whole, tmp_path / "a"), embedded(parted, tmp_path / "b")
    for number in one:
        joined = sorted(
            (pk, tokens) for rows in many[number] for pk, tokens in zip(rows.pk, rows.next_tokens.tolist(), strict=True)
        )
        assert joined == sorted(zip(one[number][0].pk, one[number][0].next_tokens.tolist(), strict=True))


def test_rows_of_answers_only(sample: LoadedModel, tmp_path: Path) -> None:
    embedder = Embedder(sample, max_length=1024)
    encoded, kept = embedder.encode(DOCUMENTS), embedded(embedder, tmp_path, responses_only=True)
    for index, document in enumerate(encoded):
        (rows,) = kept[7 + index]
        following = rows.pk - ((7 + index) << POSITION_BITS) + 1
        assert following.tolist() == [t for t in range(1, len(document.ids)) if document.answered[t]]
        assert 0 < len(rows) <= len(document.ids) - 1
    two = encoded[3]
    answers = embedder.model.tokenizer.decode(two.ids[two.answered], skip_special_tokens=True)
    assert answers == "".join(DOCUMENTS[3].turns[1::2])


def test_the_key_of_a_position_is_what_decoding_queries_with(sample: LoadedModel) -> None:
    embedder = Embedder(sample, max_length=64)
    ids = embedder.encode(DOCUMENTS[:1])[0].ids
    (stored,) = (states for states, _ in embedder.flat_states(DOCUMENTS[:1]))
    hidden = sample.target.prefill(ids[:-1].tolist())
    assert hidden is not None
    torch.testing.assert_close(hidden, stored[-1], atol=1e-4, rtol=1e-4)


def test_previews_show_the_text_around_the_arrow(sample: LoadedModel) -> None:
    for encoded in Embedder(sample, max_length=200).encode(DOCUMENTS):
        for preview in encoded.previews(np.arange(len(encoded.ids) - 1), 20):
            before, after = preview.removeprefix("… ").rsplit(" ⟶ ", 1)
            assert after in encoded.text and before in encoded.text
            assert len(preview.encode()) <= 480 and "�" not in preview


def test_a_preview_is_cut_between_characters(sample: LoadedModel) -> None:
    (encoded,) = Embedder(sample, 64).encode([Document(("", "日" * 600), "x")])
    (preview,) = encoded.previews(np.array([30]), 600)
    assert len(preview.encode()) <= 480 and set(preview) <= set("… 日⟶")


def test_a_failed_shard_leaves_no_file(sample: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(rows: Rows) -> None:
        raise OSError(28, "No space left on device")

    embedder = Embedder(sample, 64)
    settings = RowSettings(projection_of(embedder), 5, Pruning())
    monkeypatch.setattr("dresd_milvus.storage.row_file.RowFile.write", lambda file, rows: fail(rows))
    with pytest.raises(OSError, match="No space"):
        embed_shard(embedder, NumberedDocuments(0, DOCUMENTS), settings, tmp_path / "rows.parquet", {})
    assert list(tmp_path.iterdir()) == []
