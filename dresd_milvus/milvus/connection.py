"""Reaching a Milvus: an embedded one in a folder (Milvus Lite), or a server. Its errors in one line."""

from __future__ import annotations

import errno
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dresd_milvus.errors import DresdError, StoreError

SERVER = ("http://", "https://", "tcp://", "unix:")


def is_embedded(uri: str) -> bool:
    """Whether a URI names a Milvus Lite folder (something.db) rather than a server."""
    return not uri.startswith(SERVER)


def sidecar(uri: str) -> Path:
    """The folder for what belongs to a database but not into it (replicas, ingestion runs).

    Beside an embedded database; for a server under ~/.cache/dresd-milvus.
    """
    if is_embedded(uri):
        return Path(f"{uri.rstrip('/')}.dresd")
    return Path.home() / ".cache" / "dresd-milvus" / re.sub(r"[^\w.-]+", "_", uri.split("://")[-1])


def connect(uri: str, token: str = "", create: bool = False) -> Any:
    """A MilvusClient. create: an embedded database may be made; otherwise a missing one is an error.

    Raises StoreError, saying what to do, when the Milvus cannot be used.
    """
    from pymilvus import MilvusClient

    # Its warnings and tracebacks go to our output; every failure is raised as well, and explained below.
    for name in [name for name in logging.root.manager.loggerDict if name.startswith("pymilvus")]:
        logging.getLogger(name).setLevel(logging.CRITICAL)

    if is_embedded(uri):
        path = Path(uri)
        if path.suffix != ".db":
            raise StoreError(f"'{uri}' is no Milvus address; give a folder that ends in .db, or http://HOST:19530")
        if not create and not path.exists():
            raise StoreError(f"there is no database {uri}; build one with: dresd ingest run --uri {uri}")
        path.parent.mkdir(parents=True, exist_ok=True)
    with explained(uri):
        return MilvusClient(uri, token=token)


def has_collection(uri: str, collection: str, token: str = "") -> bool:
    """Whether a database is there and holds this collection; an embedded one is not made by asking."""
    if is_embedded(uri) and Path(uri).suffix == ".db" and not Path(uri).exists():
        return False
    client = connect(uri, token)
    with explained(uri):
        there = client.has_collection(collection)
        client.close()
    return bool(there)


@contextmanager
def explained(uri: str) -> Iterator[None]:
    """Turn what pymilvus and Milvus Lite raise into a StoreError of one line."""
    from grpc import RpcError
    from pymilvus.exceptions import MilvusException

    try:
        yield
    except DresdError:
        raise
    except (MilvusException, RpcError, OSError, RuntimeError) as error:
        raise StoreError(_explain(uri, error)) from error


def _explain(uri: str, error: BaseException) -> str:
    chain: list[BaseException] = []
    at: BaseException | None = error
    while at is not None and at not in chain:
        chain.append(at)
        at = at.__cause__ or at.__context__
    text = " ".join(str(link) for link in chain)
    if any(getattr(link, "errno", None) == errno.ENOSPC for link in chain) or "No space left" in text:
        return f"the disk that holds {uri} is full; free some space and run the same command again"
    if is_embedded(uri) and re.search(r"\block(ed)?\b|another process", text, re.IGNORECASE):
        return (
            f"{uri} is open in another process; an embedded database serves one at a time: "
            "close the other one, or run a Milvus server"
        )
    first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return f"the Milvus at {uri} failed: {first}"
