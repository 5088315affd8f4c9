"""What is waited for and what is not, and that requests which may have been carried out are sent again as upserts."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock, patch

import numpy as np
import pytest
from pymilvus.exceptions import MilvusException

from dresd_milvus.errors import StoreError
from dresd_milvus.milvus.client.retry import ATTEMPTS, patiently
from dresd_milvus.milvus.client.server import Server
from dresd_milvus.milvus.writing import Writer
from tests.oracle import example_manifest, example_rows

AWAY = MilvusException(65535, "node not found")


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tenacity.nap.time.sleep", lambda seconds: None)


def caused(error: Exception) -> StoreError:
    wrapped = StoreError("in one line")
    wrapped.__cause__ = error
    return wrapped


@pytest.mark.parametrize("error", [AWAY, caused(AWAY), MilvusException(8, "rate limit exceeded")])
def test_what_passes_is_waited_for_and_told_once(error: Exception) -> None:
    failures, told = [error, error, error], []

    def call() -> str:
        if failures:
            raise failures.pop()
        return "done"

    assert patiently(call, told.append, "http://here") == "done"
    assert len(told) == 1 and "http://here is away or busy" in told[0]


@pytest.mark.parametrize(
    "error",
    [
        MilvusException(100, "collection not found"),
        MilvusException(1100, "wrong parameter"),
        MilvusException(9, "disk quota exhausted"),
        MilvusException(65535, "PERMISSION_DENIED: no"),
        caused(MilvusException(1800, "UNAUTHENTICATED")),
        StoreError("it holds 3 rows and 4 were sent"),
        ValueError("a bug"),
    ],
)
def test_what_lasts_is_raised_at_once(error: Exception) -> None:
    tried = []

    def call() -> None:
        tried.append(1)
        raise error

    with pytest.raises(type(error)):
        patiently(call, pytest.fail, "here")
    assert len(tried) == 1


def test_patience_ends() -> None:
    tried = []

    def call() -> None:
        tried.append(1)
        raise AWAY

    with pytest.raises(MilvusException, match="node not found"):
        patiently(call, lambda why: None, "here")
    assert len(tried) == ATTEMPTS


class Answer:
    """Of a server: what a future gives."""

    def __init__(self, stub: Stub, code: int) -> None:
        self.stub, self.status = stub, SimpleNamespace(code=code, error_code=0, reason="busy")

    def result(self) -> Answer:
        self.stub.unanswered -= 1
        return self


class Stub:
    """A server that takes every request, but for the codes that it answers first. most: requests under way at once."""

    def __init__(self, *codes: int) -> None:
        self.codes, self.inserted, self.upserted = list(codes), [], []
        self.Insert = self.Upsert = self
        self.unanswered = self.most = 0

    def future(self, request: Any, timeout: float, metadata: Any) -> Answer:
        kept = self.upserted if type(request).__name__ == "UpsertRequest" else self.inserted
        kept.append(request)
        self.unanswered += 1
        self.most = max(self.most, self.unanswered)
        return Answer(self, self.codes.pop(0) if self.codes else 0)


SERVER = Server((2, 5, 0))


def writer(stub: Stub, told: list[str]) -> Writer:
    with patch("dresd_milvus.milvus.writing.connection", return_value=(MagicMock(), stub)):
        return Writer("http://127.0.0.1:1", "", "rows", example_manifest(), SERVER, lambda origin: "", told.append)


def test_a_failed_insert_is_sent_again_as_an_upsert_of_the_same_rows() -> None:
    stub, told = Stub(0, 65535, 0, 8), []
    sending = writer(stub, told)
    rows = [example_rows(50, seed=seed) for seed in range(3)]
    for part in rows:
        sending.send(part)
    sending.flush()
    assert len(stub.inserted) == 3 and len(stub.upserted) == 2 and len(told) == 1
    again, first = stub.upserted[-1], stub.inserted[1]
    assert again.num_rows == 50 and list(again.fields_data) == list(first.fields_data)
    sending.send(rows[0], replace=True)
    sending.flush()
    assert len(stub.inserted) == 3 and len(stub.upserted) == 3
    sending.close()


def test_a_refused_insert_is_one_line() -> None:
    sending = writer(Stub(1100), [])
    sending.send(example_rows(5))
    with pytest.raises(StoreError, match="busy"):
        sending.flush()


def test_requests_are_bounded_and_so_are_those_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    most = 1 << 20
    monkeypatch.setattr("dresd_milvus.milvus.writing.REQUEST_BYTES", most)
    stub = Stub()
    sending = writer(stub, [])
    many = example_rows(60_000)
    sending.send(many)
    assert stub.most <= SERVER.writes_at_once < len(stub.inserted)
    assert sum(r.num_rows for r in stub.inserted) == 60_000 and all(r.ByteSize() < 2 * most for r in stub.inserted)
    keys = [pk for r in stub.inserted for pk in r.fields_data[0].scalars.long_data.data]
    assert keys == many.pk.tolist()
    vectors = np.concatenate([r.fields_data[1].vectors.float_vector.data for r in stub.inserted])
    np.testing.assert_array_equal(vectors.astype(np.float32), many.vectors.ravel())
    sending.close()
