"""What a collection looks like, readable for a person who opens it in Attu."""

from __future__ import annotations

from typing import Any

MANIFEST = "dresd.manifest"
"""The collection property that holds the manifest as JSON."""

PREVIEW_BYTES = 512


def continuation_schema(client: Any, dim: int, continuation: int) -> Any:
    """The schema of a collection of continuations: keys of `dim` dimensions, `continuation` tokens a row."""
    from pymilvus import DataType

    schema = client.create_schema(
        auto_id=False,
        enable_dynamic_field=False,
        description="DReSD continuations: for a state of the model, the tokens that followed it in the corpus",
    )
    schema.add_field("pk", DataType.INT64, is_primary=True, description="document number * 2^24 + token position")
    schema.add_field(
        "vector",
        DataType.FLOAT_VECTOR,
        dim=dim,
        description="last hidden state: z-scored, PCA-compressed, length 1",
    )
    schema.add_field("next_token", DataType.INT64, description="the first token of the continuation")
    schema.add_field(
        "next_tokens",
        DataType.ARRAY,
        element_type=DataType.INT32,
        max_capacity=continuation,
        description="the next token ids, -1 past the end of the document",
    )
    schema.add_field("origin", DataType.VARCHAR, max_length=256, description="the source the document came from")
    schema.add_field(
        "preview", DataType.VARCHAR, max_length=PREVIEW_BYTES, description="context ⟶ continuation, as text"
    )
    return schema


def projection_schema(client: Any, hidden_size: int) -> Any:
    """The schema of a projection's collection: one row an axis, so that the projection travels with the data."""
    from pymilvus import DataType

    schema = client.create_schema(
        auto_id=False, enable_dynamic_field=False, description="DReSD projection: one row per PCA axis"
    )
    schema.add_field("axis", DataType.INT64, is_primary=True, description="0 explains the most variance")
    schema.add_field("weight", DataType.FLOAT_VECTOR, dim=hidden_size, description="axis of the folded z-score + PCA")
    schema.add_field("bias", DataType.DOUBLE)
    schema.add_field("explained", DataType.DOUBLE, description="share of the variance")
    return schema


def exact_index(client: Any, field: str) -> Any:
    """An exact (FLAT) inner-product index: the embedded database stores, the in-process replica searches."""
    index = client.prepare_index_params()
    index.add_index(field, index_type="FLAT", metric_type="IP")
    return index
