"""The suffix store against a search of every position."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dresd_milvus.errors import MismatchError, StoreError
from dresd_milvus.retrieval.suffix_store import INDEXED, SuffixStore

TOKENS = st.sampled_from([0, 1, 2, 255, 256, 65_535, 65_536, INDEXED - 1, INDEXED, INDEXED + 1, 2**31 - 2])
"""A few, so that texts match, and from the whole range: other packages fail at ids of more than 16 bits."""
TEXTS = st.lists(st.lists(TOKENS, min_size=1, max_size=12), min_size=1, max_size=8)


def build(folder: Path, texts: list[list[int]], **about: str) -> SuffixStore:
    return SuffixStore.build(folder / "suffixes", [np.array(text, np.int32) for text in texts], **about)


def occurrences(texts: list[list[int]], end: list[int]) -> list[list[int]]:
    """The tokens after every occurrence of `end`, in the store's order (a document's end first)."""
    size = len(end)
    return sorted(
        text[at + size :] for text in texts for at in range(len(text) - size + 1) if text[at : at + size] == end
    )


@settings(max_examples=60, deadline=None)
@given(texts=TEXTS, text=st.lists(TOKENS, min_size=1, max_size=10), longest=st.integers(1, 8))
def test_the_longest_match_is_found_with_its_continuations(
    tmp_path_factory: pytest.TempPathFactory, texts: list[list[int]], text: list[int], longest: int
) -> None:
    store = build(tmp_path_factory.mktemp("s"), texts)
    sizes = [size for size in range(1, min(longest, len(text)) + 1) if occurrences(texts, text[-size:])]
    match = store.longest(text, longest)
    assert (match.length if match else 0) == max(sizes, default=0)
    if match:
        rights = occurrences(texts, text[-match.length :])
        found, places = store.continuations(match, 5, most=1000)
        assert [[token for token in row if token >= 0] for row in found.tolist()] == [right[:5] for right in rights]
        for document, position, right in zip(*store.locate(places), rights, strict=True):
            assert texts[document][position:] == right
        some, _ = store.continuations(match, 5, most=3)
        assert len(some) == min(3, len(rights)) and {*map(tuple, some.tolist())} <= {*map(tuple, found.tolist())}


@settings(max_examples=60, deadline=None)
@given(texts=TEXTS, text=st.lists(TOKENS, min_size=1, max_size=10))
def test_shorter_matches_are_those_that_occur_more_often(
    tmp_path_factory: pytest.TempPathFactory, texts: list[list[int]], text: list[int]
) -> None:
    store = build(tmp_path_factory.mktemp("s"), texts)
    counts = {size: len(occurrences(texts, text[-size:])) for size in range(1, len(text) + 1)}
    match = store.longest(text, 100)
    while match:
        assert match.occurrences == counts[match.length]
        shorter = store.shorter(text, match)
        more = [size for size in range(1, match.length) if counts[size] > match.occurrences]
        assert (shorter.length if shorter else 0) == max(more, default=0)
        match = shorter


def test_a_missing_or_damaged_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no suffix store"):
        SuffixStore(tmp_path / "none")
    with pytest.raises(StoreError, match="no documents"):
        build(tmp_path, [])
    store = build(tmp_path, [[1, 2]], tokenizer="a")
    with pytest.raises(MismatchError, match="another tokenizer"):
        store.require("b")
    np.save(tmp_path / "suffixes" / "tokens.npy", np.zeros(9, np.int32))
    with pytest.raises(StoreError, match="damaged"):
        SuffixStore(tmp_path / "suffixes")
    for name, content in (("order.npy", b""), ("suffixes.json", b"{}"), ("suffixes.json", b"[]")):
        build(tmp_path, [[1, 2]])
        (tmp_path / "suffixes" / name).write_bytes(content)
        with pytest.raises(StoreError, match=r"no suffix store|damaged"):
            SuffixStore(tmp_path / "suffixes")
