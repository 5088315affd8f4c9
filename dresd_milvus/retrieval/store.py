"""Protocols and data types of stores: keys (projected hidden states) with the tokens that followed them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from dresd_milvus.errors import MismatchError, StoreError

NEIGHBOURS = 50
"""Hits of a search, as in DReSD (2502.15572)."""

PAD = -1
"""Padding of a continuation after its document's end; never drafted."""

NO_ROW = -1
"""The primary key of no row."""

ORIGIN_CHARACTERS = 64
"""Characters of the name of an origin at most."""

POSITION_BITS = 24
"""A primary key is document number * 2^24 + position: up to 16.7 M positions in a document, 5e11 documents, 63 bits."""


@dataclass(frozen=True, eq=False)
class Rows:
    """R rows of a store.

    pk: int64 [R], primary keys. vectors: float32 [R, d], keys of length 1. next_tokens: int32 [R, N], continuations
    padded with -1; next_tokens[:, 0] is never padding. origin: name of their source. previews: R texts for people who
    read the rows in Attu.
    """

    pk: NDArray[np.int64]
    vectors: NDArray[np.float32]
    next_tokens: NDArray[np.int32]
    origin: str = ""
    previews: Sequence[str] | None = None

    def __len__(self) -> int:
        return len(self.pk)


class Hits(NamedTuple):
    """The results of Q searches for k neighbours, best first.

    scores: float32 [Q, k], inner products; pks: int64 [Q, k], primary keys; continuations: int32 [Q, k, N]. Where a
    search found fewer than k rows, scores are -inf, primary keys and continuations -1.
    """

    scores: NDArray[np.float32]
    pks: NDArray[np.int64]
    continuations: NDArray[np.int32]

    def take(self, at: Any) -> Hits:
        """The same part of all three, by an index of NumPy."""
        return Hits(self.scores[at], self.pks[at], self.continuations[at])

    @classmethod
    def none(cls, queries: int, k: int, continuation: int) -> Hits:
        """Hits of searches that found nothing. continuation: N."""
        return cls(
            np.full((queries, k), -np.inf, np.float32),
            np.full((queries, k), NO_ROW, np.int64),
            np.full((queries, k, continuation), PAD, np.int32),
        )


@dataclass(frozen=True)
class Manifest:
    """What a store was built with. Drafts from a store that does not match the target are worthless.

    model, model_fingerprint, tokenizer_hash: of the model whose states are the keys. projection: fingerprint of the
    projection. dim: d, dimensions of a key. continuation: N, tokens of a continuation. template: template of the
    prompts, None for plain text. source: description of the corpus. layer: hidden states that are the keys ('last': the
    input of the output head). specials: whether prompts begin with the tokenizer's special tokens and responses end
    with its end token. vectors: dtype of stored keys. index: index of the keys with its parameters. partition_by:
    'none', 'token' (the first token is the partition key, over `partitions` partitions) or 'source' (one partition for
    each origin). ttl: seconds after which rows expire, 0 for never. suffixes: folder of the suffix store of the same
    corpus, '' if there is none. origins: names of the sources of its rows; () in stores of earlier versions. rows:
    number of rows when the store was sealed. documents: number of documents. build: id of the ingestion run. seal: id
    that changes with the rows, '' before sealing. sealed_at: time of sealing, ISO 8601. version: of this format.
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
    origins: tuple[str, ...] = ()
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
        """The manifest of a JSON text; StoreError for one of another program or of a newer version of this one."""
        try:
            content = json.loads(text)
            known = {field.name for field in fields(cls)}
            if content.get("version", 0) > 1 or not set(content) <= known:
                raise StoreError("the collection was built by a newer version of dresd-milvus; upgrade this one")
            return cls(**{**content, "origins": tuple(content.get("origins", ()))})
        except (ValueError, TypeError, AttributeError) as error:
            raise StoreError("the collection's manifest cannot be read; it was not built by dresd-milvus") from error

    def require(self, **expected: object) -> None:
        """Raise MismatchError, with every field that differs, unless fields have the expected values."""
        wrong = [
            f"{name.replace('_', ' ')} is {getattr(self, name)!r}, not {value!r}"
            for name, value in expected.items()
            if getattr(self, name) != value
        ]
        if wrong:
            raise MismatchError(
                f"the collection was built with something else: its {'; its '.join(wrong)}; "
                "use what it was built with, or ingest again"
            )


class Identity(Protocol):
    """What identifies a model in a manifest: fingerprints of its files, of its loaded weights ('' if they are not
    known; stores of earlier versions have them) and of its tokenizer."""

    @property
    def fingerprint(self) -> str: ...
    @property
    def weights_fingerprint(self) -> str: ...
    @property
    def tokenizer_hash(self) -> str: ...


class ContinuationStore(Protocol):
    """A store that drafters search."""

    @property
    def manifest(self) -> Manifest:
        """What the store was built with."""
        ...

    def search(self, queries: NDArray[np.float32], next_tokens: NDArray[np.int64] | None, k: int) -> Hits:
        """The k nearest rows of each query.

        queries: float32 [Q, d]. next_tokens: int64 [Q]; a query finds only rows whose first token is this one; None to
        all rows.
        """
        ...

    def of_origin(self, origin: str) -> ContinuationStore:
        """The same store, of which only the rows of one origin are searched."""
        ...


class WritableStore(ContinuationStore, Protocol):
    """A store that is being built; rows may be missing from searches before `seal`."""

    def write(self, rows: Rows, replace: bool = False) -> None:
        """Add rows. replace: whether some of them may be in the store already, as after an interruption."""
        ...

    def seal(self, manifest: Manifest, deadline: float) -> Manifest:
        """Flush, index, load and count the rows; write the completed manifest and return it.

        Raises StoreError when that takes longer than `deadline` seconds.
        """
        ...

    def scan(self) -> Iterator[Rows]:
        """Iterate over all rows in batches of one origin, in no particular order."""
        ...
