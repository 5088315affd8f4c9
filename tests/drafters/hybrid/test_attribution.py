"""Accepted tokens go to the place that they are from."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dresd_milvus.drafters.hybrid.attribution import Taken, attribute, count_by_source
from dresd_milvus.drafters.hybrid.evidence import NO_PLACE, Evidence, Kind

ROWS = st.lists(st.lists(st.integers(-1, 2), min_size=4, max_size=4), max_size=6)


def evidence(rows: list[list[int]]) -> Evidence:
    kinds = np.array([Kind.CORPUS, Kind.DENSE] * len(rows), np.int8)[: len(rows)]
    return Evidence.of(kinds, np.array(rows, np.int32).reshape(-1, 4), 1, 1.0, np.arange(100, 100 + len(rows)))


def test_the_row_that_agrees_longest_gets_the_tokens() -> None:
    found = evidence([[1, 2, 9, 9], [1, 2, 3, 9], [1, 2, 3, 8]])
    taken = attribute(found, np.array([1, 2, 3, 4, 5]), 50)
    assert taken == [Taken(50, 3, Kind.DENSE, 101), Taken(53, 2, Kind.RECYCLED, NO_PLACE)]
    assert count_by_source(taken) == {"dense": 3, "recycled": 2}


@given(rows=ROWS, accepted=st.lists(st.integers(0, 2), max_size=6), first=st.integers(0, 9))
def test_every_accepted_token_has_one_source_and_rows_hold_what_they_are_credited_with(
    rows: list[list[int]], accepted: list[int], first: int
) -> None:
    taken = attribute(evidence(rows), np.array(accepted, np.int64), first)
    assert [at for run in taken for at in range(run.first, run.first + run.tokens)] == [
        *range(first, first + len(accepted))
    ]
    for run in taken:
        if run.kind is not Kind.RECYCLED:
            assert rows[run.place - 100][: run.tokens] == accepted[: run.tokens]
            longer = run.tokens + 1
            better = [row for row in rows if len(accepted) >= longer and row[:longer] == accepted[:longer]]
            assert not better
