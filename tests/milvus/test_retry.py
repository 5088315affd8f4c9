"""Which errors are retried, and that a request which may have been carried out is sent again as an upsert."""

from threading import Event
from typing import Any
from unittest.mock import Mock, patch

import numpy as np
import pytest
from pymilvus.exceptions import MilvusException

from dresd_milvus.errors import StoreError
from dresd_milvus.milvus.client.retry import ATTEMPTS, with_retries
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
def test_a_transient_error_is_retried_with_one_message(error: Exception) -> None:
    failures, messages = [error, error, error], []

    def call() -> str:
        if failures:
            raise failures.pop()
        return "done"

    assert with_retries(call, messages.append, "http://here") == "done"
    assert len(messages) == 1 and "http://here is away or busy" in messages[0]


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
def test_a_permanent_error_is_raised_at_once(error: Exception) -> None:
    tried = []

    def call() -> None:
        tried.append(1)
        raise error

    with pytest.raises(type(error)):
        with_retries(call, pytest.fail, "here")
    assert len(tried) == 1


def test_retries_end() -> None:
    tried = []

    def call() -> None:
        tried.append(1)
        raise AWAY

    with pytest.raises(MilvusException, match="node not found"):
        with_retries(call, lambda message: None, "here")
    assert len(tried) == ATTEMPTS


class Stub:
    """A server that takes every request, but answers the first ones with these error codes."""

    def __init__(self, *codes: int) -> None:
        self.codes, self.inserted, self.upserted = list(codes), [], []
        self.Insert = self.Upsert = self
        self.unanswered = self.most_unanswered = 0

    def future(self, request: Any, timeout: float, metadata: Any) -> Mock:
        kept = self.upserted if type(request).__name__ == "UpsertRequest" else self.inserted
        kept.append(request)
        self.unanswered += 1
        self.most_unanswered = max(self.most_unanswered, self.unanswered)
        code = self.codes.pop(0) if self.codes else 0
        return Mock(result=lambda: self.answer(code))

    def answer(self, code: int) -> Mock:
        self.unanswered -= 1
        return Mock(status=Mock(code=code, error_code=0, reason="busy"))


SERVER = Server((2, 5, 0))


def writer(stub: Stub, messages: list[str]) -> Writer:
    with patch("dresd_milvus.milvus.writing.open_stub", return_value=(Mock(), stub)):
        return Writer("http://here", "", "rows", example_manifest(), SERVER, lambda origin: "", messages.append)


def test_a_failed_insert_is_sent_again_as_an_upsert_of_the_same_rows() -> None:
    stub, messages = Stub(0, 65535, 0, 8), []
    sending = writer(stub, messages)
    rows = [example_rows(50, seed=seed) for seed in range(3)]
    for part in rows:
        sending.send(part)
    sending.flush()
    assert len(stub.inserted) == 3 and len(stub.upserted) == 2 and len(messages) == 1
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


def test_requests_and_the_number_of_unanswered_ones_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    largest = 1 << 20
    monkeypatch.setattr("dresd_milvus.milvus.writing.REQUEST_BYTES", largest)
    stub = Stub()
    sending = writer(stub, [])
    many = example_rows(60_000)
    sending.send(many)
    assert 1 < stub.most_unanswered <= SERVER.writes_at_once < len(stub.inserted)
    assert sum(r.num_rows for r in stub.inserted) == 60_000 and all(r.ByteSize() < 2 * largest for r in stub.inserted)
    keys = [pk for r in stub.inserted for pk in r.fields_data[0].scalars.long_data.data]
    assert keys == many.pk.tolist()
    vectors = np.concatenate([r.fields_data[1].vectors.float_vector.data for r in stub.inserted])
    np.testing.assert_array_equal(vectors.astype(np.float32), many.vectors.ravel())
    sending.close()


@pytest.mark.timeout(60)
def test_closing_does_not_wait_for_a_call_that_never_ends() -> None:
    """Ctrl-C while a call is begun leaves gRPC one that it waits for without end; the command hung."""
    forever = Event()
    channel = Mock(close=lambda: forever.wait())
    with patch("dresd_milvus.milvus.writing.open_stub", return_value=(channel, Stub())):
        Writer("http://here", "", "rows", example_manifest(), SERVER, lambda origin: "").close()
    assert not forever.is_set()
    forever.set()
