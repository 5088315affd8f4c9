"""Draft time and memory against the rows of a store, at sizes from ten thousand to ten million.

Rows are the sample model's own states over the standard library, and their tokens make the suffix store. The library
gives some hundred thousand. Beyond them the rows are taken again and again with a little noise on their keys, and so
are their texts: how long a search takes is as in a store of that size, what it finds is not.

Drafts are those of decoding: the sample model answers prompts of functions that were held back, greedily, so that every
draft comes behind a forward pass, which leaves its weights in the processor's caches and little else. Drafters of all
sizes take turns, prompt by prompt. A composite usually drafts, and asks its sources, only where that pays; here it
always does.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from common import prompts, turns
from numpy.typing import NDArray
from retrieval import embedded

from dresd_milvus.decoding.loop import FixedBudget, StepRecord, generate
from dresd_milvus.decoding.protocols import Drafter
from dresd_milvus.decoding.sampling import Greedy
from dresd_milvus.models.loading import LoadedModel
from dresd_milvus.retrieval.projection import Projection
from dresd_milvus.retrieval.replica import Replica
from dresd_milvus.retrieval.store import POSITION_BITS, Manifest, Rows
from dresd_milvus.retrieval.suffix_store import SuffixStore
from dresd_milvus.storage.opening import Retrieval
from dresd_milvus.systems.factory import make_drafter
from dresd_milvus.systems.sources import Sources

SIZES = (10_000, 30_000, 100_000, 300_000, 1_000_000, 3_000_000, 10_000_000)

SYSTEMS = ("dense", "hybrid")

NOISE = 0.1
"""Length of the noise on a copied key, whose own length is 1: a cosine of 0.995."""

BATCH = 65_536
"""Rows that are made at once."""

PER_TOKEN, PER_TOKEN_BUILDING = 8, 25
"""Bytes a token of a suffix store, and of memory while it is sorted (see SuffixStore)."""

NOTE = "{:,} rows are real; beyond them keys are jittered copies and texts repeat, for timing only."


def draft_curves(most: int, count: int, tokens: int, budget: FixedBudget) -> dict[str, Any]:
    """Times of the drafts in answers of so many tokens to so many prompts, and memory, at the sizes up to `most`
    rows."""
    model, projection, parts, _ = embedded(most, 0)
    real = joined(parts)
    del parts
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        room = min(available(), shutil.disk_usage(folder).free)
        per_row = 2 * projection.dim + 4 + 4 * real.next_tokens.shape[1]  # two planes of keys, a scale, tokens
        fit = fitting(ladder(most), room // 2, per_row)
        stores = {rows: sources(real, projection, rows, Path(folder) / str(rows)) for rows in fit}
        drafters = {(rows, system): make_drafter(system, stores[rows]) for rows in fit for system in SYSTEMS}
        steps = decoded(model, drafters, prompts(model, count), tokens, budget)
        return {
            "note": NOTE.format(len(real)),
            "real_rows": len(real),
            "nodes": budget.nodes,
            "rows": [
                {
                    **memory(store, rows),
                    "real": min(len(real) / rows, 1.0),
                    **{system: drafting(steps[rows, system]) for system in SYSTEMS},
                }
                for rows, store in stores.items()
            ],
        }


Case = tuple[int, str]
"""Rows and system."""


def decoded(
    model: LoadedModel, drafters: dict[Case, Drafter], asked: Sequence[list[int]], tokens: int, budget: FixedBudget
) -> dict[Case, list[StepRecord]]:
    """The steps of all answers by case; those to the first prompt, which finds all cold, are forgotten."""
    found: dict[Case, list[StepRecord]] = {case: [] for case in drafters}
    for turn, ids, case in turns(list(drafters), asked):
        steps = generate(model.target, drafters[case], Greedy(), ids, tokens, budget).steps
        found[case] += steps if turn else []
    return found


def drafting(steps: Sequence[StepRecord]) -> dict[str, Any]:
    """Milliseconds of a draft, and of the forward pass behind it."""
    ms = 1e3 * np.array([step.draft for step in steps])
    forward = 1e3 * float(np.median([step.verify for step in steps]))
    return {"p50": float(np.median(ms)), "p95": float(np.percentile(ms, 95)), "drafts": len(ms), "forward": forward}


def joined(parts: Sequence[Rows]) -> Rows:
    """All of these rows, in the order of their texts."""
    pk, keys, following = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("pk", "vectors", "next_tokens")
    )
    order = np.argsort(pk)
    return Rows(pk[order], keys[order], following[order])


def ladder(most: int) -> list[int]:
    """The sizes below `most`, and it."""
    return [*(size for size in SIZES if size < most), most]


def fitting(sizes: Sequence[int], room: int, per_row: int) -> list[int]:
    """Of rising sizes those that fit, together, into so many bytes; says which do not. per_row: bytes of a replica's
    at most. While one is built its rows are there twice, with 16 bytes a row to sort them by.
    """
    kept: list[int] = []
    for size in sizes:
        held = (sum(kept) + size) * (per_row + PER_TOKEN)
        needed = held + size * (per_row + 16 + PER_TOKEN_BUILDING)
        if needed > room:
            print(f"{size:,} rows are left out: they need {needed / 1e9:.1f} GB, and {room / 1e9:.1f} may be used")
        else:
            kept.append(size)
    return kept


def available() -> int:
    """Bytes of memory that programs can still have."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))


def sources(real: Rows, projection: Projection, rows: int, folder: Path) -> Sources:
    """A replica of so many rows and a suffix store of their texts."""
    size = real.next_tokens.shape[1]
    manifest = Manifest("sample", "", "", projection.fingerprint, projection.dim, size, None, "stdlib", rows=rows)
    replica = Replica.build(manifest, repeated(real, rows), folder / "replica")
    suffixes = SuffixStore.build(folder / "suffixes", texts_of(real, rows))
    return Sources(Retrieval(replica, projection, "replica"), suffixes)


def repeated(real: Rows, rows: int) -> Iterator[Rows]:
    """The first so many rows, in batches; when they are used up from the first again, jittered."""
    rng, at = np.random.default_rng(0), 0
    while at < rows:
        first = at % len(real)
        count = min(BATCH, rows - at, len(real) - first)
        keys, following = real.vectors[first : first + count], real.next_tokens[first : first + count]
        yield Rows(np.arange(at, at + count), keys if at < len(real) else jittered(keys, rng), following)
        at += count


def jittered(keys: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Keys [R, d] of length 1 with noise of length NOISE in any direction, of length 1 again."""
    noise = rng.standard_normal(keys.shape, np.float32)
    found = keys + NOISE * noise / np.linalg.norm(noise, axis=1, keepdims=True)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def texts_of(real: Rows, rows: int) -> Iterator[NDArray[np.int32]]:
    """The texts [T] that the first so many rows, taken again and again, come from, each without its first token."""
    while rows > 0:
        taken = min(rows, len(real))
        starts = np.flatnonzero(np.diff(real.pk[:taken] >> POSITION_BITS)) + 1
        yield from np.split(real.next_tokens[:taken, 0], starts)
        rows -= taken


def memory(store: Sources, rows: int) -> dict[str, Any]:
    """What a store of so many rows occupies when all of it is in memory."""
    assert store.retrieval is not None and store.suffixes is not None
    replica = store.retrieval.store.nbytes  # type: ignore[attr-defined]
    return {
        "rows": rows,
        "bytes_per_row": replica / rows,
        "bytes_per_token": store.suffixes.nbytes / len(store.suffixes),
        "megabytes": (replica + store.suffixes.nbytes) / 1e6,
    }
