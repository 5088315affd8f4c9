"""Documents that are passed over, for they are there already."""

import pytest

from dresd_milvus.corpus import Document
from dresd_milvus.corpus.duplicates import Dedup, DuplicateFilter

LONG = "def f(a, b):\n" + "\n".join(f"    x{n} = a + b * {n} - some_value({n})" for n in range(40))


def kept(mode: Dedup, *turns: tuple[str, ...]) -> int:
    duplicates = DuplicateFilter(mode)
    return sum(not duplicates.seen(Document(each, "x")) for each in turns)


@pytest.mark.parametrize(("mode", "count"), [("none", 4), ("exact", 3), ("near", 2)])
def test_what_each_mode_takes_for_the_same(mode: Dedup, count: int) -> None:
    texts = [LONG, LONG, LONG.replace("x39", "y39"), "something else entirely, about nothing in particular"]
    assert kept(mode, *(("prompt", text) for text in texts)) == count


def test_the_same_text_in_other_turns_is_another_document() -> None:
    assert kept("exact", ("ab", "c"), ("a", "bc"), ("abc",), ("ab", "c")) == 3


def test_half_of_a_text_is_not_nearly_the_same() -> None:
    assert kept("near", ("", LONG), ("", LONG[: len(LONG) // 2])) == 2


def test_texts_shorter_than_a_run_of_words_are_compared_as_a_whole() -> None:
    assert kept("near", ("", "a b"), ("", "a b"), ("", "a c"), ("", "")) == 3
