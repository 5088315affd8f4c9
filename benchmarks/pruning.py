"""Measures what pruning a store costs: rows that are left, and draft quality.

On: functions of the standard library under the sample model as the store, states of held-out functions as queries, the
same for every option. Draft quality is right tokens: in the best of the ten nearest rows with the right first token,
the tokens after it that the held-out function has too, up to the first difference.
Run: python benchmarks/pruning.py
Prints: JSON by option with a 95 % interval that resamples the queries (the table of docs/ingestion.md).
"""

from __future__ import annotations

from itertools import islice
from typing import Any

import numpy as np
import torch
from common import arguments, report
from numpy.typing import NDArray
from retrieval import as_document

from dresd_milvus.corpus import stdlib
from dresd_milvus.models.loading import load_model
from dresd_milvus.retrieval.projection import Projection, ProjectionFit
from dresd_milvus.retrieval.store import Rows
from evaluation.reporting.bootstrap import interval
from ingestion.phases.embed import Embedder, RowMaker, RowSettings
from ingestion.planning.documents import NumberedDocuments
from ingestion.planning.prune import Pruning

NEIGHBOURS, CONTINUATION, SHARD = 10, 20, 100

OPTIONS: dict[str, dict[str, Any]] = {
    "all rows": {},
    "--drop-same": {"drop_same": True},
    "--per-token 1000": {"per_token": 1000},
    "--per-token 200": {"per_token": 200},
    "--per-token 50": {"per_token": 50},
    "--keep-every 2": {"keep_every": 2},
    "--keep-every 4": {"keep_every": 4},
    "--drop-same --per-token 200": {"drop_same": True, "per_token": 200},
}


def main() -> None:
    options = arguments(__doc__ or "", documents=600, queries=3000)
    model = load_model("sample")
    embedder = Embedder(model, max_length=1024)
    documents = [as_document(pair) for pair in islice(stdlib.pairs(), options.documents)]
    fit = ProjectionFit(model.target.hidden_size)
    for states, _ in embedder.flat_states(documents[::4]):
        fit.add(states)
    projection = fit.result(64)
    shards = [NumberedDocuments(first, documents[first : first + SHARD]) for first in range(0, len(documents), SHARD)]
    keys, wanted = held_back(embedder, projection, options.queries)
    figures = {}
    for name, keywords in OPTIONS.items():
        rows = [part for shard in shards for part in pruned(embedder, projection, shard, Pruning(**keywords))]
        figures[name] = quality(rows, keys, wanted)
        figures[name]["share of rows"] = round(figures[name]["rows"] / figures["all rows"]["rows"], 3)
    report(figures, model, options)


def pruned(embedder: Embedder, projection: Projection, shard: NumberedDocuments, pruning: Pruning) -> list[Rows]:
    """The rows of a shard that are left."""
    encoded, settings = embedder.encode(shard.documents), RowSettings(projection, CONTINUATION, pruning)
    maker = RowMaker(shard, encoded, settings)
    return [rows for batch in embedder.keys(encoded, settings, {}) for rows in maker(batch)]


def held_back(embedder: Embedder, projection: Projection, count: int) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Queries: (keys [Q, d], continuations [Q, N]) at random positions of functions that the store does not hold."""
    documents = [as_document(pair) for pair in islice(stdlib.pairs(held_back=True), 80)]
    states, following = zip(*embedder.flat_states(documents), strict=True)
    keys, wanted = projection(torch.cat(states)).numpy(), np.concatenate(following)[:, :CONTINUATION]
    picks = np.random.default_rng(0).permutation(len(keys))[:count]
    return keys[picks], wanted[picks]


def quality(rows: list[Rows], keys: NDArray[np.float32], wanted: NDArray[np.int32]) -> dict[str, Any]:
    """Mean right tokens of the queries over these rows. keys [Q, d], wanted [Q, N]: see held_back."""
    vectors = np.concatenate([part.vectors for part in rows])
    tokens = np.concatenate([part.next_tokens for part in rows])
    by_first = {int(token): np.flatnonzero(tokens[:, 0] == token) for token in np.unique(tokens[:, 0])}
    right = np.zeros(len(keys))
    for at, (key, own) in enumerate(zip(keys, wanted, strict=True)):
        among = by_first.get(int(own[0]), np.empty(0, np.int64))
        nearest = among[np.argsort(-(vectors[among] @ key))[:NEIGHBOURS]]
        if len(nearest):
            same = (tokens[nearest, 1:] == own[1:]) & (own[1:] >= 0)
            right[at] = np.cumprod(same, axis=1).sum(axis=1).max()
    return {
        "rows": len(vectors),
        "right tokens": round(float(right.mean()), 3),
        "interval": [round(edge, 3) for edge in interval(lambda drawn: drawn.mean(1), right)],
    }


if __name__ == "__main__":
    main()
