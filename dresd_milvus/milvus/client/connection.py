"""Reaching a Milvus: an embedded one in a folder (Milvus Lite), or a server."""

from __future__ import annotations

import logging
import os
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from dresd_milvus.errors import StoreError
from dresd_milvus.files.atomic import fsync
from dresd_milvus.files.cache_folder import cache_folder
from dresd_milvus.milvus.client.explain import explained

CONNECT_SECONDS = 10.0

CA = "MILVUS_CA"
"""Environment variable: the PEM file of the authority that a server's certificate is checked against."""

SERVER = ("http://", "https://", "tcp://", "unix:")


def is_embedded(uri: str) -> bool:
    """Whether a URI names a Milvus Lite folder (something.db) rather than a server."""
    return not uri.startswith(SERVER)


def certificate() -> dict[str, str]:
    """pymilvus's option for a certificate authority that the environment names; StoreError if there is no such file."""
    path = os.environ.get(CA, "")
    if path and not Path(path).is_file():
        raise StoreError(f"{CA} names {path}, and there is no such file; name the authority's PEM file or unset it")
    return {"server_pem_path": path} if path else {}


def sidecar(uri: str) -> Path:
    """The folder for what belongs to a database but not into it (replicas, ingestion runs).

    Beside an embedded database; for a server in the user's cache.
    """
    if is_embedded(uri):
        return Path(f"{uri.rstrip('/')}.dresd")
    return cache_folder() / re.sub(r"[^\w.-]+", "_", uri.split("://")[-1])


def connect(uri: str, token: str = "", create: bool = False) -> Any:
    """A MilvusClient, to be given back with `disconnect`.

    create: an embedded database may be made; otherwise a missing one is an error.
    Raises StoreError, saying what to do, when the Milvus cannot be used.
    """
    from dresd_milvus.milvus.client.libraries import MilvusClient

    # Its warnings and tracebacks go to our output; every failure is raised as well, and explained below.
    for name in [name for name in logging.root.manager.loggerDict if name.startswith("pymilvus")]:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    if not is_embedded(uri):
        if "@" in uri:
            raise StoreError("the address of a server must not hold a login; give it with --token or MILVUS_TOKEN")
        if not uri.startswith("unix:") and urlparse(uri).path.strip("/"):
            raise StoreError(f"'{uri}' names a database after the port; stores live in the default one, leave it out")
        with explained(uri):
            # A connection of its own: closing one client must not close another's.
            return MilvusClient(uri, token=token, timeout=CONNECT_SECONDS, dedicated=True, **certificate())
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
        from dresd_milvus.milvus.client.libraries import server_manager_instance

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


def on_disk(uri: str) -> None:
    """Have all of an embedded database that is closed on the disk: Milvus Lite leaves its rows to the system's memory.

    What a server has acknowledged it looks after itself.
    """
    if is_embedded(uri):
        for path in (Path(uri), *Path(uri).rglob("*")):
            fsync(path)


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
