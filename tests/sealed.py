"""Sealed collections of random rows."""

from dresd_milvus.milvus import MilvusStore
from tests.oracle import example_manifest, example_projection, example_rows


def build_collection(uri: str, name: str = "rows", rows: int = 60, seed: int = 0, **layout: object) -> MilvusStore:
    """A collection of example_rows, open; layout: fields of its manifest."""
    manifest = example_manifest(**{"build": f"{name}-{seed}", **layout})
    store = MilvusStore.create(uri, name, manifest, example_projection())
    store.write(example_rows(rows, seed=seed))
    store.seal(manifest)
    return store
