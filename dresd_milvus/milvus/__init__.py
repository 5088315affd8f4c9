"""Milvus as the store: the only package that imports pymilvus (libraries.py)."""

from dresd_milvus.milvus.client.connection import connect, disconnect, has_collection, is_embedded, on_disk, sidecar
from dresd_milvus.milvus.store import MilvusStore

__all__ = ["MilvusStore", "connect", "disconnect", "has_collection", "is_embedded", "on_disk", "sidecar"]
