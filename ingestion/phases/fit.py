"""The fit phase: the projection of a run, from states all over the corpus, and how many dimensions it needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dresd_milvus.corpus import Document
from dresd_milvus.files.atomic import write_json
from dresd_milvus.retrieval.projection import Projection, ProjectionFit, check_dim
from ingestion.phases.embed import Embedder, Window, batch_continuations
from ingestion.phases.states import StateFiles
from ingestion.planning.documents import NumberedDocuments
from ingestion.planning.plan import Plan
from ingestion.planning.prune import Pruning

DIMENSIONS = (8, 16, 24, 32, 48, 64, 96, 128, 192, 256)
"""The dimensions that --dim auto chooses from."""

GOOD_ENOUGH = 0.98
"""--dim auto takes the fewest dimensions whose draft quality is at least this share of the best."""

CURVE_ROWS, CURVE_QUERIES, NEIGHBOURS = 40_000, 1_000, 10
"""States that measure draft quality: as rows, as queries (of other documents), and the rows that a query finds."""


@dataclass
class Curve:
    """Draft quality by number of dimensions.

    quality: mean number of right tokens in the best of NEIGHBOURS drafts of a query, {} unless --dim is auto.
    explained: share of the variance of each axis.
    """

    quality: dict[int, float] = field(default_factory=dict)
    explained: list[float] = field(default_factory=list)

    def choose(self) -> int:
        """The fewest dimensions that are good enough."""
        best = max(self.quality.values())
        return min(dim for dim, quality in self.quality.items() if quality >= GOOD_ENOUGH * best)

    def save(self, folder: Path, dim: int) -> None:
        """Write curve.json, and explained.png with `dim`, the dimensions that were taken, marked."""
        _plot(self, dim, folder / "explained.png")
        write_json(folder / "curve.json", asdict(self))


class _Sample(NamedTuple):
    """Documents that the fit reads. places: of each in its shard."""

    shard: int
    places: list[int]
    documents: list[Document]


def fit_projection(
    embedder: Embedder,
    read: Callable[[int], NumberedDocuments],
    plan: Plan,
    files: StateFiles,
    advance: Callable[[int], None] = lambda states: None,
) -> tuple[Projection, Curve]:
    """Fit the projection of a plan (z-score, then PCA: arXiv 2502.15572, section 3.2).

    read: gives the documents of a shard. files: where the states that may become rows are written. advance: called
    with the number of states of every batch.
    Raises InputError where the corpus has too few states or --dim is too large.
    """
    size, dim = embedder.model.target.hidden_size, plan.settings.dim
    check_dim(dim or 1, size)
    seen = _SeenStates(ProjectionFit(size), keep=dim == 0)
    for sample in _samples(read, plan):
        with files.writer(sample.shard) as write:
            for states, rows in _states(embedder, sample, plan.settings.pruning(), seen):
                for window, own in rows.items():
                    write(window, own)
                advance(len(states))
        if seen.fit.samples >= plan.settings.fit_tokens:
            break
    widest = seen.fit.result(min(size, max(DIMENSIONS), seen.fit.samples))
    curve = Curve(explained=[round(float(share), 6) for share in widest.explained])
    if dim == 0:
        curve.quality = seen.quality(widest)
        dim = curve.choose()
    return (_truncated(widest, dim) if dim <= widest.dim else seen.fit.result(dim)), curve


def _samples(read: Callable[[int], NumberedDocuments], plan: Plan) -> Iterator[_Sample]:
    """Documents from all over the corpus: every k-th of each shard; the order of shards is random but fixed."""
    for shard in np.random.default_rng(0).permutation(len(plan.shards)):
        documents = read(int(shard)).documents
        count = max(round(plan.fit_share * len(documents)), 1)
        places = np.unique(np.linspace(0, len(documents) - 1, count).round().astype(int)).tolist()
        yield _Sample(int(shard), places, [documents[place] for place in places])


def _states(
    embedder: Embedder, sample: _Sample, pruning: Pruning, seen: _SeenStates
) -> Iterator[tuple[Tensor, dict[Window, Tensor]]]:
    """(states [R, H], those of positions that may become rows, by window) of every batch; all go into `seen`."""
    encoded = embedder.encode(sample.documents)
    for batch in embedder.states(encoded):
        states, rows = batch.values.cpu(), {}
        seen.add(states, batch_continuations(batch, encoded))
        parts = states.split([window.stop - window.first for window in batch.windows])
        for window, part in zip(batch.windows, parts, strict=True):
            positions = pruning.positions(encoded[window.document], window.first, window.stop)
            rows[Window(sample.places[window.document], *window[1:])] = part[positions - window.first]
        yield states, rows


def _truncated(projection: Projection, dim: int) -> Projection:
    """The same fit with the first `dim` axes only."""
    return Projection(
        projection.weight[:dim].clone(),
        projection.bias[:dim].clone(),
        projection.explained[:dim].clone(),
        projection.samples,
        projection.layer,
    )


class _SeenStates:
    """The states that the fit has seen. keep: also keep some of them, to measure draft quality by dimensions.

    Every tenth batch of documents gives queries, the others rows.
    """

    def __init__(self, fit: ProjectionFit, keep: bool) -> None:
        self.fit, self.keep, self.batches = fit, keep, 0
        self.rows: list[tuple[Tensor, NDArray[np.int32]]] = []
        self.queries: list[tuple[Tensor, NDArray[np.int32]]] = []

    def add(self, states: Tensor, continuations: NDArray[np.int32]) -> None:
        """states [R, H], continuations [R, N]."""
        self.fit.add(states)
        if not self.keep:
            return
        self.batches += 1
        kept, limit = (self.queries, CURVE_QUERIES) if self.batches % 10 == 2 else (self.rows, CURVE_ROWS)
        if sum(len(part) for _, part in kept) < limit:
            kept.append((states.half(), continuations))

    def quality(self, widest: Projection) -> dict[int, float]:
        """Draft quality by number of dimensions, up to those of the widest projection."""
        if not self.queries:  # there was one batch: its second half queries the first
            (states, following), half = self.rows[0], len(self.rows[0][1]) // 2
            self.rows, self.queries = [(states[:half], following[:half])], [(states[half:], following[half:])]
        rows, stored = torch.cat([s for s, _ in self.rows]), np.concatenate([f for _, f in self.rows])
        pick = np.random.default_rng(0).permutation(sum(len(f) for _, f in self.queries))[:CURVE_QUERIES]
        queries = torch.cat([s for s, _ in self.queries])[pick]
        wanted = np.concatenate([f for _, f in self.queries])[pick]
        return {
            dim: round(_quality(_truncated(widest, dim), rows, stored, queries, wanted), 4)
            for dim in sorted({*(d for d in DIMENSIONS if d <= widest.dim), widest.dim})
        }


def _quality(
    projection: Projection, rows: Tensor, stored: NDArray[np.int32], queries: Tensor, wanted: NDArray[np.int32]
) -> float:
    """Mean number of right tokens, the first excluded, in the best of the nearest rows with the right first token.

    rows [R, H] with continuations stored [R, N]; queries [Q, H] with continuations wanted [Q, N].
    """
    scores = projection(queries) @ projection(rows).T
    total = 0.0
    for score, own in zip(scores.numpy(), wanted, strict=True):
        candidates = np.flatnonzero(stored[:, 0] == own[0])
        if len(candidates):
            nearest = candidates[np.argsort(-score[candidates])[:NEIGHBOURS]]
            right = (stored[nearest, 1:] == own[1:]) & (own[1:] >= 0)
            total += int(np.cumprod(right, axis=1).sum(axis=1).max())
    return total / len(wanted)


def _plot(curve: Curve, dim: int, path: Path) -> None:
    """Write a PNG of explained variance and, where it was measured, draft quality by number of dimensions."""
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
