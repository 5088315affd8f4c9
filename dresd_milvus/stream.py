"""Writing text to a terminal as it is generated, drafted tokens in colour."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from dresd_milvus.drafters.base import Step

DRAFTED = "bold green"


class TokenStream:
    """Prints what every step emits: tokens that were drafted and accepted in green, the target's own plain.

    Text is held back while a token ends within a character.
    """

    def __init__(self, tokenizer: Any, prompt: Sequence[int], console: Console) -> None:
        from tokenizers.decoders import DecodeStream

        self.console = console
        self._tokenizer = tokenizer.backend_tokenizer
        self._stream = DecodeStream(skip_special_tokens=True)
        for token in prompt:  # some tokenizers write a word differently at the start of a text
            self._stream.step(self._tokenizer, token)

    def __call__(self, step: Step) -> None:
        accepted = len(step.path) - 1
        for index, token in enumerate(step.new.tolist()):
            if piece := self._stream.step(self._tokenizer, token):
                self.console.print(Text(piece, DRAFTED if index < accepted else ""), end="", soft_wrap=True)
