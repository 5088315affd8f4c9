"""Drafters that know the right text and use, spoil or ignore that knowledge. For tests of exactness."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dresd_milvus.decoding.protocols import Context, Step
from dresd_milvus.decoding.tree import DraftTree


class WildDrafter:
    """Base: `text` is the prompt and its right continuation, drawn on by position."""

    name = "wild"

    def __init__(self, text: Sequence[int], seed: int = 0, vocab_size: int = 64) -> None:
        self.text, self.vocab_size = list(text), vocab_size
        self.random = np.random.default_rng(seed)

    def begin(self, prompt: Sequence[int]) -> None:
        self.seen = list(prompt)

    def observe(self, step: Step) -> None:
        self.seen += step.new.tolist()
        assert self.seen == list(step.tokens), "a drafter is told of every token once"

    def draft(self, context: Context) -> DraftTree:
        right = self.text[len(context.tokens) : len(context.tokens) + context.max_depth]
        paths = [path for path in self.paths(right) if path]
        table = np.full((len(paths), max(map(len, paths), default=0)), -1, np.int32)
        for row, path in zip(table, paths, strict=True):
            row[: len(path)] = path
        weights = np.ones(len(paths))
        return DraftTree.from_paths(context.tokens[-1], table, weights, context.max_nodes, context.max_depth)

    def paths(self, right: list[int]) -> list[list[int]]:
        """Token strings to merge, given the right continuation."""
        return []

    def wrong(self, token: int) -> int:
        return int(token + self.random.integers(1, self.vocab_size)) % self.vocab_size


class Empty(WildDrafter):
    """Never drafts."""


class Oracle(WildDrafter):
    """The right continuation."""

    def paths(self, right: list[int]) -> list[list[int]]:
        return [right]


class Siblings(WildDrafter):
    """The right path, and beside it wrong branches at every depth."""

    def paths(self, right: list[int]) -> list[list[int]]:
        wrong = [[*right[:at], self.wrong(right[at]), *right[at + 1 :]] for at in range(len(right)) for _ in range(3)]
        return [*wrong, right]


class DeepWrong(WildDrafter):
    """Right at first, then wrong, then right again too late."""

    def paths(self, right: list[int]) -> list[list[int]]:
        turn = int(self.random.integers(0, len(right))) if right else 0
        return [[*right[:turn], self.wrong(right[turn]), *right[turn + 1 :]]] if right else []


class SameToken(WildDrafter):
    """One token all the way down, beside branches that all go on with the right text's tokens, wherever they are."""

    def paths(self, right: list[int]) -> list[list[int]]:
        branches = [[first, *right[1:]] for first in self.random.integers(0, self.vocab_size, 4).tolist()]
        return [[token] * len(right) for token in right[:1]] + branches + [right]


class RandomTree(WildDrafter):
    """Any tree: nodes hang where they fall, and carry the right token every other time."""

    def draft(self, context: Context) -> DraftTree:
        right = self.text[len(context.tokens) : len(context.tokens) + context.max_depth]
        tokens, parents, depths, taken = [context.tokens[-1]], [-1], [0], set()
        for _ in range(context.max_nodes):
            parent = int(self.random.integers(max(0, len(tokens) - 6), len(tokens)))
            depth, token = depths[parent], int(self.random.integers(0, self.vocab_size))
            if depth < len(right) and self.random.random() < 0.5:
                token = right[depth]
            if depth < context.max_depth and (parent, token) not in taken:
                taken.add((parent, token))
                tokens.append(token)
                parents.append(parent)
                depths.append(depth + 1)
        return DraftTree(np.array(tokens, np.int32), np.array(parents, np.int32))


class Overlong(Oracle):
    """The right continuation, however far the text may go: limits fall inside its drafts."""

    def draft(self, context: Context) -> DraftTree:
        return super().draft(context._replace(max_nodes=64, max_depth=64))


WILD = (Empty, Oracle, Siblings, DeepWrong, SameToken, RandomTree, Overlong)
