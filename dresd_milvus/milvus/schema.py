"""Schemas of collections, with descriptions for people who open them in Attu."""

from __future__ import annotations

import hashlib
import re
from typing import Any

from dresd_milvus.milvus.indexes import Chosen
from dresd_milvus.retrieval.store import Manifest

MANIFEST = "dresd.manifest"
"""The collection property that holds the manifest as JSON."""

TTL = "collection.ttl.seconds"
"""Milvus's own property: seconds after which a row expires; 0 for never."""

PREVIEW_BYTES = 512
"""Longest preview of a row, in bytes of UTF-8."""


def properties_of(manifest: Manifest, before: int = 0) -> dict[str, str]:
    """A collection's properties, written together so that they agree. before: the ttl that the collection has now."""
    return {MANIFEST: manifest.to_json(), **({TTL: str(manifest.ttl)} if manifest.ttl or before else {})}


def continuation_schema(client: Any, manifest: Manifest) -> Any:
    """The schema of a collection of continuations."""
    from dresd_milvus.milvus.client.libraries import DataType

    schema = client.create_schema(
        auto_id=False,
        enable_dynamic_field=False,
        description="DReSD continuations: for a state of the model, the tokens that followed it in the corpus",
    )
    schema.add_field("pk", DataType.INT64, is_primary=True, description="document number * 2^24 + token position")
    schema.add_field(
        "vector",
        DataType.FLOAT16_VECTOR if manifest.vectors == "float16" else DataType.FLOAT_VECTOR,
        dim=manifest.dim,
        description="last hidden state: z-scored, PCA-compressed, length 1",
    )
    # INT64, because a partition key cannot be narrower.
    schema.add_field(
        "next_token",
        DataType.INT64,
        is_partition_key=manifest.partition_by == "token",
        description="the first token of the continuation",
    )
    schema.add_field(
        "next_tokens",
        DataType.ARRAY,
        element_type=DataType.INT32,
        max_capacity=manifest.continuation,
        description="the next token ids, -1 past the end of the document",
    )
    schema.add_field("origin", DataType.VARCHAR, max_length=256, description="the source the document came from")
    schema.add_field(
        "preview", DataType.VARCHAR, max_length=PREVIEW_BYTES, description="context ⟶ continuation, as text"
    )
    return schema


def projection_schema(client: Any, hidden_size: int) -> Any:
    """The schema of a projection's collection, with one row for each axis."""
    from dresd_milvus.milvus.client.libraries import DataType

    schema = client.create_schema(
        auto_id=False, enable_dynamic_field=False, description="DReSD projection: one row per PCA axis"
    )
    schema.add_field("axis", DataType.INT64, is_primary=True, description="0 explains the most variance")
    schema.add_field("weight", DataType.FLOAT_VECTOR, dim=hidden_size, description="axis of the folded z-score + PCA")
    schema.add_field("bias", DataType.DOUBLE)
    schema.add_field("explained", DataType.DOUBLE, description="share of the variance")
    return schema


def key_index(client: Any, chosen: Chosen) -> Any:
    """The index of the keys, by inner product: on vectors of length 1 it is the cosine, and every index has it."""
    index = client.prepare_index_params()
    index.add_index("vector", index_type=chosen.index.name, metric_type="IP", params=chosen.build_params())
    return index


def exact_index(client: Any, field: str) -> Any:
    """An exact index of a field that is never searched; Milvus does not load a collection without an index."""
    index = client.prepare_index_params()
    index.add_index(field, index_type="FLAT", metric_type="IP")
    return index


def partition_of(origin: str) -> str:
    """The partition of a source: its name in letters, digits and underscores, with a hash that makes it unique."""
    name = re.sub(r"\W+", "_", origin, flags=re.ASCII).strip("_")[:40]
    return f"source_{name}_{hashlib.blake2b(origin.encode(), digest_size=4).hexdigest()}"
