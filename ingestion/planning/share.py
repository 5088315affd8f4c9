"""Who does what of a run."""

from __future__ import annotations

from dataclasses import dataclass

from dresd_milvus.errors import InputError


@dataclass(frozen=True)
class Share:
    """The shards that one of `world` workers takes: every world-th from `rank` on, so that nobody has to be asked."""

    rank: int = 0
    world: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.world:
            raise InputError(f"there is no share {self.rank}/{self.world}; the first of two is 0/2, the last is 1/2")

    @classmethod
    def parse(cls, text: str) -> Share:
        """'i/n', i from 0; raises InputError for anything else."""
        rank, slash, world = text.partition("/")
        if not (slash and rank.isdecimal() and world.isdecimal()):
            raise InputError(f"a share is written i/n, i from 0 to n - 1, not '{text}'")
        return cls(int(rank), int(world))

    def __str__(self) -> str:
        return f"{self.rank}/{self.world}"


ALL = Share()
