"""What is kept of a request follows its id and its text, whatever the engine does with its place in the batch."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from dresd_milvus.serving.sessions import Request, Sessions


def request(name: str, tokens: list[int]) -> Request:
    return Request(name, tokens, torch.zeros(1, 4), 0, 6)


def test_a_step_brings_the_tokens_since_the_last_one() -> None:
    sessions = Sessions()
    first, new = sessions.at(request("a", [1, 2, 3]))
    assert new.tolist() == []
    again, new = sessions.at(request("a", [1, 2, 3, 4, 5]))
    assert again is first and new.tolist() == [4, 5] and new.dtype == np.int64


def test_a_text_that_does_not_go_on_begins_anew() -> None:
    """An engine may give an id to another text; drafts of one must not teach anything about the other."""
    sessions = Sessions()
    first, _ = sessions.at(request("a", [1, 2, 3]))
    for other in ([1, 2], [1, 2, 9, 4], [1, 2, 3]):
        served, new = sessions.at(request("a", other))
        assert served is not first and new.tolist() == []
        sessions.keep_only([])
        first, _ = sessions.at(request("a", [1, 2, 3]))


@given(st.data())
def test_requests_come_and_go_in_any_order(data: st.DataObject) -> None:
    """Of every request that is left, the new tokens are those since it was last seen; of all others nothing is kept."""
    sessions, texts, seen = Sessions(), dict[str, list[int]](), dict[str, int]()
    for _ in range(data.draw(st.integers(1, 12))):
        for name in data.draw(st.permutations("abcd"))[: data.draw(st.integers(0, 4))]:
            text = texts.setdefault(name, [0])
            text += data.draw(st.lists(st.integers(0, 3), min_size=1, max_size=3))
            _, new = sessions.at(request(name, text))
            assert new.tolist() == text[seen.get(name, len(text)) :]
            seen[name] = len(text)
        left = data.draw(st.sets(st.sampled_from("abcd")))
        sessions.keep_only(left)
        texts, seen = ({name: kept for name, kept in each.items() if name in left} for each in (texts, seen))
        assert len(sessions) == len(seen)
