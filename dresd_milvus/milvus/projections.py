"""Projections in the database: a collection for each fingerprint, with one row for each axis."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from dresd_milvus.errors import StoreError
from dresd_milvus.milvus.client.connection import exists, remove_half_made
from dresd_milvus.milvus.schema import exact_index, projection_schema
from dresd_milvus.retrieval.names import is_embedded
from dresd_milvus.retrieval.projection import Projection

PREFIX = "dresd_projection_"

SAMPLES = "dresd.samples"
"""The collection property that holds Projection.samples."""

NOT_SEARCHABLE = (101, 700)
"""Milvus's error codes of a collection that is not loaded and of one without an index: its creation was interrupted."""


def collection_of(fingerprint: str) -> str:
    """Name of the collection that holds the projection with this fingerprint."""
    return PREFIX + fingerprint


def save_projection(client: Any, uri: str, projection: Projection) -> bool:
    """Write a projection, unless the database has it already; returns whether it was written."""
    name = collection_of(projection.fingerprint)
    remove_half_made(uri, name)
    if exists(client, uri, name):
        if _is_complete(client, uri, name, projection.dim):
            return False
        client.drop_collection(name)  # writing it was interrupted
    client.create_collection(
        name,
        schema=projection_schema(client, projection.hidden_size),
        index_params=exact_index(client, "weight"),
        properties={SAMPLES: str(projection.samples)},
    )
    rows = zip(projection.weight.numpy(), projection.bias.tolist(), projection.explained.tolist(), strict=True)
    data = [
        {"axis": axis, "weight": weight, "bias": bias, "explained": explained_share}
        for axis, (weight, bias, explained_share) in enumerate(rows)
    ]
    client.insert(name, data)
    client.flush(name)
    client.load_collection(name)
    return True


def load_projection(client: Any, fingerprint: str, layer: str) -> Projection:
    """Read a projection; raises StoreError when the database has lost it."""
    name = collection_of(fingerprint)
    if not client.has_collection(name):
        raise StoreError("the database has lost the projection of this collection; ingest again")
    make_ready(client, name)
    rows = client.query(name, filter="axis >= 0", output_fields=["*"], limit=16_384, consistency_level="Strong")
    rows.sort(key=lambda row: row["axis"])
    samples = int(client.describe_collection(name)["properties"][SAMPLES])
    return Projection(
        weight=torch.tensor(np.array([row["weight"] for row in rows], np.float32)),
        bias=torch.tensor([row["bias"] for row in rows], dtype=torch.float32),
        explained=torch.tensor([row["explained"] for row in rows], dtype=torch.float32),
        samples=samples,
        layer=layer,
    )


def make_ready(client: Any, name: str, timeout: float | None = None) -> None:
    """Load a collection if it is not loaded and the user may do so; otherwise a search raises the error.

    timeout: seconds for loading, None for no limit.
    """
    if is_loaded(client, name) is False:
        _unless_forbidden(lambda: client.load_collection(name, timeout=timeout))


def is_loaded(client: Any, name: str) -> bool | None:
    """Whether a collection is loaded, so that it can be searched; None when the user may not read its state."""
    state = _unless_forbidden(lambda: client.get_load_state(name))
    return None if state is None else bool(state["state"].name == "Loaded")


def _unless_forbidden(call: Callable[[], Any]) -> Any:
    """The result of a call; None when the user lacks the privilege."""
    try:
        return call()
    except Exception as error:
        if not re.search(r"PERMISSION_DENIED|permission deny|privilege not", str(error), re.IGNORECASE):
            raise
        return None


def _is_complete(client: Any, uri: str, name: str, axes: int) -> bool:
    """Whether a projection's collection can be searched and has a row for every axis."""
    from dresd_milvus.milvus.client.libraries import MilvusException

    try:
        make_ready(client, name)
        counted = client.query(name, filter="", output_fields=["count(*)"], consistency_level="Strong")
    except MilvusException as error:
        if not is_embedded(uri) and error.code not in NOT_SEARCHABLE:  # others may use it: it is not replaced
            raise
        return False
    return int(counted[0]["count(*)"]) == axes
