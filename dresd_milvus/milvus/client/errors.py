"""Translation of errors of pymilvus, gRPC and Milvus Lite into one line: what is wrong and what to do."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager

from dresd_milvus.errors import DresdError, StoreError

EMBEDDED_REMEDIES = (  # (pattern of the error's text, message)
    (
        r"\block(ed)?\b|another process",
        "{uri} is open in another process; an embedded database serves one at a time: close the other one, or run "
        "a Milvus server",
    ),
)

REMEDIES = (
    (r"missing authorization", "the Milvus at {uri} wants a login; give --token USER:PASSWORD or set MILVUS_TOKEN"),
    (
        r"auth check failure|UNAUTHENTICATED|code=1800",
        "the Milvus at {uri} does not accept this user and password; check --token USER:PASSWORD (or MILVUS_TOKEN)",
    ),
    (
        r"PERMISSION_DENIED|permission deny|privilege not permitted",
        "this user may not do that on the Milvus at {uri} ({first}); use a user with that privilege, or let an "
        "administrator run: dresd stack init-users",
    ),
    (
        r"WRONG_VERSION_NUMBER|first record does not look like a TLS",
        "the Milvus at {uri} does not speak TLS; write http:// instead of https://",
    ),
    (
        r"CERTIFICATE_VERIFY_FAILED|certificate verify failed|Peer name .* is not in peer certificate",
        "the certificate of the Milvus at {uri} cannot be verified; set MILVUS_CA to the file of the authority that "
        "signed it, and use the host name in the certificate",
    ),
    (r"Domain name not found|lookup failed|DNS resolution failed", "no host has the name in {uri}; check the spelling"),
    (
        r"Connection refused",
        "nothing listens at {uri}; check host and port (19530 unless changed), or start the server: dresd stack up",
    ),
    (
        r"http1\.x server|Failed parsing HTTP/2|frame type|HTTP status 4\d\d|Received http2 header with status",
        "what listens at {uri} is no Milvus gRPC port; check the port (19530 unless changed)",
    ),
    (
        r"Socket closed|Connection reset|recvmsg|Broken pipe",
        "the server at {uri} closed the connection; if it speaks TLS write https://, else check that the port is "
        "Milvus's (19530 unless changed) and its log",
    ),
    (
        r"DEADLINE_EXCEEDED|Deadline Exceeded|timed? ?out|No route to host|unreachable",
        "the Milvus at {uri} does not answer; check the address, the network and the server: dresd stack status",
    ),
    (
        r"collection not loaded|not been loaded|not fully loaded|code=101\b",
        "the collection is not loaded in the Milvus at {uri}; load it with: "
        "dresd store load --uri {uri} --collection NAME",
    ),
    (
        r"collection not found|can't find collection|code=100\b",
        "the collection is no longer in the Milvus at {uri}; list its collections: dresd store list --uri {uri}",
    ),
    (
        r"index not found|code=700\b|no vector index",
        "the collection in {uri} has no index on its keys; build one with: "
        "dresd store index --uri {uri} --collection NAME --index auto",
    ),
    (
        r"(memory|disk) quota|out of memory|insufficient memory|memory limit exceeded|no sufficient (resource|memory)",
        "the Milvus at {uri} has no memory left for this ({first}); free some, or use an index of fewer bytes a row "
        "(HNSW_SQ, DISKANN)",
    ),
)


@contextmanager
def translated_errors(uri: str) -> Iterator[None]:
    """Context manager: errors of pymilvus, gRPC and Milvus Lite become StoreErrors of one line."""
    from dresd_milvus.milvus.client.libraries import MilvusException, MilvusLiteError, grpc

    try:
        yield
    except DresdError:
        raise
    except (MilvusException, MilvusLiteError, grpc.RpcError, OSError, RuntimeError) as error:
        raise StoreError(error_message(uri, error)) from error


def error_message(uri: str, error: BaseException) -> str:
    """One line for an error, chosen by the texts of the error and of its causes."""
    chain: list[BaseException] = []
    at: BaseException | None = error
    while at is not None and at not in chain:  # an error of gRPC may be its own cause
        chain.append(at)
        at = at.__cause__ or at.__context__
    text = " ".join(str(link) for link in chain)
    if any(getattr(link, "errno", None) == errno.ENOSPC for link in chain) or "No space left" in text:
        return f"the disk that holds {uri} is full; free some space and run the same command again"
    first = _first_line(chain)
    server = re.match(r"(https?|tcp)://|unix:", uri)
    for pattern, remedy in REMEDIES if server else EMBEDDED_REMEDIES:
        if re.search(pattern, text, re.IGNORECASE):
            return remedy.format(uri=uri, first=first)
    return f"the Milvus at {uri} failed: {first}"


def _first_line(chain: list[BaseException]) -> str:
    """The first line of gRPC's details of an error, if it has some, otherwise of its message."""
    details = [found() for link in chain if callable(found := getattr(link, "details", None))]
    text = str(next(iter(details), "") or getattr(chain[0], "message", "") or chain[0]).strip()
    if ".go:" in text:  # a server's stack trace, with the error at its end
        text = re.sub(r".*attempt #\d+: ", "", text.splitlines()[-1])
    return text.splitlines()[0] if text else type(chain[0]).__name__
