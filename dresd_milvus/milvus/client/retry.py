"""Waiting for a server that is away or too busy, where there is time: never at a step of decoding."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

ATTEMPTS = 28
"""With pauses that double up to five seconds: about two minutes. A server that crashed needs half a minute."""

PERMANENT = frozenset({3, 7, 9, 100, 101, 700, 1100, 1101, 1802})
"""Milvus's codes for what waiting cannot mend: quota (3 and 9), permission, no such collection or partition or index,
wrong parameters, another schema."""

LASTING = ("UNAUTHENTICATED", "PERMISSION_DENIED", "INVALID_ARGUMENT", "UNIMPLEMENTED", "OUT_OF_RANGE")
"""gRPC's."""


def passing(error: BaseException) -> bool:
    """Whether the same call may succeed later; of a StoreError, whether what caused it is so."""
    from dresd_milvus.errors import StoreError
    from dresd_milvus.milvus.client.libraries import MilvusException, grpc

    if isinstance(error, StoreError):
        return error.__cause__ is not None and passing(error.__cause__)
    if isinstance(error, MilvusException):
        return error.code not in PERMANENT and not any(name in str(error) for name in LASTING)
    return isinstance(error, grpc.RpcError) and error.code().name not in LASTING


def patiently(call: Callable[[], T], waiting: Callable[[str], None], uri: str) -> T:
    """What the call returns, tried again while it fails for a passing reason; `waiting` is told, once, of the first.

    Raises what the last try raised.
    """
    from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, wait_exponential

    def tell(state: RetryCallState) -> None:
        if state.attempt_number == 1:
            waiting(f"the Milvus at {uri} is away or busy; waiting for it, two minutes at the most")

    trying = Retrying(
        stop=stop_after_attempt(ATTEMPTS),
        wait=wait_exponential(0.5, max=5),
        retry=retry_if_exception(passing),
        before_sleep=tell,
        reraise=True,
    )
    return trying(call)
