"""A store in memory, obviously right and slow: what the real ones are compared with."""

from collections.abc import Iterator
from copy import copy
from dataclasses import replace

import numpy as np

from dresd_milvus.retrieval.nearest import Keys
from dresd_milvus.retrieval.replica import Columns, Replica
from dresd_milvus.retrieval.store import PAD, Hits, Manifest, Rows


class MemoryStore:
    """Implements WritableStore with a dictionary and a sort."""

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest
        self.rows: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self.origins: dict[int, str] = {}

    def write(self, rows: Rows, replace: bool = False) -> None:
        for pk, vector, tokens in zip(rows.pk.tolist(), rows.vectors, rows.next_tokens, strict=True):
            assert replace or pk not in self.rows, "an insert of a row that is there"
            self.rows[pk], self.origins[pk] = (vector.copy(), tokens.copy()), rows.origin

    def of_origin(self, origin: str) -> "MemoryStore":
        part = copy(self)
        part.rows = {pk: row for pk, row in self.rows.items() if self.origins[pk] == origin}
        return part

    def seal(self, manifest: Manifest, deadline: float = 60.0) -> Manifest:
        self.manifest = replace(manifest, rows=len(self.rows), seal="memory")
        return self.manifest

    def scan(self) -> Iterator[Rows]:
        pks = sorted(self.rows)
        vectors, tokens = (np.array([self.rows[pk][field] for pk in pks]) for field in (0, 1))
        yield Rows(np.array(pks, np.int64), vectors.astype(np.float32), tokens.astype(np.int32))

    def search(self, queries: np.ndarray, next_tokens: np.ndarray | None, k: int) -> Hits:
        hits = Hits.none(len(queries), k, self.manifest.continuation)
        for index, query in enumerate(queries):
            rows = [
                (float(vector.astype(np.float64) @ query), pk, tokens)
                for pk, (vector, tokens) in self.rows.items()
                if next_tokens is None or tokens[0] == next_tokens[index]
            ]
            rows.sort(key=lambda row: -row[0])
            for rank, (score, pk, tokens) in enumerate(rows[:k]):
                hits.scores[index, rank], hits.pks[index, rank], hits.continuations[index, rank] = score, pk, tokens
        return hits


def example_replica(rows: Rows, manifest: Manifest) -> Replica:
    """The same rows as a replica in memory."""
    first = rows.next_tokens[:, 0]
    order = np.lexsort((rows.pk, first))
    starts = np.concatenate(([0], np.cumsum(np.bincount(first)))) if len(rows) else np.zeros(1, np.int64)
    origin = np.zeros(len(rows), np.int32)
    columns = Columns(Keys.of(rows.vectors[order]), rows.next_tokens[order], rows.pk[order], origin)
    return Replica(manifest, columns, starts, [rows.origin])


def example_manifest(dim: int = 8, continuation: int = 5, **other: object) -> Manifest:
    """A manifest for tests; `projection` is the fingerprint of example_projection by default."""
    from tests.oracle import example_projection

    fields = {
        "model": "tiny",
        "model_fingerprint": "f" * 16,
        "tokenizer_hash": "t" * 16,
        "projection": example_projection(dim).fingerprint,
        "dim": dim,
        "continuation": continuation,
        "template": None,
        "source": "test",
    }
    return Manifest(**{**fields, **other})  # type: ignore[arg-type]


def example_projection(dim: int = 8, hidden: int = 12, seed: int = 0):
    """A random projection."""
    import torch

    from dresd_milvus.retrieval.projection import Projection

    generator = torch.Generator().manual_seed(seed)
    return Projection(
        torch.randn(dim, hidden, generator=generator), torch.randn(dim, generator=generator), torch.rand(dim), 100
    )


def example_rows(count: int, dim: int = 8, continuation: int = 5, vocabulary: int = 6, seed: int = 0) -> Rows:
    """Random rows of norm 1; a quarter of the continuations end early."""
    random = np.random.default_rng(seed)
    vectors = random.standard_normal((count, dim)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    tokens = random.integers(0, vocabulary, (count, continuation)).astype(np.int32)
    tokens[::4, continuation // 2 :] = PAD
    pk = random.permutation(np.arange(count, dtype=np.int64) * 3 + (1 << 40))
    return Rows(pk, vectors, tokens, "test", [f"…row {n} ⟶ après" for n in range(count)])
