"""Searching a Milvus server in a decoding step: recall and time of each plan, and the time that MilvusClient adds.

Rows are the sample model's own states over the standard library; queries are its states on functions held back. The
searcher, which uses MilvusClient, and the bare gRPC stub (a request made beforehand, an answer left unread) take turns.
Starts the packaged server (make server) unless --uri names one.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from common import alternate, arguments, ratio, report
from pymilvus.client.prepare import Prepare
from retrieval import build, embedded

from dresd_milvus.milvus import MilvusStore
from dresd_milvus.milvus.client.connection import open_stub
from dresd_milvus.retrieval.projection import Projection
from dresd_milvus.retrieval.replica import Replica
from dresd_milvus.retrieval.store import Manifest, Rows
from tests.milvus_server import MilvusServer

LAYOUTS = {
    "FLAT": {"index": "FLAT"},
    "HNSW": {"index": "HNSW"},
    "IVF_FLAT": {"index": "IVF_FLAT"},
    "HNSW, 64 partitions": {"index": "HNSW", "partition_by": "token", "partitions": 64},
    "FLAT, 64 partitions": {"index": "FLAT", "partition_by": "token", "partitions": 64},
    "FLAT, 256 partitions": {"index": "FLAT", "partition_by": "token", "partitions": 256},
}

K = 50

STEP_MS = 30.0
"""A step of a real model; the client may add 5 % of it."""


def main() -> None:
    options = arguments(__doc__ or "", rows=100_000, queries=500, uri="")
    model, projection, rows, states = embedded(options.rows, options.queries)
    queries = np.stack([projection(hidden[None])[0].cpu().numpy() for hidden, _ in states])
    tokens = np.array([token for _, token in states])
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder, server(options.uri, Path(folder)) as uri:
        exact = build(projection, rows, Path(folder) / "replica")
        for name, layout in LAYOUTS.items():
            with filled(uri, projection, exact.manifest, rows, layout) as store:
                for plan in store.plans():
                    results[f"{name}: {plan}"] = measure(store, plan, exact, queries, tokens)
                if name == "HNSW":
                    results["against the bare stub"] = against_stub(store, queries, tokens)
                store.drop()
    report(results, model, options)


@contextmanager
def server(uri: str, folder: Path) -> Iterator[str]:
    """The address of a server: the given one, or one that runs until the block ends."""
    if uri:
        yield uri
        return
    started = MilvusServer(folder / "server")
    try:
        yield started.uri
    finally:
        started.stop()


@contextmanager
def filled(
    uri: str, projection: Projection, manifest: Manifest, rows: list[Rows], layout: dict[str, Any]
) -> Iterator[MilvusStore]:
    """A sealed collection of these rows with an index and partitioning from LAYOUTS."""
    manifest = replace(manifest, **layout)
    with MilvusStore.create(uri, "benchmark", manifest, projection) as store:
        joined = Rows(
            np.arange(sum(map(len, rows))),
            np.concatenate([part.vectors for part in rows]),
            np.concatenate([part.next_tokens for part in rows]),
            "stdlib",
        )
        store.write(joined)
        store.seal(manifest)
        yield store


def measure(store: MilvusStore, plan: str, exact: Replica, queries: np.ndarray, tokens: np.ndarray) -> dict[str, float]:
    """Recall@10 of the queries among the rows of their first token, and milliseconds a search."""
    searcher, times, recalls = store.searcher(plan), [], []
    for index in range(len(queries)):
        query, token = queries[index : index + 1], tokens[index : index + 1]
        begun = perf_counter()
        scores = searcher(query, token, K).scores[0, :10]
        times.append(1e3 * (perf_counter() - begun))
        true = exact.search(query, token, 10).scores[0]
        there = int(np.isfinite(true).sum())
        if there:  # any row that is as near as the tenth counts
            recalls.append(float((scores[:there] >= true[there - 1] - 1e-5).mean()))
    searcher.close()
    return {
        "recall@10": round(float(np.mean(recalls)), 4),
        "p50_ms": round(float(np.median(times)), 3),
        "p95_ms": round(float(np.percentile(times, 95)), 3),
    }


def against_stub(store: MilvusStore, queries: np.ndarray, tokens: np.ndarray) -> dict[str, Any]:
    """Milliseconds of the searcher and of the bare stub, taken in turn; their difference as a share of a step."""
    channel, stub = open_stub(store.uri)
    requests = [
        Prepare.search_requests_with_expr(
            store.collection,
            "vector",
            {"metric_type": "IP", "params": store.chosen.search_params(K, store.server.version)},
            K,
            data=[query],
            expr=f"next_token == {token}",
            output_fields=["next_tokens"],
            consistency_level="Eventually",
        )
        for query, token in zip(queries, tokens, strict=True)
    ]
    searcher = store.searcher()
    times = alternate(
        {
            "stub": search_timer(lambda index: stub.Search(requests[index], timeout=10), len(queries)),
            "searcher": search_timer(lambda i: searcher(queries[i : i + 1], tokens[i : i + 1], K), len(queries)),
        },
        len(queries),
    )
    searcher.close()
    channel.close()
    added = float(np.median(times["searcher"]) - np.median(times["stub"]))
    return {"searcher over stub": ratio(times["searcher"], times["stub"]), "share of a step": added / STEP_MS}


def search_timer(search: Callable[[int], object], queries: int) -> Callable[[], float]:
    """A function that measures one search in milliseconds, each time of the next query."""
    turn = cycle(range(queries))

    def once() -> float:
        index = next(turn)
        begun = perf_counter()
        search(index)
        return 1e3 * (perf_counter() - begun)

    return once


if __name__ == "__main__":
    main()
