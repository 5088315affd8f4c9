"""Reaching a Milvus: an embedded one in a folder (Milvus Lite), or a server. Its errors in one line."""

from __future__ import annotations

import errno
import logging
import re
from collections import Counter
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
    """A MilvusClient, to be given back with `disconnect`.

    create: an embedded database may be made; otherwise a missing one is an error.
    Raises StoreError, saying what to do, when the Milvus cannot be used.
    """
    from pymilvus import MilvusClient

    # Its warnings and tracebacks go to our output; every failure is raised as well, and explained below.
    for name in [name for name in logging.root.manager.loggerDict if name.startswith("pymilvus")]:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    if not is_embedded(uri):
        with explained(uri):
            return MilvusClient(uri, token=token)
    path = Path(uri)
    if path.suffix != ".db":
        raise StoreError(f"'{uri}' is no Milvus address; give a folder that ends in .db, or http://HOST:19530")
    if not create and not path.exists():
        raise StoreError(f"there is no database {uri}; build one with: dresd ingest run --uri {uri}")
    with explained(uri), _reasons():
        path.parent.mkdir(parents=True, exist_ok=True)
        client = MilvusClient(uri)
    _clients[path.resolve()] += 1
    return client


@contextmanager
def opening(uri: str, token: str = "", create: bool = False) -> Iterator[Any]:
    """A client to go on with; it is given back only if what is done here fails."""
    client = connect(uri, token, create)
    try:
        with explained(uri):
            yield client
    except BaseException:
        disconnect(client, uri)
        raise


def disconnect(client: Any, uri: str) -> None:
    """Close a client. An embedded database is shut down with its last one, so that another process may open it."""
    client.close()
    if is_embedded(uri):
        from milvus_lite.server_manager import server_manager_instance

        _clients[Path(uri).resolve()] -= 1
        if _clients[Path(uri).resolve()] == 0:
            server_manager_instance.release_server(uri)


_clients: Counter[Path] = Counter()
"""Open clients of embedded databases: they share one server thread a database, which pymilvus never stops."""


def has_collection(uri: str, collection: str, token: str = "") -> bool:
    """Whether a database is there and holds this collection; an embedded one is not made by asking."""
    if is_embedded(uri) and Path(uri).suffix == ".db" and not Path(uri).exists():
        return False
    client = connect(uri, token)
    try:
        with explained(uri):
            return bool(client.has_collection(collection))
    finally:
        disconnect(client, uri)


@contextmanager
def _reasons() -> Iterator[None]:
    """Milvus Lite logs why a database does not open, and pymilvus then says only that it did not: put them together."""
    logger, heard = logging.getLogger("milvus_lite.server_manager"), _Heard()
    logger.addHandler(heard)
    propagate, logger.propagate = logger.propagate, False
    try:
        yield
    except Exception as error:
        raise heard.errors[-1] if heard.errors else error from error
    finally:
        logger.propagate = propagate
        logger.removeHandler(heard)


class _Heard(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.errors: list[BaseException] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1]:
            self.errors.append(record.exc_info[1])


@contextmanager
def explained(uri: str) -> Iterator[None]:
    """Turn what pymilvus and Milvus Lite raise into a StoreError of one line."""
    from grpc import RpcError
    from milvus_lite.exceptions import MilvusLiteError
    from pymilvus.exceptions import MilvusException

    try:
        yield
    except DresdError:
        raise
    except (MilvusException, MilvusLiteError, RpcError, OSError, RuntimeError) as error:
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
