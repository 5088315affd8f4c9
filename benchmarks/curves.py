"""Measures what steps and drafts cost on this machine: step time by draft nodes, draft time and memory by rows.

On: steps of --model, beside the time that reading their weights takes at least:

    floor_ms = 1000 * bytes / bandwidth        bytes: see step_bytes        bandwidth: see bandwidth

There are two floors. Floor 1 reads from memory, floor 2 reads as many bytes as the step again and again, which is
faster where they fit the caches. Drafts are the sample model's over the standard library, `dense` and `hybrid` with
--budget nodes, in answers to --prompts prompts (see many_rows). Beyond the rows that the library gives, keys are
jittered copies: there only the time means anything. --rows 0 leaves drafts out.
Run: python benchmarks/curves.py
Prints: JSON and two tables in Markdown; with --out FILE the tables are written beside it, as FILE with the ending .md.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
import torch
from common import alternate, arguments, report
from many_rows import draft_curves

from dresd_milvus.decoding.loop import FixedBudget
from dresd_milvus.decoding.tree import DraftTree
from dresd_milvus.models.loading import load_model
from dresd_milvus.target.hf_target import HFTarget
from evaluation.reporting.bootstrap import interval

NODES = (0, 1, 2, 4, 8, 16, 32, 64, 128)
"""Draft nodes of the steps that are timed; 0 is plain decoding."""

GROWS = 64
"""Tokens by which the text grows before it is cut back to --length, as no two steps of decoding have the same shape."""

STREAM = {"cpu": 256 * 10**6, "cuda": 2 * 10**9}
"""Bytes that no cache can hold, by device. More on a GPU: starting a kernel takes as long as reading tens of MB."""


class Bandwidth(NamedTuple):
    """Bytes a second. memory: of a block that no cache holds. again: of a block as large as a step reads, repeated."""

    memory: float
    again: float


def main() -> None:
    options = arguments(
        __doc__ or "", model="sample", dtype="auto", device="auto", length=256, nodes=NODES[-1], repeats=25,
        rows=1_000_000, prompts=12, tokens=96, budget=16, depth=10,
    )  # fmt: skip
    model = load_model(options.model, options.dtype, options.device)
    results: dict[str, Any] = {"steps": step_curve(model.target, options)}
    if options.rows > 0:
        budget = FixedBudget(options.budget, options.depth)
        results["drafts"] = draft_curves(options.rows, options.prompts, options.tokens, budget)
    report(results, model, options)
    tables = "\n".join([step_table(results["steps"]), *map(draft_table, list(results.values())[1:])])
    print("\n" + tables)
    if options.out:
        options.out.with_suffix(".md").write_text(tables)


def step_curve(target: HFTarget, options: Namespace) -> dict[str, Any]:
    """Step times by draft nodes, with their floors. Keys of the result: text, bandwidth_gb_per_s, sizes."""
    sizes = [nodes for nodes in NODES if nodes <= options.nodes]
    length = min(options.length, target.context - GROWS - sizes[-1] - 1)
    times = step_times(target, sizes, length, options.repeats)
    text = length + GROWS // 2  # the mean length of the text
    stream = STREAM[target.device.type]
    bandwidths = Bandwidth(
        *(bandwidth(target.device, min(size, stream)) for size in (stream, step_bytes(target, 0, text)))
    )
    return {
        "text": [length, length + GROWS],
        "bandwidth_gb_per_s": {"memory": bandwidths.memory / 1e9, "again": bandwidths.again / 1e9},
        "sizes": floors(times, {nodes: step_bytes(target, nodes, text) for nodes in sizes}, bandwidths),
    }


def step_times(target: HFTarget, sizes: Sequence[int], length: int, repeats: int) -> dict[int, list[float]]:
    """Milliseconds of verifying by draft nodes, taken in turns.

    Every step keeps its root only, so that the text grows by one token a step, from `length` to length + GROWS.
    """
    target.prefill([1] * length)
    text = length

    def side(nodes: int) -> Callable[[], float]:
        # A binary tree: about as deep and as wide as drafts are.
        parents = np.concatenate([[-1], np.arange(nodes) // 2]).astype(np.int32)
        tree = DraftTree(np.arange(1, nodes + 2, dtype=np.int32) % max(target.vocab_size, 2), parents)

        def measure() -> float:
            nonlocal text
            if text == length + GROWS:
                target.truncate(length)
                text = length
            begun = perf_counter()
            target.verify(tree)
            elapsed = 1e3 * (perf_counter() - begun)
            target.commit(np.zeros(1, np.int64))
            text += 1
            return elapsed

        return measure

    return {int(nodes): ms for nodes, ms in alternate({str(nodes): side(nodes) for nodes in sizes}, repeats).items()}


def step_bytes(target: HFTarget, nodes: int, text: int) -> int:
    """Bytes that a step with `nodes` draft nodes must read after `text` tokens:

        all weights but the input embedding, each once + (nodes + 1) rows of the input embedding
        + keys and values of the text: 2 * layers * key-value heads * head dim * text * bytes of a number

    An input embedding that is also the output head (tied) counts as a whole, once. Of a mixture of experts all experts
    count, which is too much. The bytes that a step writes are few and left out.
    """
    model, config = target.model, target.model.config.get_text_config()
    weights = sum(parameter.nbytes for parameter in model.parameters())  # tied ones come once
    embedding = model.get_input_embeddings().weight
    if embedding.data_ptr() != model.get_output_embeddings().weight.data_ptr():
        weights += (nodes + 1) * embedding[0].nbytes - embedding.nbytes
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return weights + 2 * config.num_hidden_layers * heads * width * text * target.dtype.itemsize


@torch.inference_mode()
def bandwidth(device: torch.device, size: int, total: int = 15) -> float:
    """Bytes a second of reading a block of `size` bytes with torch's threads: the best of sums, products and copies.

    Each is repeated until `total` streams have been read. A copy reads and writes, so its bytes count twice. One number
    of every result is fetched, so that a GPU has finished.
    """
    block = torch.ones(max(size // 4, 1), device=device)
    other = torch.empty_like(block)
    ways = ((1, block.sum), (1, lambda: block.dot(block)), (2, lambda: other.copy_(block)[0]))
    best = 0.0
    for _ in range(total * STREAM[device.type] // size):
        for passes, way in ways:
            begun = perf_counter()
            way().item()
            best = max(best, passes * block.nbytes / (perf_counter() - begun))
    return best


def floors(times: dict[int, list[float]], read: dict[int, int], bandwidths: Bandwidth) -> list[dict[str, Any]]:
    """A row for each number of draft nodes: median time, 95 % bootstrap interval, ratio to plain decoding, and floors.

    times: milliseconds; read: bytes that a step reads; both by draft nodes.
    """
    rows = []
    for nodes, milliseconds in times.items():
        sample = np.array(milliseconds)
        median, edges = float(np.median(sample)), interval(lambda drawn: np.median(drawn, axis=1), sample)
        row = {"nodes": nodes, "bytes": read[nodes], "ms": median, "interval": edges}
        row["over_plain"] = median / float(np.median(times[0]))
        for name, speed in bandwidths._asdict().items():
            floor = 1e3 * read[nodes] / speed
            row[f"floor_{name}_ms"], row[f"over_floor_{name}"] = floor, median / floor
        rows.append(row)
    return rows


def step_table(steps: dict[str, Any]) -> str:
    """The table of steps in Markdown."""
    speeds, (first, last) = steps["bandwidth_gb_per_s"], steps["text"]
    text = f"Steps after {first} to {last} tokens. Memory is read at {speeds['memory']:.1f} GB/s (floor 1), as many "
    text += f"bytes as a step reads again and again at {speeds['again']:.1f} (floor 2).\n\n| draft nodes "
    text += "| step, ms [95 %] | over plain | MB read | floor 1, ms | step / floor 1 | floor 2, ms | step / floor 2 |\n"
    text += "|" + "---|" * 8 + "\n"
    for row in steps["sizes"]:
        low, high = row["interval"]
        text += f"| {row['nodes']} | {row['ms']:.2f} [{low:.2f}, {high:.2f}] | {row['over_plain']:.2f}x "
        text += f"| {row['bytes'] / 1e6:.1f} "
        for name in Bandwidth._fields:
            text += f"| {row[f'floor_{name}_ms']:.2f} | {row[f'over_floor_{name}']:.2f}x "
        text += "|\n"
    return text


def draft_table(drafts: dict[str, Any]) -> str:
    """The table of draft times and memory in Markdown."""
    text = f"Drafts of {drafts['nodes']} nodes. {drafts['note']}\n\n"
    text += "| rows | real | dense, ms p50 / p95 | hybrid, ms p50 / p95 | its forward pass, ms "
    text += "| replica, bytes a row | suffixes, bytes a token | MB together |\n|" + "---|" * 8 + "\n"
    for row in drafts["rows"]:
        cells = [f"{row[system]['p50']:.2f} / {row[system]['p95']:.2f}" for system in ("dense", "hybrid")]
        text += f"| {row['rows']:,} | {row['real']:.0%} | {' | '.join(cells)} | {row['hybrid']['forward']:.1f} "
        text += f"| {row['bytes_per_row']:.1f} | {row['bytes_per_token']:.1f} | {row['megabytes']:.1f} |\n"
    return text


if __name__ == "__main__":
    main()
