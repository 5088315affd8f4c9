"""Pruning: which rows stay, and that they stay unchanged."""

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dresd_milvus.corpus import Encoded
from dresd_milvus.retrieval.store import Rows
from ingestion.planning.prune import BUCKET_AXES, Pruning


def rows_of(tokens: list[int], buckets: list[int]) -> Rows:
    """Rows whose continuation is one token repeated, and whose key has the signs of a bucket."""
    count = len(tokens)
    signs = np.array(
        [[1.0 if bucket >> bit & 1 else -1.0 for bit in range(BUCKET_AXES)] for bucket in buckets], np.float32
    )
    jitter = np.random.default_rng(0).uniform(0.5, 1.5, (count, BUCKET_AXES)).astype(np.float32)
    next_tokens = np.array([[token] * 3 for token in tokens], np.int32).reshape(count, 3)
    vectors = (signs.reshape(count, BUCKET_AXES) * jitter).astype(np.float32)
    return Rows(np.arange(count, dtype=np.int64), vectors, next_tokens, "here", [str(n) for n in range(count)])


PAIRS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), max_size=60)


@given(pairs=PAIRS, same=st.booleans(), most=st.none() | st.integers(1, 4))
def test_rows_that_stay(pairs: list[tuple[int, int]], same: bool, most: int | None) -> None:
    rows = rows_of([token for token, _ in pairs], [bucket for _, bucket in pairs])
    kept = Pruning(drop_same=same, per_token=most).select(rows)
    expected, seen, counted = [], set(), Counter()
    for at, pair in enumerate(pairs):
        if same and pair in seen:
            continue
        seen.add(pair)
        if most and counted[pair[0]] >= most:
            continue
        counted[pair[0]] += 1
        expected.append(at)
    assert kept.pk.tolist() == expected and list(kept.previews or ()) == [str(at) for at in expected]
    assert (kept.vectors == rows.vectors[expected]).all() and (kept.next_tokens == rows.next_tokens[expected]).all()


def test_rows_are_compared_across_calls() -> None:
    rows = rows_of([1, 1, 2], [0, 1, 0])
    pruning = Pruning(drop_same=True)
    assert len(pruning.select(rows)) == 3 and len(pruning.select(rows)) == 0


def test_nothing_is_pruned_unless_asked() -> None:
    rows = rows_of([1] * 9, [0] * 9)
    assert Pruning().select(rows) is rows


def test_positions_that_may_become_rows() -> None:
    answered = np.array([False, False, True, True, False, True, True])
    encoded = Encoded(np.arange(7, dtype=np.int32), answered, "", np.zeros((7, 2), np.int64))
    assert Pruning().positions(encoded, 0, 6).tolist() == [0, 1, 2, 3, 4, 5]
    assert Pruning(responses_only=True).positions(encoded, 0, 6).tolist() == [1, 2, 4, 5]
    assert Pruning(keep_every=2).positions(encoded, 3, 6).tolist() == [4]
    assert Pruning(keep_every=2, responses_only=True).positions(encoded, 0, 5).tolist() == [2, 4]
