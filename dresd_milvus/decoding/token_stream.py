"""Text as it is generated: in pieces of whole characters, and on a terminal with drafted tokens in colour."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from rich.color import ColorSystem
from rich.console import Console
from rich.style import Style

from dresd_milvus.decoding.protocols import Step

DRAFTED = "bold green"

UNKNOWN = "\ufffd"
"""What stands for bytes that are not UTF-8, or not yet."""

STEERING = {code: None for code in (*range(32), *range(127, 160)) if chr(code) not in "\t\n"}
"""Characters that would steer a terminal."""

LONGEST = 4
"""Tokens that one character takes at most, each of them a byte."""


class Detokenizer:
    """Makes text of tokens as they come, in pieces of whole characters.

    Text is held back while a token ends within a character. What is no UTF-8 shows as U+FFFD and the text goes on
    behind it; it never raises.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._before = tokenizer("a", add_special_tokens=False)["input_ids"]  # a text's first word is written otherwise
        self._anchor = self._decode(self._before)
        self._held: list[int] = []  # tokens since the last place between two characters
        self._shown = 0  # so many characters of them have been shown
        self._waiting = 0  # so many tokens have come since something was shown

    def piece(self, token: int) -> str:
        """What a token adds to the text that can be shown now, '' while it ends within a character."""
        self._held.append(token)
        self._waiting += 1
        text = self._decode([*self._before, *self._held]).removeprefix(self._anchor)
        certain = text.rstrip(UNKNOWN)
        if certain == text or self._waiting >= LONGEST:
            return self._start_anew(text)
        added = certain[self._shown :]
        if added:
            self._shown, self._waiting = len(certain), 1
        return added

    def rest(self) -> str:
        """What was held back, at the end of a text."""
        return self._start_anew(self._decode([*self._before, *self._held]).removeprefix(self._anchor))

    def _start_anew(self, text: str) -> str:
        added = text[self._shown :]
        self._held, self._shown, self._waiting = [], 0, 0
        return added

    def _decode(self, ids: list[int]) -> str:
        text: str = self._tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text


class TokenStream:
    """Prints what every step emits: tokens that were drafted and accepted in green, the target's own plain.

    ends: tokens that end a text, which are not shown.
    """

    def __init__(self, tokenizer: Any, console: Console, ends: Collection[int] = ()) -> None:
        self.console, self.ends = console, ends
        self.detokenizer = Detokenizer(tokenizer)

    def __call__(self, step: Step) -> None:
        accepted = len(step.path) - 1
        for index, token in enumerate(step.new.tolist()):
            if token not in self.ends:
                self._print(self.detokenizer.piece(token), DRAFTED if index < accepted else "")

    def finish(self) -> None:
        """Print what was held back, and end the line."""
        self._print(self.detokenizer.rest(), "")
        self.console.print()

    def _print(self, text: str, style: str) -> None:
        """As it is, where it goes into a file; in a terminal in colour, and without what would steer the terminal."""
        if self.console.is_terminal:
            text = Style.parse(style).render(text.translate(STEERING), color_system=ColorSystem.STANDARD)
        self.console.file.write(text)
        self.console.file.flush()
