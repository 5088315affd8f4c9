"""Documents to rows: keys are the model's own states, continuations never leave their document."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from dresd_milvus.corpus import Document, Template
from dresd_milvus.loading import LoadedModel
from dresd_milvus.projection import ProjectionFit
from dresd_milvus.store import PAD, POSITION_BITS
from ingestion.embed import Embedder, continuations, gathered
from tests.oracle import example_rows

DOCUMENTS = [
    Document("Write a Python function `add`. Add two numbers.", "def add(a, b):\n    return a + b", "one"),
    Document("Write a Python function `e`. Grüße 日本.", "def e():\n    return 'é'", "one"),
    Document("", "x = 1\n" * 120, "two"),
]


@given(ids=st.lists(st.integers(0, 99), min_size=2, max_size=30), size=st.integers(1, 12))
def test_continuations_are_the_next_tokens_padded(ids: list[int], size: int) -> None:
    rows = continuations(np.array(ids, np.int32), size)
    expected = [(ids[t + 1 : t + 1 + size] + [PAD] * size)[:size] for t in range(len(ids) - 1)]
    assert rows.tolist() == expected


def test_keys_are_the_projected_states_of_the_document_alone(sample: LoadedModel) -> None:
    embedder = Embedder(sample, Template(), max_length=64)
    fit = ProjectionFit(sample.target.hidden_size)
    assert sum(embedder.fit(fit, DOCUMENTS)) == fit.samples
    projection = fit.result(8)
    encoded = embedder.encode(DOCUMENTS)
    by_document = {int(rows.pk[0]) >> POSITION_BITS: rows for rows in embedder.rows(projection, DOCUMENTS, 7, 5)}
    assert sorted(by_document) == [7, 8, 9]
    for index, document in enumerate(encoded):
        rows, ids = by_document[7 + index], document.ids
        assert len(ids) <= 64 and len(rows) == len(ids) - 1
        assert (rows.pk - rows.pk[0]).tolist() == list(range(len(rows)))
        assert rows.next_tokens[:, 0].tolist() == ids[1:]
        alone = sample.target.embed(torch.tensor([ids]), torch.ones(1, len(ids), dtype=torch.long))[0, :-1]
        np.testing.assert_allclose(rows.vectors, projection(alone).numpy(), atol=1e-4)


def test_the_key_of_a_position_is_what_decoding_queries_with(sample: LoadedModel) -> None:
    embedder = Embedder(sample, Template(), max_length=64)
    ids = embedder.encode(DOCUMENTS[:1])[0].ids
    stored = dict(embedder.states(embedder.encode(DOCUMENTS[:1])))[0]
    hidden = sample.target.prefill(ids[:-1])
    assert hidden is not None
    torch.testing.assert_close(hidden, stored[-1], atol=1e-4, rtol=1e-4)


def test_previews_show_the_text_around_the_arrow(sample: LoadedModel) -> None:
    embedder = Embedder(sample, Template(), max_length=200)
    for encoded, document in zip(embedder.encode(DOCUMENTS), DOCUMENTS, strict=True):
        for position in range(len(encoded.ids) - 1):
            preview = encoded.preview(position, 20)
            before, after = preview.removeprefix("… ").rsplit(" ⟶ ", 1)
            assert after in document.response or after in encoded.text
            assert before in encoded.text and len(preview.encode()) <= 480
    assert "�" not in preview


def test_gathering_keeps_every_row_and_parts_origins() -> None:
    parts = [example_rows(n, seed=n) for n in (3, 4, 5, 1)]
    joined = list(gathered(iter(parts), size=8))
    assert np.concatenate([rows.pk for rows in joined]).tolist() == np.concatenate([r.pk for r in parts]).tolist()
    assert [len(rows) for rows in joined] == [7, 6]
