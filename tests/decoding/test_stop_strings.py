"""Stop strings: a text ends before the first of them, whatever tokens and drafts it comes in."""

from __future__ import annotations

import codecs
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from dresd_milvus.decoding.loop import FixedBudget, generate
from dresd_milvus.decoding.sampling import Greedy
from dresd_milvus.decoding.scores import Scored
from dresd_milvus.decoding.token_stream import AnswerText, find_stop, parse_stop
from dresd_milvus.drafters.base import Vanilla
from dresd_milvus.drafters.prompt_lookup import PromptLookup
from dresd_milvus.errors import InputError
from tests.drafters.wild_drafters import WILD, Oracle, WildDrafter

BEYOND = [0] * 80  # what a model would write after the text; a draft may reach into it


class ByteTokenizer:
    """Tokens of any bytes, parts of characters among them; token 0 is 'a'."""

    def __init__(self, pieces: list[bytes]) -> None:
        self.tokens = list(dict.fromkeys([b"a", *pieces]))
        self.ids = [self.tokens.index(piece) for piece in pieces]

    def __call__(self, text: str, add_special_tokens: bool) -> dict[str, list[int]]:
        assert text == "a"
        return {"input_ids": [0]}

    def decode(self, ids: list[int], **_: Any) -> str:
        return b"".join(self.tokens[token] for token in ids).decode(errors="replace")


class Script:
    """A target that writes a given text after a prompt of one token, whatever is drafted."""

    eos_ids: frozenset[int] = frozenset()
    hidden_size, context = 1, 1000

    def __init__(self, ids: list[int], vocab_size: int) -> None:
        self.text, self.vocab_size, self.kept = torch.tensor([0, *ids, *BEYOND]), vocab_size, 0

    def prefill(self, tokens, reuse_prefix=False):
        self.kept = len(tokens)

    def verify(self, tree):
        following = self.text[self.kept + 1 + torch.from_numpy(tree.depths())]
        logits = torch.nn.functional.one_hot(following, self.vocab_size).double()
        return Scored(logits, logits)

    def commit(self, path):
        self.kept += len(path)

    def context_left(self, prompt):
        return self.context - prompt


alphabet = st.sampled_from("ab\né😀")
stops = st.lists(st.text(alphabet, min_size=1, max_size=4), max_size=3)


@st.composite
def tokenizers(draw: st.DrawFn) -> ByteTokenizer:
    """A tokenizer, and in its `ids` a text that is cut into tokens at any bytes."""
    text = draw(st.text(alphabet, min_size=1, max_size=30)).encode()
    cuts = sorted(draw(st.sets(st.integers(0, len(text)))) | {0, len(text)})
    return ByteTokenizer([text[begin:end] for begin, end in pairwise(cuts)])


def expected(tokenizer: ByteTokenizer, stop: list[str]) -> tuple[list[int], str, str]:
    """(tokens, text, reason) of the text, a character at a time."""
    decoder, text = codecs.getincrementaldecoder("utf-8")(), ""
    for count, token in enumerate(tokenizer.ids, 1):
        for character in decoder.decode(tokenizer.tokens[token]):
            text += character
            for string in sorted(stop, key=len, reverse=True):
                if text.endswith(string):
                    return tokenizer.ids[:count], text.removesuffix(string), "stop"
    return tokenizer.ids, text, "length"


@given(st.sampled_from([Vanilla, PromptLookup, *WILD]), tokenizers(), stops, st.integers(0, 12), st.integers(0, 99))
@example(Oracle, ByteTokenizer([b"b", b"\n", b"\nb", b"b"]), ["\n\n"], 12, 0)  # over tokens of one draft
@example(Oracle, ByteTokenizer([b"b", b"\xf0\x9f", b"\x98\x80", b"b"]), ["😀"], 12, 0)  # over bytes of a character
def test_a_text_with_drafts_ends_where_the_plain_text_does(kind, tokenizer, stop, depth, seed):
    ids, size = tokenizer.ids, len(tokenizer.tokens)
    target, shown = Script(ids, size), AnswerText(tokenizer, stop)
    drafter = kind([0, *ids, *BEYOND], seed, max(size, 2)) if issubclass(kind, WildDrafter) else kind()
    pieces, stops_at = [], AnswerText(tokenizer, stop).stops_at
    done = generate(
        target, drafter, Greedy(), [0], len(ids), FixedBudget(16, depth),
        lambda step: pieces.extend(map(shown.piece, step.new.tolist())), stops_at=stops_at,
    )  # fmt: skip
    tokens, text, reason = expected(tokenizer, stop)
    assert (done.tokens, "".join([*pieces, shown.rest()]), done.reason) == (tokens, text, reason)
    assert target.kept == len(tokens), "the cache holds the text but its last token"
    assert sum(done.accept_lengths) + len(done.steps) == len(tokens)


@given(tokenizers(), stops)
def test_only_what_may_begin_a_stop_string_is_held_back(tokenizer, stop):
    text, decoder, shown, whole = AnswerText(tokenizer, stop), codecs.getincrementaldecoder("utf-8")(), "", ""
    for token in expected(tokenizer, stop)[0]:
        shown += text.piece(token)
        whole += decoder.decode(tokenizer.tokens[token])
        if not text.stopped:
            begun = [whole[at:] for at in range(len(whole)) if any(one.startswith(whole[at:]) for one in stop)]
            assert whole == shown + max(begun, key=len, default="")
    assert shown + text.rest() == expected(tokenizer, stop)[1]


@pytest.mark.parametrize(
    ("text", "stop", "place"),
    [
        ("xabc", ["abc", "b"], 2),  # 'b' is complete first
        ("xabc", ["bc", "abc"], 1),  # of two that are complete at once the longest
        ("xabcab", ["ab"], 1),
        ("xabc", ["cb"], None),
        ("xabc", [], None),
    ],
)
def test_the_first_stop_string_is_the_one_that_is_complete_first(text, stop, place):
    assert find_stop(text, stop) == place


def test_an_end_token_before_a_stop_string_wins_and_one_at_the_limit_is_found() -> None:
    tokenizer = ByteTokenizer([b"a", b"b", b"c"])
    for stop, eos_ids, reason in (("c", {1}, "eos"), ("c", {2}, "eos"), ("c", set(), "stop"), ("d", set(), "length")):
        target = Script(tokenizer.ids, 3)
        target.eos_ids = frozenset(eos_ids)
        stops_at = AnswerText(tokenizer, [stop]).stops_at
        assert generate(target, Vanilla(), Greedy(), [0], 3, FixedBudget(), stops_at=stops_at).reason == reason


def test_one_string_is_one_stop_string_and_an_empty_one_is_refused() -> None:
    assert parse_stop("ab") == ("ab",) and parse_stop(["a", "b"]) == ("a", "b") and parse_stop(()) == ()
    for stop in ("", ["a", ""]):
        with pytest.raises(InputError, match="stop string is empty"):
            parse_stop(stop)


def test_a_token_that_ends_one_character_and_begins_the_next_shows_the_first() -> None:
    tokenizer = ByteTokenizer([b"\xf0", b"\x9f", b"\x98", b"\x80\xc3", b"\xa9"])
    text = AnswerText(tokenizer)
    assert [text.piece(token) for token in tokenizer.ids] == ["", "", "", "😀", "é"]
