"""Text as it is generated: in whole characters, up to a stop string, and with drafted tokens in colour."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from rich.color import ColorSystem
from rich.console import Console
from rich.style import Style

from dresd_milvus.decoding.protocols import Step
from dresd_milvus.errors import InputError

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
        self._shown = 0  # number of their characters that have been shown
        self._waiting = 0  # number of tokens since something was shown

    def piece(self, token: int) -> str:
        """What a token adds to the text that can be shown now, '' while it ends within a character."""
        self._held.append(token)
        self._waiting += 1
        text = self._decode([*self._before, *self._held]).removeprefix(self._anchor)
        certain = text.rstrip(UNKNOWN)
        added = certain[self._shown :]
        if certain == text or (self._waiting >= LONGEST and not added):
            return self._start_anew(text)
        if added:  # the last token ends within the next character
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


def parse_stop(stop: str | Sequence[str]) -> tuple[str, ...]:
    """One stop string or several as a tuple; raises InputError for an empty one."""
    found = (stop,) if isinstance(stop, str) else tuple(stop)
    if not all(found):
        raise InputError("a stop string is empty, and would end every text at once; leave it out")
    return found


def find_stop(text: str, stop: Sequence[str]) -> int | None:
    """The index in a text at which its first stop string begins; None without one.

    The first is the one that is complete first; of those that are complete at the same character, the longest.
    """
    found = [(index + len(string), index) for string in stop if (index := text.find(string)) >= 0]
    return min(found)[1] if found else None


class AnswerText:
    """The text of tokens as they come, up to the first stop string (see `find_stop`), which is not part of it.

    Text that may be the beginning of a stop string is held back. The text depends on its tokens alone, not on the
    steps that gave them.
    stop: the stop strings, none of them empty. stopped: whether the text has ended at one.
    """

    def __init__(self, tokenizer: Any, stop: Sequence[str] = ()) -> None:
        self._detokenizer, self._stop = Detokenizer(tokenizer), stop
        self._held = ""  # a stop string may begin with it
        self.stopped = False

    def piece(self, token: int) -> str:
        """What a token adds to the text that can be shown now."""
        return self._add(self._detokenizer.piece(token))

    def rest(self) -> str:
        """What was held back, at the end of a text."""
        return self._add(self._detokenizer.rest()) + self._held

    def stops_at(self, token: int) -> bool:
        """Take a token; whether a stop string is complete with it (for `loop.decode`)."""
        self.piece(token)
        return self.stopped

    def _add(self, text: str) -> str:
        if self.stopped:
            return ""
        text = self._held + text
        end = find_stop(text, self._stop)
        if end is not None:
            self.stopped, self._held = True, ""
            return text[:end]
        sizes = (size for string in self._stop for size in range(len(string)) if text.endswith(string[:size]))
        end = len(text) - max(sizes, default=0)
        self._held = text[end:]
        return text[:end]


class TokenStream:
    """Prints what every step emits: tokens that were drafted and accepted in green, the target's own plain.

    ends: tokens that end a text, which are not shown. stop: strings that end it, which are not shown either.
    """

    def __init__(self, tokenizer: Any, console: Console, ends: Collection[int] = (), stop: Sequence[str] = ()) -> None:
        self.console, self.ends = console, ends
        self.text = AnswerText(tokenizer, stop)

    def __call__(self, step: Step) -> None:
        accepted = len(step.path) - 1
        for index, token in enumerate(step.new.tolist()):
            if token not in self.ends:
                self._print(self.text.piece(token), DRAFTED if index < accepted else "")

    def finish(self) -> None:
        """Print what was held back, and end the line."""
        self._print(self.text.rest(), "")
        self.console.print()

    def _print(self, text: str, style: str) -> None:
        """As it is, where it goes into a file; in a terminal in colour, and without what would steer the terminal."""
        if self.console.is_terminal:
            text = Style.parse(style).render(text.translate(STEERING), color_system=ColorSystem.STANDARD)
        self.console.file.write(text)
        self.console.file.flush()
