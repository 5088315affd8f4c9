"""Dense retrieval: the continuations of the nearest rows."""

import numpy as np
import pytest
import torch

from dresd_milvus.decoding.protocols import Context
from dresd_milvus.drafters.dense import Dense
from dresd_milvus.errors import MismatchError
from dresd_milvus.retrieval.store import PAD, Rows
from tests.oracle import MemoryStore, example_manifest, example_projection


def test_dense_follows_the_nearest_rows() -> None:
    """Two groups of rows with one first token: the query lies in one of them, and so does the draft."""
    projection, store = example_projection(), MemoryStore(example_manifest())
    near, far = torch.randn(2, 12, generator=torch.Generator().manual_seed(5))
    keys = projection(torch.stack([near] * 3 + [far] * 3)).numpy()
    near_tokens, far_tokens = [1, 2, 3, PAD, PAD], [1, 4, 5, 0, 0]
    store.write(Rows(np.arange(6), keys, np.array([near_tokens] * 3 + [far_tokens] * 3, np.int32)))
    drafter = Dense(store, projection)
    tree = drafter.draft(Context([0, 1], near, 2, 8))
    assert tree.tokens.tolist() == [1, 2, 3] and tree.parents.tolist() == [-1, 0, 1]
    assert drafter.draft(Context([0, 1], far, 4, 3)).tokens.tolist()[:4] == [1, 4, 5, 0]
    assert len(drafter.draft(Context([0, 9], near, 4, 3))) == 0


def test_a_store_of_another_projection_is_refused() -> None:
    with pytest.raises(MismatchError, match="projection"):
        Dense(MemoryStore(example_manifest()), example_projection(seed=3))


def test_near_rows_outvote_many_unless_all_count_alike() -> None:
    """The published system counts hits alike: sharpness 0."""
    projection, store = example_projection(), MemoryStore(example_manifest())
    near, far = torch.randn(2, 12, generator=torch.Generator().manual_seed(5))
    keys = projection(torch.stack([near, far, far])).numpy()
    store.write(Rows(np.arange(3), keys, np.array([[1, 2, 2, 2, 2], *[[1, 4, 4, 4, 4]] * 2], np.int32)))
    for sharpness, token in ((10.0, 2), (0.0, 4)):
        tree = Dense(store, projection, sharpness=sharpness).draft(Context([0, 1], near, 1, 8))
        assert tree.tokens.tolist() == [1, token]
