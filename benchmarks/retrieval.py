"""Measures the draft phase of dense retrieval in this process, on one core: projection, search and tree.

On: the sample model's own states over the standard library as rows, its states of held-out functions as queries.
Run: python benchmarks/retrieval.py [--rows N]
Prints: JSON with milliseconds a draft and a search (p50, p95), and the bytes a row of the replica.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from common import arguments, report

from dresd_milvus.corpus import Document, Template, stdlib
from dresd_milvus.decoding.protocols import Context
from dresd_milvus.drafters.dense import Dense
from dresd_milvus.models.loading import LoadedModel, load_model
from dresd_milvus.retrieval.projection import Projection, ProjectionFit
from dresd_milvus.retrieval.replica import Replica
from dresd_milvus.retrieval.store import Manifest, Rows
from ingestion.phases.embed import Embedder, RowMaker, RowSettings
from ingestion.planning.documents import NumberedDocuments
from ingestion.planning.prune import Pruning

CONTINUATION = 20


def main() -> None:
    options = arguments(__doc__ or "", rows=300_000, queries=1000, nodes=16, depth=10)
    model, projection, rows, queries = embedded(options.rows, options.queries)
    os.sched_setaffinity(0, {0})  # one core
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        replica = build(projection, rows, Path(folder) / "replica")
        results = measure(replica, projection, queries, options.nodes, options.depth)
    report(results, model, options)


def embedded(most: int, count: int) -> tuple[LoadedModel, Projection, list[Rows], list[tuple[torch.Tensor, int]]]:
    """(sample model, projection, about `most` rows of the standard library, `count` queries: see held_back_states)."""
    model = load_model("sample")
    embedder = Embedder(model, max_length=1024)
    documents = [as_document(pair) for pair in stdlib.pairs()]
    fit = ProjectionFit(model.target.hidden_size)
    for states, _ in embedder.flat_states(documents[:400]):
        fit.add(states)
    projection = fit.result(64)
    rows = take(made_rows(embedder, projection, documents), most)
    return model, projection, rows, held_back_states(embedder, count)


def as_document(pair: stdlib.Pair) -> Document:
    return Document((Template()(pair.prompt), pair.response), pair.origin)


def made_rows(embedder: Embedder, projection: Projection, documents: list[Document]) -> Iterator[Rows]:
    """The rows of all documents."""
    settings = RowSettings(projection, CONTINUATION, Pruning())
    for first in range(0, len(documents), 128):
        shard = NumberedDocuments(first, documents[first : first + 128])
        encoded = embedder.encode(shard.documents)
        maker = RowMaker(shard, encoded, settings)
        for batch in embedder.keys(encoded, settings, {}):
            yield from maker(batch)


def take(parts: Iterator[Rows], most: int) -> list[Rows]:
    """About the first `most` rows: whole parts until there are enough."""
    kept, count = [], 0
    for rows in parts:
        if count >= most:
            break
        kept.append(rows)
        count += len(rows)
    return kept


def held_back_states(embedder: Embedder, count: int) -> list[tuple[torch.Tensor, int]]:
    """Queries: (hidden state [H], the token that it produced) at random positions of held-out functions."""
    documents = [as_document(pair) for pair in islice(stdlib.pairs(held_back=True), 60)]
    queries = [
        (state.clone(), int(following[0]))
        for states, rows in embedder.flat_states(documents)
        for state, following in zip(states, rows, strict=True)
    ]
    picks = np.random.default_rng(0).permutation(len(queries))[:count]
    return [queries[pick] for pick in picks]


def build(projection: Projection, rows: list[Rows], folder: Path) -> Replica:
    manifest = Manifest(
        "sample", "", "", projection.fingerprint, 64, CONTINUATION, None, "stdlib", rows=sum(map(len, rows)), seal="b"
    )
    return Replica.build(manifest, iter(rows), folder)


def measure(
    replica: Replica, projection: Projection, queries: list[tuple[torch.Tensor, int]], nodes: int, depth: int
) -> dict[str, Any]:
    """Milliseconds of whole drafts and of searches, and the size of the replica."""
    drafter = Dense(replica, projection)
    drafts, searches = [], []
    for hidden, token in [*queries[:50], *queries]:  # the first ones warm up
        start = perf_counter()
        drafter.draft(Context([token], hidden, nodes, depth))
        drafts.append(perf_counter() - start)
        query = projection(hidden[None]).numpy()
        start = perf_counter()
        replica.search(query, np.array([token]), drafter.neighbours)
        searches.append(perf_counter() - start)
    milliseconds = {"draft": np.array(drafts[50:]) * 1e3, "search": np.array(searches[50:]) * 1e3}
    return {
        "rows": len(replica),
        "bytes_per_row": replica.nbytes / len(replica),
        **{
            f"{name}_ms": {"p50": float(np.median(times)), "p95": float(np.percentile(times, 95))}
            for name, times in milliseconds.items()
        },
    }


if __name__ == "__main__":
    main()
