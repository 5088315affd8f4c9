"""Capabilities of a server by its version, and the choice of an index for it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from dresd_milvus.errors import StoreError
from dresd_milvus.milvus.indexes import CATALOGUE, Chosen, Version
from dresd_milvus.retrieval.names import is_embedded

OLDEST: Version = (2, 3, 0)
"""Oldest usable version: before it, collection properties, which hold the manifest, could not be read."""

FLOAT16_SINCE: Version = (2, 4, 0)
"""Oldest version with vectors in half precision."""

EXACT_ROWS = 100_000
"""Up to this number of rows, exact search on a CPU costs no more than a graph (benchmarks/server_search.py)."""

EXACT_ROWS_GPU = 10_000_000
"""Up to this number of rows a GPU searches exactly: 2.6 GB of keys, which it reads in about a millisecond. An exact
search filters exactly, a graph does not."""

GRAPH_ROWS = 50_000_000
"""Above this number of rows keys are quantised in the graph: at 400 bytes a row it would take 20 GB."""


@dataclass(frozen=True)
class Server:
    """A server's capabilities. version: (major, minor, patch). gpu: whether the build has GPU indexes. embedded:
    whether it is Milvus Lite."""

    version: Version
    gpu: bool = False
    embedded: bool = False

    @classmethod
    def of(cls, client: Any, uri: str) -> Server:
        """The server of a client; StoreError when its version is older than OLDEST."""
        if is_embedded(uri):
            return cls((0, 0, 0), embedded=True)
        text = client.get_server_version()
        found = re.search(r"(\d+)\.(\d+)(?:\.(\d+))?", text)
        # A build from a branch has no number and counts as newer than any release.
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
        """Whether the server has an index of this name."""
        index = CATALOGUE[name]
        if self.embedded:
            return index.embedded
        return self.version >= index.since and (self.gpu or not index.gpu)

    @property
    def writes_at_once(self) -> int:
        """Maximum number of unanswered requests with rows.

        Milvus Lite handles each request in a thread of its own. Two that write its log at once damage it, so that
        acknowledged rows cannot be read after a crash.
        """
        return 1 if self.embedded else 4

    @property
    def float16(self) -> bool:
        """Whether the server stores keys in half precision."""
        return not self.embedded and self.version >= FLOAT16_SINCE

    def choose(self, text: str, rows: int, dim: int, float16: bool) -> Chosen:
        """The index of a text (see Chosen.parse), or for 'auto' the best one for this server and number of rows.

        dim: dimensions of a key. float16: whether keys are stored in half precision.
        Raises InputError for a wrong parameter, StoreError for an index that this server does not have.
        """
        name = self._auto(rows) if text.strip().lower() == "auto" else text
        chosen = Chosen.parse(name, dim)
        if not self.has(chosen.index.name):
            raise StoreError(self.missing_index_message(chosen))
        if float16 and not (self.float16 and chosen.index.float16):
            what = chosen.index.name if self.float16 else str(self)
            raise StoreError(f"{what} does not take float16 keys; give --vectors float32")
        return chosen

    def missing_index_message(self, chosen: Chosen) -> str:
        """Message for an index that the server lacks: the reason, and the nearest index that it has."""
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
