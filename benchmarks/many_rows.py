"""Draft time and memory by the number of rows of a store, from ten thousand to ten million, for curves.py.

Rows are the sample model's own states over the standard library, and their tokens make the suffix store. The library
gives some hundred thousand. Beyond them the rows are repeated with a little noise on their keys, and their texts are
repeated as they are: a search takes as long as in a real store of that size, but what it finds means nothing.

The sample model answers prompts of held-out functions, greedily, so that every draft comes after a forward pass, which
fills the caches of the processor with weights. Drafters of all sizes take turns, prompt by prompt. `hybrid` drafts at
every step here; its budget, which would leave drafts out, is not used.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from common import interleaved, prompts
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
from dresd_milvus.systems.registry import Sources, make_drafter

SIZES = (10_000, 30_000, 100_000, 300_000, 1_000_000, 3_000_000, 10_000_000)

SYSTEMS = ("dense", "hybrid")

NOISE = 0.1
"""Length of the noise on a copied key, whose own length is 1: copy and key have a cosine of 0.995."""

BATCH = 65_536
"""Rows of one batch."""

PER_TOKEN, PER_TOKEN_BUILDING = 8, 25
"""Bytes a token of a suffix store: when it is used, and while it is sorted (see SuffixStore)."""

NOTE = "{:,} rows are real; beyond them keys are jittered copies and texts repeat, for timing only."


def draft_curves(most: int, count: int, tokens: int, budget: FixedBudget) -> dict[str, Any]:
    """Draft times and memory at the sizes up to `most` rows, from answers of `tokens` tokens to `count` prompts."""
    model, projection, parts, _ = embedded(most, 0)
    real = joined(parts)
    del parts
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        free = min(available(), shutil.disk_usage(folder).free)
        per_row = 2 * projection.dim + 4 + 4 * real.next_tokens.shape[1]  # key, scale, continuation
        sizes = sizes_that_fit(sizes_up_to(most), free // 2, per_row)
        stores = {rows: sources(real, projection, rows, Path(folder) / str(rows)) for rows in sizes}
        drafters = {(rows, system): make_drafter(system, stores[rows]) for rows in sizes for system in SYSTEMS}
        steps = decode(model, drafters, prompts(model, count), tokens, budget)
        return {
            "note": NOTE.format(len(real)),
            "real_rows": len(real),
            "nodes": budget.nodes,
            "rows": [
                {
                    **memory(store, rows),
                    "real": min(len(real) / rows, 1.0),
                    **{system: draft_times(steps[rows, system]) for system in SYSTEMS},
                }
                for rows, store in stores.items()
            ],
        }


Case = tuple[int, str]
"""Rows and system."""


def decode(
    model: LoadedModel, drafters: dict[Case, Drafter], prompt_ids: Sequence[list[int]], tokens: int, budget: FixedBudget
) -> dict[Case, list[StepRecord]]:
    """The steps of all answers by case, without those of the warm-up."""
    steps_by_case: dict[Case, list[StepRecord]] = {case: [] for case in drafters}
    for turn, ids, case in interleaved(list(drafters), prompt_ids):
        steps = generate(model.target, drafters[case], Greedy(), ids, tokens, budget).steps
        steps_by_case[case] += steps if turn else []
    return steps_by_case


def draft_times(steps: Sequence[StepRecord]) -> dict[str, Any]:
    """Milliseconds of a draft (p50, p95) and of the forward pass after it (median)."""
    ms = 1e3 * np.array([step.draft for step in steps])
    forward = 1e3 * float(np.median([step.verify for step in steps]))
    return {"p50": float(np.median(ms)), "p95": float(np.percentile(ms, 95)), "drafts": len(ms), "forward": forward}


def joined(parts: Sequence[Rows]) -> Rows:
    """All rows in one, in the order of their texts."""
    pk, keys, following = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("pk", "vectors", "next_tokens")
    )
    order = np.argsort(pk)
    return Rows(pk[order], keys[order], following[order])


def sizes_up_to(most: int) -> list[int]:
    """The sizes below `most`, and `most` itself."""
    return [*(size for size in SIZES if size < most), most]


def sizes_that_fit(sizes: Sequence[int], limit: int, per_row: int) -> list[int]:
    """The sizes, of a rising list, whose stores fit into `limit` bytes together; prints those that do not.

    per_row: bytes of a row of a replica, at most. While a replica is built, its rows are there twice, with 16 bytes
    more for sorting.
    """
    kept: list[int] = []
    for size in sizes:
        in_use = (sum(kept) + size) * (per_row + PER_TOKEN)
        needed = in_use + size * (per_row + 16 + PER_TOKEN_BUILDING)
        if needed > limit:
            print(f"{size:,} rows are left out: they need {needed / 1e9:.1f} GB, and {limit / 1e9:.1f} may be used")
        else:
            kept.append(size)
    return kept


def available() -> int:
    """Bytes of memory that are available (/proc/meminfo)."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))


def sources(real: Rows, projection: Projection, rows: int, folder: Path) -> Sources:
    """A replica with this number of rows, and a suffix store of their texts."""
    size = real.next_tokens.shape[1]
    manifest = Manifest("sample", "", "", projection.fingerprint, projection.dim, size, None, "stdlib", rows=rows)
    replica = Replica.build(manifest, repeat_rows(real, rows), folder / "replica")
    suffixes = SuffixStore.build(folder / "suffixes", texts_of(real, rows))
    return Sources(Retrieval(replica, projection, "replica"), suffixes)


def repeat_rows(real: Rows, rows: int) -> Iterator[Rows]:
    """This number of rows in batches: the real ones, then jittered copies of them, again and again."""
    rng, at = np.random.default_rng(0), 0
    while at < rows:
        first = at % len(real)
        count = min(BATCH, rows - at, len(real) - first)
        keys, following = real.vectors[first : first + count], real.next_tokens[first : first + count]
        yield Rows(np.arange(at, at + count), keys if at < len(real) else jittered(keys, rng), following)
        at += count


def jittered(keys: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Keys [R, d] of length 1 plus noise of length NOISE in a random direction, scaled to length 1 again."""
    noise = rng.standard_normal(keys.shape, np.float32)
    noisy = keys + NOISE * noise / np.linalg.norm(noise, axis=1, keepdims=True)
    return noisy / np.linalg.norm(noisy, axis=1, keepdims=True)


def texts_of(real: Rows, rows: int) -> Iterator[NDArray[np.int32]]:
    """The texts [T] of these rows, repeated as the rows are, each without its first token."""
    while rows > 0:
        taken = min(rows, len(real))
        starts = np.flatnonzero(np.diff(real.pk[:taken] >> POSITION_BITS)) + 1
        yield from np.split(real.next_tokens[:taken, 0], starts)
        rows -= taken


def memory(store: Sources, rows: int) -> dict[str, Any]:
    """Memory of a store with this number of rows when all of it is loaded."""
    assert store.retrieval is not None and store.suffixes is not None
    replica = store.retrieval.store.nbytes  # type: ignore[attr-defined]
    return {
        "rows": rows,
        "bytes_per_row": replica / rows,
        "bytes_per_token": store.suffixes.nbytes / len(store.suffixes),
        "megabytes": (replica + store.suffixes.nbytes) / 1e6,
    }
