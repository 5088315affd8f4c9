"""Retrieval beside a model on a device: a synthetic store in the host's memory, first tokens as frequent as words."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from shared import milliseconds, summary

from dresd_milvus.decoding.protocols import Context
from dresd_milvus.drafters.dense import Dense
from dresd_milvus.models.loading import LoadedModel
from dresd_milvus.retrieval.projection import Projection
from dresd_milvus.retrieval.replica import Replica
from dresd_milvus.retrieval.store import Manifest, Rows

DIM, CONTINUATION, NEIGHBOURS = 64, 20, 50
NODES, DEPTH = 16, 10
QUERIES, WARM, BATCH = 300, 20, 65_536


def random_projection(hidden: int) -> Projection:
    """A projection to DIM dimensions with random axes."""
    weight = torch.randn(DIM, hidden, generator=torch.Generator().manual_seed(0))
    return Projection(weight, torch.zeros(DIM), torch.full((DIM,), 1 / DIM), samples=0)


def synthetic(projection: Projection, rows: int, vocabulary: int, folder: Path) -> tuple[Replica, NDArray[np.int64]]:
    """(a replica of random keys of length 1, the number of rows of every first token [V]).

    The numbers follow the law of Zipf and Mandelbrot, with a shift of 2.7.
    """
    rng = np.random.default_rng(0)
    shares = 1 / (rng.permutation(vocabulary) + 2.7)
    counts = rng.multinomial(rows, shares / shares.sum())
    first = np.repeat(np.arange(vocabulary, dtype=np.int32), counts)
    manifest = Manifest(
        "random", "", "", projection.fingerprint, DIM, CONTINUATION, None, "synthetic", rows=rows, seal="-"
    )

    def batches() -> Iterator[Rows]:
        for start in range(0, rows, BATCH):
            here = np.arange(start, min(start + BATCH, rows))
            keys = rng.standard_normal((len(here), DIM), np.float32)
            following = rng.integers(vocabulary, size=(len(here), CONTINUATION), dtype=np.int32)
            following[:, 0] = first[here]
            yield Rows(here, keys / np.linalg.norm(keys, axis=1, keepdims=True), following)

    return Replica.build(manifest, batches(), folder), counts


def searching(model: LoadedModel, rows: int, repeats: int) -> dict[str, Any]:
    """Milliseconds of projection (with the key's way to the host), of search, and of a whole dense draft.

    Queries ask for a first token as often as rows begin with it.
    """
    projection = random_projection(model.target.hidden_size)
    with tempfile.TemporaryDirectory() as folder:
        replica, sizes = synthetic(projection, rows, model.target.vocab_size, Path(folder) / "replica")
        tokens = np.random.default_rng(1).choice(len(sizes), size=min(QUERIES, 10 * repeats), p=sizes / rows)
        return {
            "rows": rows,
            "bytes": replica.nbytes,
            "largest_group": int(sizes.max()),
            "group_asked_for": {f"p{p}": int(np.percentile(sizes[tokens], p)) for p in (50, 95)},
            "ms": _asked(model, replica, projection, tokens.tolist()),
        }


def _asked(model: LoadedModel, replica: Replica, projection: Projection, tokens: list[int]) -> dict[str, Any]:
    device, times = model.target.device, np.empty((len(tokens), 3))
    states = torch.randn(len(tokens), model.target.hidden_size, device=device).to(model.target.dtype)
    drafter = Dense(replica, projection, NEIGHBOURS)
    # Reads all keys once, so that the timed searches have no page faults.
    replica.search(projection.query(states[0]), None, NEIGHBOURS)
    for turn in (*range(min(WARM, len(tokens))), *range(len(tokens))):
        state, first = states[turn], np.array([tokens[turn]])
        key = projection.query(state)
        context = Context([tokens[turn]], state, NODES, DEPTH)
        times[turn] = (
            milliseconds(device, partial(projection.query, state)),
            milliseconds(device, partial(replica.search, key, first, NEIGHBOURS)),
            milliseconds(device, partial(drafter.draft, context)),
        )
    parts = ("projection, key on the host", f"search, {NEIGHBOURS} neighbours", f"dense draft, {NODES} nodes")
    return {part: summary(times[:, at].tolist()) for at, part in enumerate(parts)}
