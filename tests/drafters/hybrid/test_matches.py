"""Exact matches as evidence, against a slow search."""

from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dresd_milvus.decoding.protocols import Context
from dresd_milvus.drafters.hybrid.evidence import Evidence, Kind, Session
from dresd_milvus.drafters.hybrid.matches import Matches, earlier_occurrences
from dresd_milvus.retrieval.suffix_store import SuffixStore


def proposed(source: Matches, text: list[int], depth: int) -> Evidence:
    return Evidence.join(source.propose([Context(text, None, 16, depth)], [Session()])[0])


@settings(max_examples=60, deadline=None)
@given(tokens=st.lists(st.integers(0, 3), min_size=1, max_size=40), longest=st.integers(1, 6))
def test_the_running_text_is_matched_with_itself(tokens: list[int], longest: int) -> None:
    text = np.array(tokens, np.int32)
    following, lengths, places = earlier_occurrences(text, longest, 1000, 6)
    ends = [at + 1 for at in reversed(range(len(tokens) - 1)) if tokens[at] == tokens[-1]]
    assert places.tolist() == ends
    assert len(following) == len(lengths) == len(ends)
    for end, row, length in zip(ends, following.tolist(), lengths.tolist(), strict=True):
        same = [n for n in range(1, longest + 1) if n <= end and tokens[end - n : end] == tokens[-n:]]
        assert length == max(same)
        copied = list(tokens)
        for _ in range(6):
            copied.append(copied[end + len(copied) - len(tokens)])
        assert row == copied[len(tokens) :]
    assert earlier_occurrences(text, longest, 2, 6)[1].tolist() == lengths[:2].tolist()


def test_the_longest_matches_are_told_from_shorter_ones(tmp_path: Path) -> None:
    """In the text, `1 2` came before, and `2` alone later than that; in the corpus, `1 2` once and `2` three times."""
    store = SuffixStore.build(tmp_path / "suffixes", [np.array(t, np.int32) for t in ([1, 2, 5], [7, 2, 6], [2, 6])])
    found = proposed(Matches(store), [1, 2, 3, 2, 4, 1, 2], 2)
    assert list(zip(found.kinds.tolist(), found.rows.tolist(), found.quality.tolist(), strict=True)) == [
        (Kind.TEXT_SHORTER, [4, 1], 1),
        (Kind.TEXT, [3, 2], 2),
        (Kind.CORPUS, [5, -1], 2),
        (Kind.CORPUS_SHORTER, [5, -1], 1),
        (Kind.CORPUS_SHORTER, [6, -1], 1),
        (Kind.CORPUS_SHORTER, [6, -1], 1),
    ]
    np.testing.assert_allclose(found.weights, [np.exp(-0.5), 0.9, 1, 1, 1, 1])
    assert found.quality.max() == 2


def test_without_a_match_there_is_no_evidence(tmp_path: Path) -> None:
    store = SuffixStore.build(tmp_path / "suffixes", [np.array([1, 2], np.int32)])
    for source in (Matches(store), Matches(None)):
        assert len(proposed(source, [8, 9], 4).rows) == 0
