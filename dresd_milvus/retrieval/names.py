"""Addresses of databases and names of collections: every spelling that people use, or one line that says what is wrong.

This is the door for both. It imports no library, so that the command line can use it at once.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from dresd_milvus.errors import InputError

SERVER = ("http://", "https://", "tcp://", "unix:")
"""Beginnings of the addresses of servers."""

SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)

HOST_AND_PORT = re.compile(r"(\[[0-9a-f:.]+\]|[\w.-]+):\d+/?", re.IGNORECASE)
"""An address of a server without its scheme."""

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}")
"""What servers accept as the name of a collection or an alias (Milvus 2.3, tried). Milvus Lite accepts more."""

LARGEST_PORT = 65_535

ACCEPTED = "give NAME.db for an embedded database, or http://HOST:19530 for a server"


def is_embedded(uri: str) -> bool:
    """Whether a URI names a Milvus Lite folder (something.db) rather than a server."""
    return not uri.startswith(SERVER)


def parse_uri(text: str) -> str:
    """The address of a database in one spelling, so that the same text means the same database.

    Embedded: a path, with ~ and file:// resolved. Server: scheme://host:port, its scheme and host in lower case.
    Raises InputError for what names neither, and for a server's address with a login, which would be shown in messages.
    """
    uri = text.strip()
    if not uri or re.search(r"[\x00-\x1f\x7f]", uri):
        raise InputError(f"{text!r} names no database; {ACCEPTED}")
    if uri.lower().startswith("file:"):
        return os.path.normpath(unquote(re.sub("(?i)^file:(//(localhost)?(?=/))?", "", uri)))
    scheme = SCHEME.match(uri)
    if scheme or uri.startswith("unix:"):
        return _server(uri, scheme[1].lower() if scheme else "unix")
    if HOST_AND_PORT.fullmatch(uri):
        raise InputError(f"'{uri}' names a server without its scheme; give http://{uri.rstrip('/')}")
    return os.path.normpath(Path.home() / uri[2:] if uri.startswith("~/") else uri)


def _server(uri: str, scheme: str) -> str:
    """The address of a server; see parse_uri."""
    if scheme == "unix":
        return uri
    if f"{scheme}://" not in SERVER:
        raise InputError(f"'{scheme}://' is no address of a Milvus; {ACCEPTED}")
    try:
        parts = urlsplit(uri)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise InputError(f"the address of the server cannot be read ({error}); {ACCEPTED}") from error
    if "@" in uri:
        raise InputError("the address of a server must not hold a login; give it with --token or MILVUS_TOKEN")
    if not host or port == 0:
        raise InputError(f"'{uri}' names no host or no port; {ACCEPTED}")
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise InputError(f"'{uri}' names a database after the port; stores live in the default one, leave it out")
    shown = f"[{host}]" if ":" in host else host
    return f"{scheme}://{shown}" + (f":{port}" if port else "")


def check_name(name: str, what: str = "collection") -> str:
    """The name of a collection or an alias that is to be made; InputError for one that servers refuse.

    Embedded databases accept more names, but a store of such a name could not move to a server.
    """
    if not NAME.fullmatch(name):
        shown = name if len(name) <= 40 else f"{name[:40]}..."
        better = re.sub(r"[^A-Za-z0-9_]+", "_", name)[:100].strip("_") or "store"
        better = f"_{better}" if better[0].isdigit() else better
        raise InputError(
            f"{shown!r} cannot be the name of {'an' if what[0] in 'aeiou' else 'a'} {what}: a name has letters a to z, "
            f"digits and underscores, at most 255, and does not begin with a digit; give for instance {better}"
        )
    return name
