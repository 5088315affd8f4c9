"""Rows that a store does without: which stay, and that what stays is as it was."""

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dresd_milvus.store import Rows
from ingestion.prune import SIGNS, Pruning


def rows_of(tokens: list[int], buckets: list[int]) -> tuple[Rows, np.ndarray]:
    """Rows whose continuation is one token repeated, and whose key has the signs of a bucket."""
    count = len(tokens)
    signs = np.array([[1.0 if bucket >> bit & 1 else -1.0 for bit in range(SIGNS)] for bucket in buckets], np.float32)
    jitter = np.random.default_rng(0).uniform(0.5, 1.5, (count, SIGNS)).astype(np.float32)
    next_tokens = np.array([[token] * 3 for token in tokens], np.int32).reshape(count, 3)
    vectors = (signs.reshape(count, SIGNS) * jitter).astype(np.float32)
    rows = Rows(np.arange(count, dtype=np.int64), vectors, next_tokens, "here", [str(n) for n in range(count)])
    return rows, np.arange(count)


PAIRS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), max_size=60)


@given(pairs=PAIRS, every=st.integers(1, 5), same=st.booleans(), most=st.none() | st.integers(1, 4))
def test_what_stays(pairs: list[tuple[int, int]], every: int, same: bool, most: int | None) -> None:
    rows, positions = rows_of([token for token, _ in pairs], [bucket for _, bucket in pairs])
    kept = Pruning(every, same, most)(rows, positions)
    expected, seen, counted = [], set(), Counter()
    for at, pair in enumerate(pairs):
        if at % every or (same and pair in seen):
            continue
        seen.add(pair)
        if most and counted[pair[0]] >= most:
            continue
        counted[pair[0]] += 1
        expected.append(at)
    assert kept.pk.tolist() == expected and list(kept.previews or ()) == [str(at) for at in expected]
    assert (kept.vectors == rows.vectors[expected]).all() and (kept.next_tokens == rows.next_tokens[expected]).all()


def test_it_remembers_from_call_to_call() -> None:
    rows, positions = rows_of([1, 1, 2], [0, 1, 0])
    pruning = Pruning(same=True)
    assert len(pruning(rows, positions)) == 3 and len(pruning(rows, positions)) == 0


def test_nothing_is_pruned_unless_asked() -> None:
    rows, positions = rows_of([1] * 9, [0] * 9)
    assert Pruning()(rows, positions) is rows
