"""Users who may do what their work needs and no more: a reader for decoding, a writer for ingestion."""

from __future__ import annotations

import re
from typing import Any

from dresd_milvus.errors import InputError
from dresd_milvus.milvus.client.connection import disconnect, opening

GROUPS = {
    "reader": ("CollectionReadOnly",),
    "writer": ("CollectionAdmin", "DatabaseAdmin"),
}
"""Milvus's privilege groups, from 2.5 on. A writer makes collections, publishes and drops them."""

READ = (
    *(("Collection", name) for name in ("Search", "Query", "GetStatistics", "GetLoadState", "IndexDetail")),
    *(("Global", name) for name in ("DescribeCollection", "ShowCollections", "DescribeAlias", "ListAliases")),
)

WRITE = (
    *READ,
    *(
        ("Collection", name)
        for name in ("Insert", "Upsert", "Delete", "Flush", "Load", "Release", "CreateIndex", "DropIndex")
    ),
    *(("Collection", name) for name in ("GetFlushState", "GetLoadingProgress", "Compaction", "Import")),
    *(("Collection", name) for name in ("CreatePartition", "DropPartition", "HasPartition", "ShowPartitions")),
    *(("Global", name) for name in ("CreateCollection", "DropCollection", "CreateAlias", "DropAlias")),
)

SINGLE = {"reader": READ, "writer": WRITE}
"""What the groups stand for, one by one, for servers that do not know groups."""

SHORTEST = 6

RIGHTS_SECONDS = 10
"""How long rights may take to be known everywhere."""


def make_users(uri: str, root_password: str, passwords: dict[str, str]) -> dict[str, str]:
    """Make the users 'reader' and 'writer', or give those that are there these passwords and, if need be, rights.

    Returns what was done for each. Raises InputError for a password that Milvus does not take, StoreError when root may
    not log in.
    """
    for name, password in passwords.items():
        if not SHORTEST <= len(password) <= 72:
            raise InputError(f"the password of {name} must have {SHORTEST} to 72 characters; no user was made")
    with opening(uri, f"root:{root_password}") as client:
        done = {name: _make(client, name, password) for name, password in passwords.items()}
    disconnect(client, uri)
    for name, password in passwords.items():
        _await_rights(uri, name, password)
    return done


def _await_rights(uri: str, name: str, password: str) -> None:
    """Until the server lets a user do what it may: its proxies hear of new rights a moment after they were granted."""
    from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_fixed

    with opening(uri, f"{name}:{password}") as client:
        trying = Retrying(
            stop=stop_after_delay(RIGHTS_SECONDS), wait=wait_fixed(0.1), retry=retry_if_exception(_denied), reraise=True
        )
        trying(_ask, client)
    disconnect(client, uri)


def _ask(client: Any) -> None:
    """Ask for what only a role of ours allows, of a collection that is not there; raises where it is not allowed."""
    try:
        client.get_collection_stats("dresd_rights")
    except Exception as error:
        if _denied(error):
            raise


def _denied(error: BaseException) -> bool:
    return re.search(r"permission.?deny|permission_denied|permission denied", str(error), re.IGNORECASE) is not None


def _make(client: Any, name: str, password: str) -> str:
    known = name in client.list_users()
    if known:
        client.drop_user(name)  # its old password is not at hand, which changing it would need
    client.create_user(name, password)
    if name not in client.list_roles():
        client.create_role(name)
    grouped = _grant(client, name)
    client.grant_role(name, name)
    return f"{'made anew' if known else 'made'}, with {'privilege groups' if grouped else 'single privileges'}"


def _grant(client: Any, role: str) -> bool:
    """Give a role its rights on every collection; returns whether by groups."""
    try:
        for group in GROUPS[role]:
            client.grant_privilege_v2(role, group, "*", "default" if group.startswith("Database") else "*")
        return True
    except Exception as error:
        if not re.search(r"UNIMPLEMENTED|unknown method|not found the privilege", str(error), re.IGNORECASE):
            raise
    for kind, privilege in SINGLE[role]:
        try:
            client.grant_privilege(role, kind, privilege, "*")
        except Exception as error:  # a privilege of a later version is not needed in this one
            if not re.search(r"not found the privilege|invalid privilege|privilege name", str(error), re.IGNORECASE):
                raise
    return False
