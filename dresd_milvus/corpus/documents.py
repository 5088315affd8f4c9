"""Documents, templates for prompts, and the tokens of both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dresd_milvus.errors import InputError

PREVIEW_CONTEXT = 12
"""Tokens before the arrow of a preview."""


class Document(NamedTuple):
    """One example of a corpus; its prompts are in their template already.

    turns: alternately a text that the model reads and a text that it answers; a plain text is ("", text). origin: the
    name of its source.
    """

    turns: tuple[str, ...]
    origin: str


@dataclass(frozen=True)
class Template:
    """The text around a prompt. It contains {prompt} or {instruction} once; InputError is raised for any other text."""

    text: str = "Question: {instruction}\nAnswer:\n"

    def __post_init__(self) -> None:
        if self.text.count("{prompt}") + self.text.count("{instruction}") != 1:
            raise InputError(f"the template {self.text!r} must hold {{prompt}} or {{instruction}} exactly once")

    @classmethod
    def parse(cls, text: str) -> Template:
        """A template from the command line, where \\n and \\t stand for a line break and a tab."""
        return cls(text.replace("\\n", "\n").replace("\\t", "\t"))

    def __call__(self, prompt: str) -> str:
        placeholder = "{prompt}" if "{prompt}" in self.text else "{instruction}"
        return self.text.replace(placeholder, prompt)  # not str.format: prompts and templates may contain braces


class Encoded(NamedTuple):
    """The T tokens of a document.

    ids: int32 [T]. answered: bool [T], whether a token is part of an answer. text: all turns, joined.
    spans: int64 [T, 2], start and end of every token in the text, in characters.
    """

    ids: NDArray[np.int32]
    answered: NDArray[np.bool_]
    text: str
    spans: NDArray[np.int64]

    def previews(self, positions: NDArray[np.int64], continuation: int, max_bytes: int = 480) -> list[str]:
        """Readable text for the rows at these positions [R]: '… context ⟶ continuation', of at most max_bytes bytes.

        continuation: tokens after the arrow.
        """
        here = positions + 1
        start = np.maximum(here - PREVIEW_CONTEXT, 0)
        end = np.minimum(here + continuation, len(self.ids)) - 1
        places = (start, self.spans[start, 0], self.spans[here - 1, 1], self.spans[here, 0], self.spans[end, 1])
        shown = (
            f"{'… ' if first else ''}{self.text[a:b]} ⟶ {self.text[c:d]}"
            for first, a, b, c, d in zip(*(place.tolist() for place in places), strict=True)
        )
        return [
            text if len(text) * 4 <= max_bytes else text.encode(errors="replace")[:max_bytes].decode(errors="ignore")
            for text in shown
        ]


def encode_prompt(tokenizer: Any, template: Template | None, prompt: str) -> list[int]:
    """The token ids that a model reads before it answers: the tokenizer's leading special tokens, then the prompt in
    its template."""
    return list(tokenizer(template(prompt) if template else prompt)["input_ids"])


def encode_documents(tokenizer: Any, documents: Sequence[Document]) -> list[Encoded]:
    """Tokenise documents: leading special tokens, the ids of all turns, and the end token.

    Every turn is tokenised by itself, as in decoding, where the ids of a prompt are followed by generated ids.
    """
    firsts = [document.turns[0] for document in documents]
    others = [turn for document in documents for turn in document.turns[1:]]
    fronts = _tokenised(tokenizer, firsts, True)
    backs = iter(_tokenised(tokenizer, others, False))
    end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    encoded = []
    for document, front in zip(documents, fronts, strict=True):
        parts, at = [front], len(document.turns[0])
        for turn in document.turns[1:]:
            ids, spans = next(backs)
            parts.append((ids, spans + at))
            at += len(turn)
        parts.append((np.array(end, np.int32), np.full((len(end), 2), at)))
        answered = np.repeat(
            [n % 2 == 1 or n == len(document.turns) for n in range(len(parts))], [len(i) for i, _ in parts]
        )
        ids, spans = np.concatenate([i for i, _ in parts]), np.concatenate([s for _, s in parts])
        encoded.append(Encoded(ids, answered, "".join(document.turns), spans))
    return encoded


def _tokenised(tokenizer: Any, texts: list[str], specials: bool) -> list[tuple[NDArray[np.int32], NDArray[np.int64]]]:
    """(ids [T], spans [T, 2]) of every text; specials: whether to add the tokenizer's special tokens."""
    if not texts:
        return []
    found = tokenizer(texts, add_special_tokens=specials, return_offsets_mapping=True, verbose=False)
    return [
        (np.array(ids, np.int32), np.array(spans, np.int64).reshape(-1, 2))
        for ids, spans in zip(found["input_ids"], found["offset_mapping"], strict=True)
    ]
