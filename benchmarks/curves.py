"""What steps and drafts cost here: step time by draft nodes beside the bandwidth floor, draft time and memory by rows.

Steps are the target's (`--model`). A step reads all its weights once, so that without computation it takes

    floor_ms = 1000 * bytes / bandwidth        bytes: see step_bytes        bandwidth: see bandwidth

and step / floor says how far it is from that. There are two floors: of memory (a stream that no cache holds), and of
reading as many bytes as the step does again and again, which is less where they fit the caches: a small model's do.

Drafts are the sample model's over the standard library, `dense` alone and the whole `hybrid`, every one with --budget
nodes, in --prompts answers (see many_rows). Beyond the rows that the library gives, keys are jittered copies: there,
only the time means anything. --rows 0 leaves drafts out. With --out FILE the tables lie beside it, as FILE with .md for
its ending.
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
"""Tokens by which the text grows before it is cut back to --length: no two steps of decoding have the same shapes."""

STREAM = {"cpu": 256 * 10**6, "cuda": 2 * 10**9}
"""Bytes that no cache holds; more on a GPU, where starting a kernel takes as long as reading tens of megabytes."""


class Bandwidth(NamedTuple):
    """Bytes a second. memory: of a stream; again: of reading again what a step reads."""

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
    """Times of steps by draft nodes, each with its floors."""
    sizes = [nodes for nodes in NODES if nodes <= options.nodes]
    length = min(options.length, target.context - GROWS - sizes[-1] - 1)
    times = step_times(target, sizes, length, options.repeats)
    text = length + GROWS // 2  # the middle of what it grows through
    stream = STREAM[target.device.type]
    found = Bandwidth(*(bandwidth(target.device, min(size, stream)) for size in (stream, step_bytes(target, 0, text))))
    return {
        "text": [length, length + GROWS],
        "bandwidth_gb_per_s": {"memory": found.memory / 1e9, "again": found.again / 1e9},
        "sizes": floors(times, {nodes: step_bytes(target, nodes, text) for nodes in sizes}, found),
    }


def step_times(target: HFTarget, sizes: Sequence[int], length: int, repeats: int) -> dict[int, list[float]]:
    """Milliseconds of verifying, by draft nodes; sizes take turns. The tree is that of evaluation.running.step_times.

    The root of every step is kept, as in plain decoding, so that the text grows by a token a step, to length + GROWS.
    """
    target.prefill([1] * length)
    text = length

    def side(nodes: int) -> Callable[[], float]:
        # Two children a node: as deep and as wide as drafts are.
        parents = np.concatenate([[-1], np.arange(nodes) // 2]).astype(np.int32)
        tree = DraftTree(np.arange(1, nodes + 2, dtype=np.int32) % max(target.vocab_size, 2), parents)

        def measure() -> float:
            nonlocal text
            if text == length + GROWS:
                target.truncate(length)
                text = length
            begun = perf_counter()
            target.verify(tree)
            took = 1e3 * (perf_counter() - begun)
            target.commit(np.zeros(1, np.int64))
            text += 1
            return took

        return measure

    return {int(nodes): ms for nodes, ms in alternate({str(nodes): side(nodes) for nodes in sizes}, repeats).items()}


def step_bytes(target: HFTarget, nodes: int, text: int) -> int:
    """Bytes that a step of so many draft nodes must read after so many tokens of text:

        weights, each once, the input embedding not among them + (nodes + 1) rows of the input embedding
        + keys and values of the text: 2 * layers * key-value heads * head dim * text * bytes of a number

    Where the output head is the input embedding (tied), all of it counts, as the head, and its rows not again. Of a
    mixture of experts all experts count, which is too much. What a step writes is left out: it is little.
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
    """Bytes a second of reading `size` bytes with torch's threads: the best of sums, products and copies, each of them
    repeated until it has read `total` streams.

    A copy reads and writes: its bytes count twice. A number is fetched from each, for which a GPU has to be done.
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


def floors(times: dict[int, list[float]], read: dict[int, int], found: Bandwidth) -> list[dict[str, Any]]:
    """By draft nodes, of times in milliseconds and bytes that are read: the median time and its 95 % bootstrap
    interval, that over plain decoding's, the floors and the step over each of them."""
    rows = []
    for nodes, taken in times.items():
        sample = np.array(taken)
        median, edges = float(np.median(sample)), interval(lambda drawn: np.median(drawn, axis=1), sample)
        row = {"nodes": nodes, "bytes": read[nodes], "ms": median, "interval": edges}
        row["over_plain"] = median / float(np.median(times[0]))
        for name, speed in found._asdict().items():
            floor = 1e3 * read[nodes] / speed
            row[f"floor_{name}_ms"], row[f"over_floor_{name}"] = floor, median / floor
        rows.append(row)
    return rows


def step_table(steps: dict[str, Any]) -> str:
    """The steps as Markdown."""
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
    """Draft times and memory as Markdown."""
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
