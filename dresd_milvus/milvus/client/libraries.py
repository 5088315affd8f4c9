"""pymilvus, Milvus Lite and gRPC, which are imported here only, when they are first wanted.

pymilvus loads a `.env` while it is imported: the first in a folder above its own, which is the stack's, passwords and
all, where the virtual environment lies in the checkout. Both libraries read MILVUS_* variables that other programs
set, and a value that they do not understand ends the import. So neither sees any of it here. Threads that come
meanwhile wait for this import, as everything that reads MILVUS_CA imports this first.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

DISABLED = "PYTHON_DOTENV_DISABLED"
"""python-dotenv's own switch (since 1.2): no `.env` is loaded while it is true."""


@contextmanager
def _unread() -> Iterator[None]:
    """Hide MILVUS_* variables and every `.env` from what is imported; the environment is then as it was before."""
    hidden = {name: os.environ.pop(name) for name in [*os.environ] if name.startswith("MILVUS_") or name == DISABLED}
    os.environ[DISABLED] = "true"
    try:
        yield
    finally:
        del os.environ[DISABLED]
        os.environ.update(hidden)


os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # read when gRPC is imported; it writes to our standard error
with _unread():
    import grpc
    from milvus_lite.exceptions import MilvusLiteError
    from milvus_lite.server_manager import server_manager_instance
    from pymilvus import DataType, MilvusClient
    from pymilvus.client.prepare import Prepare
    from pymilvus.exceptions import MilvusException
    from pymilvus.grpc_gen import milvus_pb2, schema_pb2
    from pymilvus.grpc_gen.milvus_pb2_grpc import MilvusServiceStub

__all__ = [
    "DataType",
    "MilvusClient",
    "MilvusException",
    "MilvusLiteError",
    "MilvusServiceStub",
    "Prepare",
    "grpc",
    "milvus_pb2",
    "schema_pb2",
    "server_manager_instance",
]
