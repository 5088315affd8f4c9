"""A document, the template its prompt goes into, and its tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from dresd_milvus.errors import InputError

PREVIEW_CONTEXT = 12
"""Tokens shown before the arrow of a preview."""


class Document(NamedTuple):
    """One example of a corpus. prompt is empty for plain text, which is all response."""

    prompt: str
    response: str
    origin: str


@dataclass(frozen=True)
class Template:
    """What a prompt is put into before the model sees it. text holds {prompt} (or {instruction}) once."""

    text: str = "Question: {instruction}\nAnswer:\n"

    def __post_init__(self) -> None:
        if self.text.count("{prompt}") + self.text.count("{instruction}") != 1:
            raise InputError(f"the template {self.text!r} must hold {{prompt}} or {{instruction}} exactly once")

    @classmethod
    def parse(cls, text: str) -> Template:
        """A template as it is typed on a command line, where \\n and \\t stand for a line break and a tab."""
        return cls(text.replace("\\n", "\n").replace("\\t", "\t"))

    def __call__(self, prompt: str) -> str:
        placeholder = "{prompt}" if "{prompt}" in self.text else "{instruction}"
        return self.text.replace(placeholder, prompt)  # not str.format: prompts and templates may hold braces


class Encoded(NamedTuple):
    """A document's tokens: ids, prompt first; the text they came from and, per token, its (start, end) there."""

    ids: list[int]
    text: str
    spans: list[tuple[int, int]]

    def preview(self, position: int, continuation: int, max_bytes: int = 480) -> str:
        """The text around a row, for people: '… context ⟶ continuation', cut to max_bytes on a code point."""
        here, end = position + 1, min(position + 1 + continuation, len(self.spans))
        start = max(here - PREVIEW_CONTEXT, 0)
        before = self.text[self.spans[start][0] : self.spans[here - 1][1]]
        after = self.text[self.spans[here][0] : self.spans[end - 1][1]]
        shown = f"{'… ' if start else ''}{before} ⟶ {after}"
        return shown.encode()[:max_bytes].decode(errors="ignore")


def encode_prompt(tokenizer: Any, template: Template | None, prompt: str) -> list[int]:
    """The tokens a model reads before it answers: the templated prompt behind the tokenizer's leading specials."""
    return list(tokenizer(template(prompt) if template else prompt)["input_ids"])


def encode_documents(
    tokenizer: Any, template: Template | None, documents: Sequence[Document], max_length: int
) -> list[Encoded]:
    """Tokenise prompts (with leading specials) and responses (without, the end token after them) and join the ids.

    They are tokenised apart because that is what decoding sees: a prompt, then tokens one by one. Texts are cut to
    max_length tokens.
    """
    prompts = [template(document.prompt) if template else document.prompt for document in documents]
    responses = [document.response for document in documents]
    fronts = tokenizer(prompts, return_offsets_mapping=True, verbose=False)
    backs = tokenizer(responses, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    encoded = []
    for index, (prompt, response) in enumerate(zip(prompts, responses, strict=True)):
        text = prompt + response
        ids = fronts["input_ids"][index] + backs["input_ids"][index] + end
        shifted = [(a + len(prompt), b + len(prompt)) for a, b in backs["offset_mapping"][index]]
        spans = fronts["offset_mapping"][index] + shifted + [(len(text), len(text))] * len(end)
        encoded.append(Encoded(ids[:max_length], text, spans[:max_length]))
    return encoded
