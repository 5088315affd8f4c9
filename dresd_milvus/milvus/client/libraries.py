"""The only module that imports pymilvus, Milvus Lite and gRPC, shielded from the environment.

While pymilvus is imported, it loads the first `.env` in a folder above its own. With a virtual environment in the
checkout that is the stack's file, with its passwords. Both libraries also read MILVUS_* variables of other programs,
and a value that they cannot parse ends the import. Here they see neither. Other threads wait for this import, because
everything that reads MILVUS_CA imports this module first.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

DISABLED = "PYTHON_DOTENV_DISABLED"
"""python-dotenv's own switch (since 1.2): while it is true, no `.env` is loaded."""


@contextmanager
def _shielded() -> Iterator[None]:
    """Hide MILVUS_* variables and every `.env` from imports; the environment is restored afterwards."""
    hidden = {name: os.environ.pop(name) for name in [*os.environ] if name.startswith("MILVUS_") or name == DISABLED}
    os.environ[DISABLED] = "true"
    try:
        yield
    finally:
        del os.environ[DISABLED]
        os.environ.update(hidden)


os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # gRPC reads this at import; it would log to our standard error
with _shielded():
    import grpc
    from milvus_lite.exceptions import MilvusLiteError
    from milvus_lite.server_manager import server_manager_instance
    from pymilvus import DataType, MilvusClient
    from pymilvus.exceptions import MilvusException
    from pymilvus.grpc_gen import milvus_pb2, schema_pb2
    from pymilvus.grpc_gen.milvus_pb2_grpc import MilvusServiceStub

__all__ = [
    "DataType",
    "MilvusClient",
    "MilvusException",
    "MilvusLiteError",
    "MilvusServiceStub",
    "grpc",
    "milvus_pb2",
    "schema_pb2",
    "server_manager_instance",
]
