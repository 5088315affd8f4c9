"""Stores in Milvus. No other package imports pymilvus, and here only client/libraries.py does."""

from dresd_milvus.milvus.client.connection import has_collection, local_folder, sync_database
from dresd_milvus.milvus.store import MilvusStore

__all__ = ["MilvusStore", "has_collection", "local_folder", "sync_database"]
