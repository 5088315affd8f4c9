"""The fit phase: the projection of a run, on states spread over its corpus, and how good other sizes would be."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dresd_milvus.corpus import Document
from dresd_milvus.files.atomic import write_json
from dresd_milvus.retrieval.projection import Projection, ProjectionFit, check_dim
from ingestion.phases.embed import Embedder, Window, following
from ingestion.phases.states import States
from ingestion.planning.documents import Numbered
from ingestion.planning.plan import Plan

DIMENSIONS = (8, 16, 24, 32, 48, 64, 96, 128, 192, 256)
"""What --dim auto chooses among."""

GOOD_ENOUGH = 0.98
"""It takes the fewest that draft so well, as a share of the best."""

STORED, ASKED, NEIGHBOURS = 40_000, 1_000, 10
"""States that are kept to measure the curve: as rows, and as queries of other documents."""


@dataclass
class Curve:
    """Draft quality by dimensions: tokens of the best of NEIGHBOURS drafts that a query's own document agrees with,
    on average. explained: the share of variance of each axis.
    """

    quality: dict[int, float] = field(default_factory=dict)
    explained: list[float] = field(default_factory=list)

    def choose(self) -> int:
        """The fewest dimensions that are good enough."""
        best = max(self.quality.values())
        return min(dim for dim, quality in self.quality.items() if quality >= GOOD_ENOUGH * best)

    def save(self, folder: Path, dim: int) -> None:
        """Write explained.png, which shows the dimensions that were taken, and curve.json."""
        _plot(self, dim, folder / "explained.png")
        write_json(folder / "curve.json", asdict(self))


def fit_projection(
    embedder: Embedder,
    read: Callable[[int], Numbered],
    plan: Plan,
    states: States,
    advance: Callable[[int], None] = lambda states: None,
) -> tuple[Projection, Curve]:
    """(the projection, what was measured); read gives the documents of a shard; states keeps those of its rows.

    Raises InputError where the corpus is too small or --dim too large."""
    size = embedder.model.target.hidden_size
    check_dim(plan.settings.dim or 1, size)
    fit, held, pruning = ProjectionFit(size), _Held(plan.settings.dim == 0), plan.settings.pruning()
    for shard, places, documents in _spread(read, plan):
        encoded = embedder.encode(documents)
        with states.keep(shard) as keep:
            for batch in embedder.states(encoded):
                flat = batch.values.cpu()
                fit.add(flat)
                held.add(flat, following(batch, encoded))
                for window, own in zip(
                    batch.windows, flat.split([w.stop - w.first for w in batch.windows]), strict=True
                ):
                    rows = pruning.positions(encoded[window.document], window.first, window.stop)
                    keep(Window(places[window.document], *window[1:]), own[rows - window.first])
                advance(len(flat))
        if fit.samples >= plan.settings.fit_tokens:
            break
    widest = fit.result(min(size, max(DIMENSIONS), fit.samples))
    curve = Curve(explained=[round(float(share), 6) for share in widest.explained])
    if plan.settings.dim == 0:
        curve.quality = held.curve(widest)
    dim = plan.settings.dim or curve.choose()
    return (_narrowed(widest, dim) if dim <= widest.dim else fit.result(dim)), curve


def _spread(read: Callable[[int], Numbered], plan: Plan) -> Iterator[tuple[int, list[int], list[Document]]]:
    """(shard, places in it, documents there) from all over the corpus: shards in a random order that is always the
    same, every k-th document of each."""
    for shard in np.random.default_rng(0).permutation(len(plan.shards)):
        documents = read(int(shard)).documents
        wanted = np.linspace(0, len(documents) - 1, max(round(plan.fit_share * len(documents)), 1)).round().astype(int)
        places = np.unique(wanted).tolist()
        yield int(shard), places, [documents[place] for place in places]


def _narrowed(projection: Projection, dim: int) -> Projection:
    """The first axes only: those of the same fit."""
    return Projection(
        projection.weight[:dim].clone(),
        projection.bias[:dim].clone(),
        projection.explained[:dim].clone(),
        projection.samples,
        projection.layer,
    )


class _Held:
    """States kept for the curve: of every tenth batch of documents as queries, of the others as rows."""

    def __init__(self, wanted: bool) -> None:
        self.wanted, self.batches = wanted, 0
        self.rows: list[tuple[Tensor, NDArray[np.int32]]] = []
        self.queries: list[tuple[Tensor, NDArray[np.int32]]] = []

    def add(self, states: Tensor, following: NDArray[np.int32]) -> None:
        """states [n, H], following [n, N]."""
        if not self.wanted:
            return
        self.batches += 1
        to, most = (self.queries, ASKED) if self.batches % 10 == 2 else (self.rows, STORED)
        if sum(len(kept) for _, kept in to) < most:
            to.append((states.half(), following))

    def curve(self, widest: Projection) -> dict[int, float]:
        """Quality by dimensions, up to those of the widest projection."""
        if not self.queries:  # one batch was all: its second half asks the first
            (states, following), half = self.rows[0], len(self.rows[0][1]) // 2
            self.rows, self.queries = [(states[:half], following[:half])], [(states[half:], following[half:])]
        rows, stored = torch.cat([s for s, _ in self.rows]), np.concatenate([f for _, f in self.rows])
        pick = np.random.default_rng(0).permutation(sum(len(f) for _, f in self.queries))[:ASKED]
        queries = torch.cat([s for s, _ in self.queries])[pick]
        wanted = np.concatenate([f for _, f in self.queries])[pick]
        return {
            dim: round(_quality(_narrowed(widest, dim), rows, stored, queries, wanted), 4)
            for dim in sorted({*(d for d in DIMENSIONS if d <= widest.dim), widest.dim})
        }


def _quality(
    projection: Projection, rows: Tensor, stored: NDArray[np.int32], queries: Tensor, wanted: NDArray[np.int32]
) -> float:
    """Mean tokens after the first that the best of the nearest rows with the same first token has right.

    rows [R, H], stored [R, N], queries [Q, H], wanted [Q, N].
    """
    scores = projection(queries) @ projection(rows).T
    total = 0.0
    for score, own in zip(scores.numpy(), wanted, strict=True):
        among = np.flatnonzero(stored[:, 0] == own[0])
        if len(among):
            nearest = among[np.argsort(-score[among])[:NEIGHBOURS]]
            right = (stored[nearest, 1:] == own[1:]) & (own[1:] >= 0)
            total += int(np.cumprod(right, axis=1).sum(axis=1).max())
    return total / len(wanted)


def _plot(curve: Curve, dim: int, path: Path) -> None:
    """Explained variance over dimensions and, where it was measured, draft quality, as a PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(range(1, len(curve.explained) + 1), np.cumsum(curve.explained), color="tab:blue")
    axes.axvline(dim, color="grey", linestyle=":", label=f"{dim} dimensions")
    axes.set(xlabel="dimensions of a key", ylabel="explained variance", ylim=(0, 1))
    if curve.quality:
        right = axes.twinx()
        right.plot(list(curve.quality), list(curve.quality.values()), "o-", color="tab:orange")
        right.set(ylabel=f"right tokens in the best of {NEIGHBOURS} drafts", ylim=(0, None))
    axes.legend(loc="lower right")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
