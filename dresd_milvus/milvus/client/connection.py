"""Connections to a Milvus: an embedded database in a folder (Milvus Lite), or a server."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from dresd_milvus.errors import StoreError
from dresd_milvus.files.atomic import fsync
from dresd_milvus.files.cache_folder import cache_folder
from dresd_milvus.milvus.client.errors import translated_errors
from dresd_milvus.retrieval.names import is_embedded, parse_uri

CONNECT_SECONDS = 10.0

CA = "MILVUS_CA"
"""Environment variable: PEM file of the authority that signed a server's certificate."""

GRPC_OPTIONS = {"grpc.use_local_subchannel_pool": 1}
"""A TCP connection for each client. By default gRPC shares one between all clients of a process, and a client made to
replace one whose connection has failed would get the same connection again."""


def certificate() -> dict[str, str]:
    """pymilvus's option for the certificate authority that the environment names; StoreError for a missing file."""
    path = os.environ.get(CA, "")
    if path and not Path(path).is_file():
        raise StoreError(f"{CA} names {path}, and there is no such file; name the authority's PEM file or unset it")
    return {"server_pem_path": path} if path else {}


def local_folder(uri: str) -> Path:
    """Folder of the local files that belong to a database: replicas and ingestion runs.

    It is beside an embedded database; for a server it is in the user's cache.
    """
    if is_embedded(uri):
        return Path(f"{uri.rstrip('/')}.dresd")
    return cache_folder() / re.sub(r"[^\w.-]+", "_", uri.split("://")[-1])


def connect(uri: str, token: str = "", create: bool = False, timeout: float | None = None) -> Any:
    """Open a MilvusClient; close it with `disconnect`.

    create: make an embedded database that does not exist. timeout: seconds for a server to accept the connection,
    CONNECT_SECONDS by default. Raises StoreError, with the remedy, when the Milvus cannot be used.
    """
    from dresd_milvus.milvus.client.libraries import MilvusClient

    # pymilvus logs warnings and tracebacks of errors that it raises as well; here they become one line.
    for name in [name for name in logging.root.manager.loggerDict if name.startswith("pymilvus")]:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    _check_address(uri, create)
    options: dict[str, Any] = {} if is_embedded(uri) else certificate()
    # Dedicated: closing one client must not close another's connection.
    options |= {"timeout": timeout or CONNECT_SECONDS, "dedicated": True, "grpc_options": GRPC_OPTIONS}
    with translated_errors(uri), _logged_causes():
        client = MilvusClient(uri, token=token, **options)
    if is_embedded(uri):
        _clients[Path(uri).resolve()] += 1
    return client


def _check_address(uri: str, create: bool) -> None:
    """Raise StoreError for a wrong address or a missing embedded database. create: make its parent folder instead."""
    if not is_embedded(parse_uri(uri)):
        return
    path = Path(uri)
    if path.suffix != ".db":
        raise StoreError(f"'{uri}' is no Milvus address; give a folder that ends in .db, or http://HOST:19530")
    if path.exists() and not path.is_dir():
        raise StoreError(f"{uri} is a file; an embedded database is a folder (one of Milvus Lite 2 cannot be read)")
    if not create and not path.exists():
        raise StoreError(f"there is no database {uri}; build one with: dresd ingest run --uri {uri}")
    if path.exists() and not os.access(path, os.W_OK):
        raise StoreError(f"{uri} cannot be written, and Milvus Lite writes to a database that it opens; copy it first")
    _check_shared_files(path)
    with translated_errors(uri):
        path.parent.mkdir(parents=True, exist_ok=True)


def _check_shared_files(path: Path) -> None:
    """Raise StoreError for a damaged file that all collections of an embedded database share. Lite does not name it."""
    for file in (path / "aliases.json", path / "database_properties.json"):
        try:
            json.loads(file.read_text())
        except OSError:
            continue
        except ValueError as error:
            raise StoreError(
                f"{file} is damaged; remove it, run the same command again, and set again what it held "
                "(aliases: dresd store publish)"
            ) from error


@contextmanager
def connection(uri: str, token: str = "", create: bool = False, keep: bool = False) -> Iterator[Any]:
    """Context manager: a client whose errors become StoreErrors, closed at the end.

    create: see `connect`. keep: close it only after an error; otherwise the caller closes it later.
    """
    client = connect(uri, token, create)
    try:
        with translated_errors(uri):
            yield client
    except BaseException:
        disconnect(client, uri)
        raise
    if not keep:
        disconnect(client, uri)


def disconnect(client: Any, uri: str) -> None:
    """Close a client. The last one of an embedded database shuts it down, so that another process may open it."""
    client.close()
    if is_embedded(uri):
        from dresd_milvus.milvus.client.libraries import server_manager_instance

        _clients[Path(uri).resolve()] -= 1
        if _clients[Path(uri).resolve()] == 0:
            server_manager_instance.release_server(uri)


_clients: Counter[Path] = Counter()
"""Number of open clients of each embedded database. They share a server thread, which pymilvus never stops."""


def open_stub(uri: str) -> tuple[Any, Any]:
    """(channel, stub): gRPC without pymilvus's client, for requests that it does not offer or builds slowly.

    An embedded database must be open in this process.
    """
    from dresd_milvus.milvus.client.libraries import MilvusServiceStub, grpc, server_manager_instance

    if is_embedded(uri):
        uri = server_manager_instance.start_and_get_uri(uri)
    parsed = urlparse(uri)
    secure = parsed.scheme == "https"
    address = uri if parsed.scheme == "unix" else f"{parsed.hostname}:{parsed.port or (443 if secure else 19530)}"
    options = [*GRPC_OPTIONS.items(), ("grpc.keepalive_time_ms", 10_000), ("grpc.keepalive_timeout_ms", 5_000)]
    if secure:
        authority = certificate().get("server_pem_path")
        credentials = grpc.ssl_channel_credentials(Path(authority).read_bytes() if authority else None)
        channel = grpc.secure_channel(address, credentials, options=options)
    else:
        channel = grpc.insecure_channel(address, options=options)
    return channel, MilvusServiceStub(channel)


def exists(client: Any, uri: str, name: str) -> bool:
    """Whether a database holds a collection, or an alias, of this name, even if damage to its files keeps it shut."""
    from dresd_milvus.milvus.client.libraries import MilvusException

    try:
        return bool(client.has_collection(name))
    except MilvusException:
        if not is_embedded(uri):
            raise
        return True


def has_collection(uri: str, collection: str, token: str = "") -> bool:
    """Whether a database exists and holds this collection; an embedded database is not created."""
    if is_embedded(uri) and Path(uri).suffix == ".db" and not Path(uri).exists():
        return False
    with connection(uri, token) as client:
        return exists(client, uri, collection)


def remove_half_made(uri: str, name: str) -> None:
    """Remove what a kill has left of a collection of an embedded database, which must be open in this process.

    Milvus Lite makes a folder and then the schema in it, without which it neither lists nor replaces the collection.
    """
    folder = Path(uri) / "collections" / name
    if is_embedded(uri) and folder.is_dir() and not (folder / "schema.json").exists():
        shutil.rmtree(folder)


def sync_database(uri: str) -> None:
    """Flush an embedded database that is closed to the disk: Milvus Lite leaves its rows in the system's cache.

    A server does this itself before it acknowledges rows.
    """
    if is_embedded(uri):
        for path in (Path(uri), *Path(uri).rglob("*")):
            fsync(path)


@contextmanager
def _logged_causes() -> Iterator[None]:
    """Raise the error that Milvus Lite only logs: pymilvus says no more than that the database did not open."""
    logger, handler = logging.getLogger("milvus_lite.server_manager"), _ErrorCollector()
    logger.addHandler(handler)
    propagate, logger.propagate = logger.propagate, False
    try:
        yield
    except Exception as error:
        if handler.errors:
            raise handler.errors[-1] from error
        raise
    finally:
        logger.propagate = propagate
        logger.removeHandler(handler)


class _ErrorCollector(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.errors: list[BaseException] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1]:
            self.errors.append(record.exc_info[1])
