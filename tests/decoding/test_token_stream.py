"""Text that appears as it is generated: whole characters, nothing lost, and never an error."""

from __future__ import annotations

from io import StringIO
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from rich.console import Console
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from dresd_milvus.decoding.protocols import Step
from dresd_milvus.decoding.scores import Scored
from dresd_milvus.decoding.token_stream import Detokenizer, TokenStream
from dresd_milvus.decoding.tree import DraftTree
from dresd_milvus.models.loading import load_tokenizer


def byte_fallback() -> PreTrainedTokenizerFast:
    """As Llama-2's, Mistral's and Gemma's: some characters have tokens, the others are bytes, <0x00> to <0xFF>."""
    merges = [("▁", "t"), ("h", "e"), ("▁t", "he")]
    pieces = ["<unk>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *"▁abcdefghiklmnorst.é", "▁t", "he", "▁the"]
    made = Tokenizer(
        models.BPE({piece: at for at, piece in enumerate(pieces)}, merges, unk_token="<unk>", byte_fallback=True)
    )
    made.pre_tokenizer = pre_tokenizers.Metaspace(split=False)
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=made, unk_token="<unk>", eos_token="</s>")


TOKENIZERS = {"byte fallback": byte_fallback(), "bytes": load_tokenizer("sample")}
BYTES = TOKENIZERS["byte fallback"]
named = pytest.mark.parametrize("name", TOKENIZERS)


def streamed(tokenizer: Any, ids: list[int]) -> list[str]:
    made = Detokenizer(tokenizer)
    return [*(made.piece(token) for token in ids), made.rest()]


def byte(value: int) -> int:
    return BYTES.convert_tokens_to_ids(f"<0x{value:02X}>")


@named
@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\ufffd")))
@example("the 你好 é😀👍🏽\n naïve")
def test_the_pieces_are_the_text(name: str, text: str) -> None:
    tokenizer = TOKENIZERS[name]
    before, ids = (tokenizer(part, add_special_tokens=False)["input_ids"] for part in ("a", text))
    pieces = streamed(tokenizer, ids)
    assert "a" + "".join(pieces) == tokenizer.decode([*before, *ids], clean_up_tokenization_spaces=False)
    assert "\ufffd" not in "".join(pieces) and not pieces[-1]


@named
@given(st.data())
def test_any_tokens_make_a_text(name: str, data: st.DataObject) -> None:
    """Mostly not UTF-8. Of what is, every character after a word's beginning is shown."""
    tokenizer = TOKENIZERS[name]
    ids = data.draw(st.lists(st.integers(0, len(tokenizer) - 1)))
    word = tokenizer(" the", add_special_tokens=False)["input_ids"]
    pieces = streamed(tokenizer, [*ids, *word])
    assert "".join(pieces).endswith("the") and not pieces[-1]
    assert sum(map(len, streamed(tokenizer, ids))) <= len("".join(tokenizer.convert_ids_to_tokens(ids)))


def test_what_is_no_utf8_is_shown_and_the_text_goes_on() -> None:
    """These tokens raised 'Invalid prefix encountered' in the tokenizers library's own stream."""
    word = BYTES.convert_tokens_to_ids("▁the")
    assert streamed(BYTES, [byte(0x67), byte(0xFF), word]) == ["g", "", "\ufffd the", ""]
    assert streamed(BYTES, [byte(0xE2), byte(0x82)]) == ["", "", "\ufffd\ufffd"]
    assert streamed(BYTES, [byte(0xFF)] * 5 + [byte(0xC3), byte(0xA9)])[3:] == ["\ufffd" * 4, "", "", "", "\ufffd" * 3]


def test_drafted_tokens_are_green_and_end_tokens_are_not_shown() -> None:
    out = StringIO()
    stream = TokenStream(BYTES, Console(file=out, force_terminal=True, color_system="standard"), ends={1})
    ids = np.array([*BYTES.convert_tokens_to_ids(["▁the", "he"]), 1])
    scored = Scored(torch.zeros(3, 1), torch.zeros(3, 1))
    stream(Step(ids.tolist(), ids, DraftTree.root_only(0), np.arange(2), scored))
    stream.finish()
    assert out.getvalue() == "\x1b[1;32m the\x1b[0mhe\n"


def test_a_stop_string_is_not_shown_nor_part_of_one() -> None:
    out = StringIO()
    stream = TokenStream(BYTES, Console(file=out), stop=["hen", "ts"])
    ids = BYTES.convert_tokens_to_ids(["▁t", "he", "▁t", "s", "a"])
    scored = Scored(torch.zeros(1, 1), torch.zeros(1, 1))
    for token, shown in zip(ids, [" ", " t", " the ", " the ", " the "], strict=True):
        stream(Step([token], np.array([token]), DraftTree.root_only(0), np.arange(1), scored))
        assert out.getvalue() == shown
    stream.finish()
    assert out.getvalue() == " the \n"


def test_a_file_gets_the_text_as_it_is_and_a_terminal_nothing_that_steers_it() -> None:
    text, tokenizer = "\tx = 1\r\n\x1b[31m\u3000y", TOKENIZERS["bytes"]
    ids = np.array(tokenizer(text, add_special_tokens=False)["input_ids"])
    scored = Scored(torch.zeros(len(ids) + 1, 1), torch.zeros(len(ids) + 1, 1))
    shown = []
    for forced in (False, True):
        stream = TokenStream(tokenizer, Console(file=StringIO(), force_terminal=forced))
        stream(Step(ids.tolist(), ids, DraftTree.root_only(0), np.arange(len(ids) + 1), scored))
        stream.finish()
        shown.append(stream.console.file.getvalue())
    into_a_file, on_a_terminal = shown
    assert into_a_file == text + "\n"
    assert on_a_terminal.count("\x1b[1;32m") == on_a_terminal.count("\x1b[0m") > 0, "drafted tokens are green"
    assert on_a_terminal.replace("\x1b[1;32m", "").replace("\x1b[0m", "") == "\tx = 1\n[31m\u3000y\n"
