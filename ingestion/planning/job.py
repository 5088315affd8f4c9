"""Jobs: several commands, on one machine or many, that build one store together, each its own part of the shards."""

from __future__ import annotations

from dataclasses import dataclass

from dresd_milvus.errors import InputError


@dataclass(frozen=True)
class Job:
    """Job number `index` (from 0) of `count`, written `--shard index/count`.

    It takes the shards index, index + count, index + 2 * count, ...: the jobs need not talk to each other.
    Raises InputError unless 0 <= index < count.
    """

    index: int = 0
    count: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            raise InputError(f"--shard {self} does not exist; of two jobs the first is 0/2 and the second 1/2")

    @classmethod
    def parse(cls, text: str) -> Job:
        """The job that 'i/n' names. Raises InputError for any other text."""
        index, slash, count = text.partition("/")
        if not (slash and index.isdecimal() and count.isdecimal()):
            raise InputError(f"--shard is i/n, with i from 0 to n - 1, not '{text}'")
        return cls(int(index), int(count))

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


SINGLE_JOB = Job()
"""The only job of a run: it takes all shards."""
