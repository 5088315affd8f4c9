"""What a server can do, found from its version; which index suits it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from dresd_milvus.errors import StoreError
from dresd_milvus.milvus.client.connection import is_embedded
from dresd_milvus.milvus.indexes import CATALOGUE, Chosen, Version

OLDEST: Version = (2, 3, 0)
"""Collection properties, which hold the manifest, can be read back from this version on."""

FLOAT16_SINCE: Version = (2, 4, 0)

EXACT_ROWS = 100_000
"""On a CPU an exact search of this many rows costs no more than a graph (benchmarks/server_search.py)."""

EXACT_ROWS_GPU = 10_000_000
"""2.6 GB of keys: read once in about a millisecond by a GPU, filtered exactly, which no graph does."""

GRAPH_ROWS = 50_000_000
"""More rows than this are quantised in a graph: 400 bytes a row would be 20 GB."""


@dataclass(frozen=True)
class Server:
    """version: (major, minor, patch). gpu: a build that has GPU indexes. embedded: Milvus Lite."""

    version: Version
    gpu: bool = False
    embedded: bool = False

    @classmethod
    def of(cls, client: Any, uri: str) -> Server:
        """Ask a connected server what it is; raises StoreError when it is older than this program can use."""
        if is_embedded(uri):
            return cls((0, 0, 0), embedded=True)
        text = client.get_server_version()
        found = re.search(r"(\d+)\.(\d+)(?:\.(\d+))?", text)
        # A build from a branch has no number; it is taken for a new one.
        version = tuple(int(part or 0) for part in found.groups()) if found else (99, 0, 0)
        if version < OLDEST:
            needed = ".".join(map(str, OLDEST))
            raise StoreError(f"the Milvus at {uri} is version {text}, too old; upgrade it to {needed} or newer")
        return cls(version, gpu="gpu" in text.lower())  # type: ignore[arg-type]

    def __str__(self) -> str:
        if self.embedded:
            return "Milvus Lite"
        return f"Milvus {'.'.join(map(str, self.version))}{' with GPU indexes' if self.gpu else ''}"

    def has(self, name: str) -> bool:
        """Whether it has an index."""
        index = CATALOGUE[name]
        if self.embedded:
            return index.embedded
        return self.version >= index.since and (self.gpu or not index.gpu)

    @property
    def writes_at_once(self) -> int:
        """Requests with rows that may be unanswered: with two, the next is there when the server is done with one.

        Milvus Lite takes each in a thread of its own, and they write its log at once, which damages it: what was
        answered can then not be read back after a crash. The next request is built meanwhile in any case.
        """
        return 1 if self.embedded else 4

    @property
    def float16(self) -> bool:
        """Whether it stores keys in half precision."""
        return not self.embedded and self.version >= FLOAT16_SINCE

    def choose(self, text: str, rows: int, dim: int, float16: bool) -> Chosen:
        """The index that a user named, or for 'auto' the one that suits this server and number of rows.

        Raises InputError for a wrong parameter, StoreError for an index that this server does not have.
        """
        name = self._auto(rows) if text.strip().lower() == "auto" else text
        chosen = Chosen.parse(name, dim)
        if not self.has(chosen.index.name):
            raise StoreError(self.lacks(chosen))
        if float16 and not (self.float16 and chosen.index.float16):
            what = chosen.index.name if self.float16 else str(self)
            raise StoreError(f"{what} does not take float16 keys; give --vectors float32")
        return chosen

    def lacks(self, chosen: Chosen) -> str:
        """What to say of an index that is not there: why, and the nearest one that is."""
        nearest = chosen.index.nearest
        while not self.has(nearest):
            nearest = CATALOGUE[nearest].nearest
        why = "is no GPU build of Milvus" if chosen.index.gpu and not self.gpu else f"is {self}"
        return f"this server has no {chosen.index.name}, it {why}; the nearest it has is --index {nearest}"

    def _auto(self, rows: int) -> str:
        if self.embedded:
            return "FLAT"  # it stores, the replica searches
        if self.gpu and self.has("GPU_CAGRA"):
            return "GPU_BRUTE_FORCE" if rows <= EXACT_ROWS_GPU else "GPU_CAGRA"
        if rows <= EXACT_ROWS:
            return "FLAT"
        return "HNSW_SQ" if rows > GRAPH_ROWS and self.has("HNSW_SQ") else "HNSW"
