"""Templates, and documents as tokens."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dresd_milvus.corpus import Document, Template, encode_documents
from dresd_milvus.errors import InputError
from dresd_milvus.models.loading import load_tokenizer

TOKENIZER = load_tokenizer("sample")


def ids_of(text: str, specials: bool = False) -> list[int]:
    return TOKENIZER(text, add_special_tokens=specials)["input_ids"]


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=2, max_size=5))
def test_turns_are_tokenised_apart_and_joined(turns: list[str]) -> None:
    """As decoding sees them: a prompt, then tokens one by one."""
    (encoded,) = encode_documents(TOKENIZER, [Document(tuple(turns), "here")])
    parts = [ids_of(turns[0], specials=True), *map(ids_of, turns[1:]), [TOKENIZER.eos_token_id]]
    assert encoded.ids.tolist() == [token for part in parts for token in part] and encoded.ids.dtype == np.int32
    answers = [at % 2 == 1 or at == len(turns) for at in range(len(parts))]  # an end token is the model's to write
    assert encoded.answered.tolist() == [answered for part, answered in zip(parts, answers, strict=True) for _ in part]
    assert encoded.text == "".join(turns) and encoded.spans.shape == (len(encoded.ids), 2)
    assert (encoded.spans[:, 0] <= encoded.spans[:, 1]).all() and encoded.spans[-1].tolist() == [len(encoded.text)] * 2


def test_documents_are_encoded_as_they_are_alone() -> None:
    documents = [Document(turns, "x") for turns in (("Hello", " world."), ("", "x = 1\n"), ("q", "a", "r", "b"))]
    together = encode_documents(TOKENIZER, documents)
    for document, encoded in zip(documents, together, strict=True):
        (alone,) = encode_documents(TOKENIZER, [document])
        assert all((ours == theirs).all() for ours, theirs in zip(encoded[:2], alone[:2], strict=True))


def test_templates() -> None:
    assert Template.parse("Q: {prompt}\\nA:")("{x} %s") == "Q: {x} %s\nA:"
    assert Template()("p") == "Question: p\nAnswer:\n"
    for bad in ("no placeholder", "{prompt}{instruction}"):
        with pytest.raises(InputError, match="exactly once"):
            Template(bad)
