"""A search is one attempt that ends at its deadline, whatever the server does; pymilvus's own retries do not happen."""

import gc
import time
from collections.abc import Callable

import grpc
import numpy as np
import pytest
from pymilvus.client.connection_manager import ConnectionManager
from pymilvus.grpc_gen import milvus_pb2

from dresd_milvus.errors import StoreError
from dresd_milvus.milvus.indexes import Chosen
from dresd_milvus.milvus.search import Searcher
from tests.fakes import FakeMilvus
from tests.oracle import example_manifest

DEADLINE, SLOW = 0.3, 1.5
"""Seconds of a search's deadline, and of a slow server's answer."""

Answer = Callable[[grpc.ServicerContext], milvus_pb2.SearchResults]


class FaultyMilvus(FakeMilvus):
    """Answers every search in the same wrong way."""

    def __init__(self, answer: Answer) -> None:
        super().__init__("v9")
        self.answer = answer

    def Search(self, request, context):  # noqa: N802
        self.searches.append(request)
        return self.answer(context)


def slow(context: grpc.ServicerContext) -> milvus_pb2.SearchResults:
    time.sleep(SLOW)
    return milvus_pb2.SearchResults()


def unavailable(context: grpc.ServicerContext) -> milvus_pb2.SearchResults:
    context.abort(grpc.StatusCode.UNAVAILABLE, "going away")


def busy(context: grpc.ServicerContext) -> milvus_pb2.SearchResults:
    return milvus_pb2.SearchResults(status={"code": 8, "reason": "rate limit exceeded"})


def incomplete(context: grpc.ServicerContext) -> milvus_pb2.SearchResults:
    ids = {"int_id": {"data": [7]}}
    return milvus_pb2.SearchResults(results={"num_queries": 1, "topks": [1], "scores": [0.5], "ids": ids})


def searcher_of(fake: FakeMilvus) -> Searcher:
    return Searcher(fake.uri, "", "rows", example_manifest(), Chosen.parse("FLAT", 8), (2, 5, 0), "filter")


def search(searcher: Searcher) -> None:
    searcher(np.ones((1, 8), np.float32), np.array([1]), 5, DEADLINE)


@pytest.mark.parametrize(
    ("answer", "message"),
    [(slow, "does not answer"), (unavailable, "going away"), (busy, "rate limit"), (incomplete, "not complete")],
)
def test_a_faulty_server_gets_one_attempt_within_the_deadline(answer: Answer, message: str) -> None:
    with FaultyMilvus(answer) as fake:
        searcher = searcher_of(fake)
        begun = time.monotonic()
        with pytest.raises(StoreError, match=message):
            search(searcher)
        assert time.monotonic() - begun < DEADLINE + 0.3
        assert len(fake.searches) == 1
        searcher.close()


def test_a_server_that_has_gone_is_an_error_at_once() -> None:
    with FakeMilvus("v9") as fake:
        searcher = searcher_of(fake)
        search(searcher)
        fake.server.stop(None).wait()
        begun = time.monotonic()
        with pytest.raises(StoreError):
            search(searcher)
        assert time.monotonic() - begun < DEADLINE + 0.3
        searcher.close()


def test_the_connection_of_a_searcher_that_nobody_holds_is_closed() -> None:
    def connections() -> int:
        gc.collect()
        return ConnectionManager.get_instance().get_stats()["dedicated_connections"]

    with FaultyMilvus(busy) as fake:
        before = connections()
        searcher = searcher_of(fake)
        assert connections() == before + 1
        with pytest.raises(StoreError):
            search(searcher)
        del searcher
        assert connections() == before
