"""A store of continuations: keys (projected hidden states) with the tokens that followed them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from dresd_milvus.errors import MismatchError, StoreError

NEIGHBOURS = 50
"""Hits per search, as published."""

PAD = -1
"""Pads a continuation past its document's end; never drafted."""

POSITION_BITS = 24
"""A primary key is document number * 2^24 + position: 16.7 M positions a document, 5e11 documents, 63 bits."""


@dataclass(frozen=True, eq=False)
class Rows:
    """What is written. pk: int64 [R]; vectors: float32 [R, d] of norm 1; next_tokens: int32 [R, N], padded with -1,
    next_tokens[:, 0] always a token; origin: the source they came from; previews: what a person reads in Attu.
    """

    pk: NDArray[np.int64]
    vectors: NDArray[np.float32]
    next_tokens: NDArray[np.int32]
    origin: str = ""
    previews: Sequence[str] | None = None

    def __len__(self) -> int:
        return len(self.pk)


class Hits(NamedTuple):
    """What a search found, best first. scores: float32 [Q, k], inner products, -inf where there are fewer than k
    rows; continuations: int32 [Q, k, N], -1 there.
    """

    scores: NDArray[np.float32]
    continuations: NDArray[np.int32]

    @classmethod
    def none(cls, queries: int, k: int, continuation: int) -> Hits:
        """Nothing found: to be filled in, or left so."""
        return cls(np.full((queries, k), -np.inf, np.float32), np.full((queries, k, continuation), PAD, np.int32))


@dataclass(frozen=True)
class Manifest:
    """What a store was built with; drafts from a store that does not match the target are worthless.

    layer: which hidden states are the keys ('last': the input of the output head). dim: of the keys.
    continuation: N, tokens per row. template: what a prompt was put into, None for plain text. specials: whether
    prompts begin with the tokenizer's special tokens and responses end with its end token. vectors: the dtype that
    keys are stored in. index: of the keys, with its parameters. partition_by: 'none', 'token' (the first token is the
    partition key, over `partitions` partitions) or 'source' (one partition per origin). ttl: seconds after which rows
    vanish, 0 for never. suffixes: the folder of the same corpus's suffix store, '' without one. seal: changes whenever
    the rows do. rows: their number when sealed.
    """

    model: str
    model_fingerprint: str
    tokenizer_hash: str
    projection: str
    dim: int
    continuation: int
    template: str | None
    source: str
    layer: str = "last"
    specials: bool = True
    vectors: str = "float32"
    index: str = "FLAT"
    partition_by: str = "none"
    partitions: int = 0
    ttl: int = 0
    suffixes: str = ""
    rows: int = 0
    documents: int = 0
    build: str = ""
    seal: str = ""
    sealed_at: str = ""
    version: int = 1

    def to_json(self) -> str:
        """The manifest as JSON."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Raises StoreError for a manifest of another program or of a newer version of this one."""
        try:
            content = json.loads(text)
            known = {field.name for field in fields(cls)}
            if content.get("version", 0) > 1 or not set(content) <= known:
                raise StoreError("the collection was built by a newer version of dresd-milvus; upgrade this one")
            return cls(**content)
        except (ValueError, TypeError, AttributeError) as error:
            raise StoreError("the collection's manifest cannot be read; it was not built by dresd-milvus") from error

    def require(self, **expected: object) -> None:
        """Raise MismatchError, naming every field that differs from what is expected."""
        wrong = [
            f"{name.replace('_', ' ')} is {getattr(self, name)!r} and {value!r} is at hand"
            for name, value in expected.items()
            if getattr(self, name) != value
        ]
        if wrong:
            raise MismatchError(
                f"the collection was built with something else: its {'; its '.join(wrong)}; "
                "use what it was built with, or ingest again"
            )


class ContinuationStore(Protocol):
    """The reading side, which drafters use."""

    @property
    def manifest(self) -> Manifest: ...

    def search(self, queries: NDArray[np.float32], next_tokens: NDArray[np.int64] | None, k: int) -> Hits:
        """The k nearest rows of each query [Q, d], among the rows whose first token is next_tokens [Q], if given."""
        ...


class WritableStore(ContinuationStore, Protocol):
    """A store that is being built. Nothing is searchable for certain before `seal`."""

    def write(self, rows: Rows, replace: bool = False) -> None:
        """Add rows; replace=True where some of them may be there already (after an interruption)."""
        ...

    def seal(self, manifest: Manifest, deadline: float) -> Manifest:
        """Flush, index, load, count, write the manifest (completed); raises StoreError after `deadline` seconds."""
        ...

    def scan(self) -> Iterator[Rows]:
        """All rows, in batches, in no particular order."""
        ...
