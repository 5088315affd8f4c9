"""SuffixDecoding: of all matches' trees the one whose nodes weigh most."""

from pathlib import Path

import numpy as np
import pytest

from dresd_milvus.decoding.protocols import Context
from dresd_milvus.drafters.suffix import NODES_PER_TOKEN, Suffix
from dresd_milvus.retrieval.suffix_store import SuffixStore


@pytest.fixture
def store(tmp_path: Path) -> SuffixStore:
    texts = [[1, 2, 3, 4], [5, 2, 3, 6], [7, 2, 3, 6]]
    return SuffixStore.build(tmp_path / "suffixes", [np.array(text, np.int32) for text in texts])


def test_a_longer_match_and_the_text_itself_are_preferred(store: SuffixStore) -> None:
    drafter = Suffix(store)
    assert drafter.draft(Context([1, 2, 3], None, 1, 1)).tokens.tolist() == [3, 4]
    assert drafter.draft(Context([0, 2, 3], None, 1, 1)).tokens.tolist() == [3, 6], "two of three went on so"
    assert drafter.draft(Context([5, 2, 3, 9, 5, 2, 3], None, 1, 1)).tokens.tolist() == [3, 9]


def test_without_a_corpus_the_text_is_all_there_is(store: SuffixStore) -> None:
    assert len(Suffix(None).draft(Context([1, 2, 3], None, 8, 8))) == 0
    assert Suffix(None).draft(Context([1, 2, 3, 1], None, 2, 8)).tokens.tolist() == [1, 2, 3]


def test_a_tree_has_four_nodes_at_most_for_each_token_that_matches() -> None:
    once = [9, *range(20, 50), 9]
    assert len(Suffix(None).draft(Context(once, None, 64, 64))) == NODES_PER_TOKEN
    twice = [8, 9, *range(20, 50), 8, 9]
    assert len(Suffix(None).draft(Context(twice, None, 64, 64))) == 2 * NODES_PER_TOKEN
