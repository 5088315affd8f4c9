"""Retries of calls to a server that is away or busy, for ingestion; a search in a decoding step is never retried."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

ATTEMPTS = 28
"""Number of attempts of one call. Pauses double up to five seconds, which makes about two minutes; a server that
crashed needs half a minute to be back."""

PERMANENT_CODES = frozenset({3, 7, 9, 100, 101, 700, 1100, 1101, 1802})
"""Milvus's codes of errors that do not pass: quota (3 and 9), missing privilege, missing collection, partition or
index, wrong parameters, another schema."""

PERMANENT_STATUSES = ("UNAUTHENTICATED", "PERMISSION_DENIED", "INVALID_ARGUMENT", "UNIMPLEMENTED", "OUT_OF_RANGE")
"""gRPC's status codes of such errors."""


def is_transient(error: BaseException) -> bool:
    """Whether the same call may succeed later. A StoreError is as transient as the error that caused it."""
    from dresd_milvus.errors import StoreError
    from dresd_milvus.milvus.client.libraries import MilvusException, grpc

    if isinstance(error, StoreError):
        return error.__cause__ is not None and is_transient(error.__cause__)
    if isinstance(error, MilvusException):
        return error.code not in PERMANENT_CODES and not any(name in str(error) for name in PERMANENT_STATUSES)
    return isinstance(error, grpc.RpcError) and error.code().name not in PERMANENT_STATUSES


def with_retries(call: Callable[[], T], notify: Callable[[str], None], uri: str) -> T:
    """The result of a call, which is repeated while it fails with a transient error.

    notify: gets one message for the user after the first failure. Raises the error of the last attempt.
    """
    from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, wait_exponential

    def notify_once(state: RetryCallState) -> None:
        if state.attempt_number == 1:
            notify(f"the Milvus at {uri} is away or busy; waiting for it, two minutes at the most")

    retrying = Retrying(
        stop=stop_after_attempt(ATTEMPTS),
        wait=wait_exponential(0.5, max=5),
        retry=retry_if_exception(is_transient),
        before_sleep=notify_once,
        reraise=True,
    )
    return retrying(call)
