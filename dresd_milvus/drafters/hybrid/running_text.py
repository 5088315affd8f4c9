"""The text so far, and where its end stood in it before: searched without an index, for a text is short."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dresd_milvus.compiled import compiled
from dresd_milvus.tree import Int32


class RunningText:
    """Prompt and answer so far."""

    def __init__(self) -> None:
        self._size = 0
        self._room(1024)

    @property
    def held(self) -> tuple[Int32, int]:
        """(room, of which so many tokens are all of it), to be read before it grows."""
        return self._tokens, self._size

    def _room(self, size: int) -> None:
        """Room for so many tokens; there are none."""
        self._tokens = np.empty(size, np.int32)
        self._places = self._tokens.data  # a few tokens are put down so in half the time

    def begin(self, prompt: Sequence[int]) -> None:
        self._size = len(prompt)
        if self._size > len(self._tokens):
            self._room(2 * self._size)
        self._tokens[: self._size] = prompt

    def extend(self, tokens: Sequence[int]) -> None:
        """The text goes on with a few tokens."""
        held, size = self._tokens, self._size
        if size + len(tokens) > len(held):
            self._room(2 * (size + len(tokens)))
            self._tokens[:size] = held[:size]
        for place, token in enumerate(tokens, size):
            self._places[place] = token
        self._size = size + len(tokens)

    def earlier(self, longest: int, most: int, depth: int) -> tuple[Int32, Int32]:
        """(following [C, depth], lengths [C]) of the last token's earlier occurrences, the latest first.

        following: what came there; a stretch that runs into the present repeats with its period. lengths: how many
        tokens up to there are as at the text's end, at most `longest`. At most `most` occurrences, the latest.
        """
        following, lengths = np.empty((most, depth), np.int32), np.empty(most, np.int32)
        count = earlier_in(self._tokens[: self._size], longest, following, lengths)
        return following[:count], lengths[:count]


@compiled
def earlier_in(text: Int32, longest: int, following: Int32, lengths: Int32) -> int:
    """Fills following [most, depth] and lengths [most], see `RunningText.earlier`; how many there are."""
    found, last = 0, len(text) - 1
    for at in range(last - 1, -1, -1):
        if text[at] != text[last]:
            continue
        if found == len(lengths):
            break
        length = 1
        while length < longest and length <= at and text[at - length] == text[last - length]:
            length += 1
        lengths[found] = length
        period = last - at
        for depth in range(following.shape[1]):
            following[found, depth] = text[at + 1 + depth % period]
        found += 1
    return found
