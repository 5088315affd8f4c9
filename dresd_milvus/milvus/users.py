"""Users with no more rights than their work needs: a reader for decoding, a writer for ingestion."""

from __future__ import annotations

import re
from typing import Any

from dresd_milvus.errors import InputError
from dresd_milvus.milvus.client.connection import connection

GROUPS = {
    "reader": ("CollectionReadOnly",),
    "writer": ("CollectionAdmin", "DatabaseAdmin"),
}
"""Milvus's privilege groups, from 2.5 on. A writer creates, publishes and drops collections."""

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
"""The privileges of each group, for servers without privilege groups."""

PASSWORD_CHARACTERS = (6, 72)
"""Shortest and longest password that Milvus takes."""

RIGHTS_SECONDS = 10
"""Longest time that a server takes to apply new rights."""


def make_users(uri: str, root_password: str, passwords: dict[str, str]) -> dict[str, str]:
    """Create the users 'reader' and 'writer', or create them anew with these passwords.

    passwords: by user name. Returns a line on each user by name. Raises InputError for a password that Milvus does
    not take, StoreError when root cannot log in.
    """
    shortest, longest = PASSWORD_CHARACTERS
    for name, password in passwords.items():
        if not shortest <= len(password) <= longest:
            raise InputError(f"the password of {name} must have {shortest} to {longest} characters; no user was made")
    with connection(uri, f"root:{root_password}") as client:
        done = {name: _make(client, name, password) for name, password in passwords.items()}
    for name, password in passwords.items():
        await_rights(uri, name, password)
    return done


def await_rights(uri: str, name: str, password: str) -> None:
    """Wait until the server applies a user's rights: its proxies do so a moment after they were granted."""
    from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_fixed

    retrying = Retrying(
        stop=stop_after_delay(RIGHTS_SECONDS), wait=wait_fixed(0.1), retry=retry_if_exception(_denied), reraise=True
    )
    with connection(uri, f"{name}:{password}") as client:
        retrying(_request_with_rights, client)


def _request_with_rights(client: Any) -> None:
    """Send a request that only our roles allow, for a collection that does not exist; raises where it is denied."""
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
        client.drop_user(name)  # changing its password would need the old one
    client.create_user(name, password)
    if name not in client.list_roles():
        client.create_role(name)
    grouped = _grant(client, name)
    client.grant_role(name, name)
    return f"{'made anew' if known else 'made'}, with {'privilege groups' if grouped else 'single privileges'}"


def _grant(client: Any, role: str) -> bool:
    """Give a role its rights on every collection; returns whether the server has privilege groups."""
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
        except Exception as error:  # an older server does not need a newer privilege
            if not re.search(r"not found the privilege|invalid privilege|privilege name", str(error), re.IGNORECASE):
                raise
    return False
