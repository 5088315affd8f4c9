"""Dense retrieval as evidence: what a replica tells in one call is what search and table give one after the other."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dresd_milvus.drafters.base import Context
from dresd_milvus.drafters.dense import Dense
from dresd_milvus.drafters.hybrid.evidence import Kind, Table
from dresd_milvus.store import ContinuationStore, Rows
from tests.oracle import MemoryStore, example_manifest, example_projection, example_replica, example_rows

MANIFEST = example_manifest(rows=60)
REPLICA, MEMORY = example_replica(example_rows(60, vocabulary=4), MANIFEST), MemoryStore(MANIFEST)
MEMORY.write(Rows(np.arange(60), REPLICA.keys.vectors(), REPLICA.continuations))


def told(store: ContinuationStore, context: Context, neighbours: int, before: int) -> Table:
    """The table, which held some rows before."""
    table = Table()
    table.add(Kind.TEXT, np.ones((before, 2), np.int32), context.max_depth, 3)
    Dense(store, example_projection(), neighbours).tell(context, table)
    return table


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@given(
    seed=st.integers(0, 99), root=st.integers(0, 5), node=st.integers(0, 2), neighbours=st.integers(1, 70),
    depth=st.integers(1, 9), before=st.integers(0, 3),
)  # fmt: skip
def test_a_replica_tells_what_any_store_of_its_rows_does(
    dtype: torch.dtype, seed: int, root: int, node: int, neighbours: int, depth: int, before: int
) -> None:
    states = torch.randn(1, 3, 12, generator=torch.Generator().manual_seed(seed)).to(dtype)
    context = Context([0, root], states, 16, depth, node)
    ours, theirs = (told(store, context, neighbours, before) for store in (REPLICA, MEMORY))
    assert ours.size == theirs.size == before + min(neighbours, int((REPLICA.continuations[:, 0] == root).sum()))
    kept = slice(0, ours.size)
    for name in ("kinds", "quality"):
        assert getattr(ours.whole, name)[kept].tolist() == getattr(theirs.whole, name)[kept].tolist()
    np.testing.assert_allclose(ours.whole.weights[kept], theirs.whole.weights[kept], rtol=1e-4)
    assert (ours.whole.rows[kept, :depth] == theirs.whole.rows[kept, :depth]).all()
