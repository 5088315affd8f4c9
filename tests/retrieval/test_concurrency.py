"""Many readers and one writer at once: no search fails, and none sees a row with columns of two versions."""

import threading
import time

import numpy as np
import pytest

from dresd_milvus.milvus import MilvusStore
from dresd_milvus.retrieval.store import Rows
from tests.oracle import example_manifest, example_projection

READERS, TOKENS, DIM, SIZE = 100, 40, 8, 5

KEYS = np.random.default_rng(0).standard_normal((TOKENS, DIM)).astype(np.float32)
KEYS /= np.linalg.norm(KEYS, axis=1, keepdims=True)


def rows_of(token: int, first: int, count: int) -> Rows:
    """Rows whose columns all follow from the token, so that a mixture of two rows shows."""
    tokens = np.full((count, SIZE), token, np.int32)
    return Rows(np.arange(first, first + count, dtype=np.int64), np.repeat(KEYS[token][None], count, axis=0), tokens)


def read_and_write(uri: str, seconds: float) -> tuple[int, int, list[str]]:
    """(searches, rows written, what went wrong) of READERS readers and one writer in this time."""
    manifest = example_manifest(DIM, SIZE, index="HNSW")
    store = MilvusStore.create(uri, "busy", manifest, example_projection())
    for token in range(TOKENS):
        store.write(rows_of(token, token * 1000, 20))
    store.seal(manifest)
    wrong: list[str] = []
    counts = [0] * READERS
    end, written = time.monotonic() + seconds, 0

    def read(number: int) -> None:
        random = np.random.default_rng(number)
        searcher = store.searcher()
        try:
            while time.monotonic() < end:
                token = int(random.integers(TOKENS))
                hits = searcher(KEYS[token][None], np.array([token]), 10, timeout=30.0)
                counts[number] += 1
                if not (hits.continuations == token).all():
                    wrong.append(f"tokens {hits.continuations.tolist()} for {token}")
                if np.abs(hits.scores - 1).max() > 1e-3:
                    wrong.append(f"scores {hits.scores.tolist()} for {token}")
        except Exception as error:
            wrong.append(str(error))
        finally:
            searcher.close()

    threads = [threading.Thread(target=read, args=(number,)) for number in range(READERS)]
    for thread in threads:
        thread.start()
    try:
        while time.monotonic() < end:
            # New rows, and rows that are there already with another token, key and continuation.
            token = written % TOKENS
            store.write(rows_of(token, 1_000_000 + written, 50))
            other = (token + 1) % TOKENS
            store.write(rows_of(other, 2_000_000 + (written // 50 % 20) * 10, 10), replace=True)
            written += 60
    finally:
        for thread in threads:
            thread.join()
        store.close()
    return sum(counts), written, wrong


def test_a_hundred_readers_and_a_writer(server_uri: str) -> None:
    searches, written, wrong = read_and_write(server_uri, 4.0)
    assert wrong == [] and searches >= READERS and written > 0


@pytest.mark.soak
def test_a_hundred_readers_and_a_writer_for_a_minute(server_uri: str, capsys: pytest.CaptureFixture[str]) -> None:
    searches, written, wrong = read_and_write(server_uri, 60.0)
    with capsys.disabled():
        print(f"{READERS} readers, {searches:,} searches; one writer, {written:,} rows; wrong: {len(wrong)}")
    assert wrong == []
