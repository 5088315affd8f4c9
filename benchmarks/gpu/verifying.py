"""What verification costs by the number of draft nodes, beside the floors that the device sets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from model import StepDemand, random_text
from shared import alternate, milliseconds, ratio, summary

from dresd_milvus.decoding.tree import DraftTree
from dresd_milvus.models.loading import LoadedModel

NODES = (0, 1, 2, 4, 8, 16, 32, 64, 128)
LENGTHS = (256, 2048)
ROUNDS = 10


def ceilings(model: LoadedModel, repeats: int) -> dict[str, Any]:
    """The device's limits: bytes a second of a copy (read and written), operations a second of a large bf16 product.

    balance: by text length, the number of draft nodes from which a step needs longer to compute than to read.
    """
    device = model.target.device
    size, side = (1 << 30, 8192) if device.type == "cuda" else (1 << 22, 128)
    source = torch.empty(size, dtype=torch.uint8, device=device).random_()
    into = torch.empty_like(source)
    left, right = (torch.randn(side, side, device=device).bfloat16() for _ in range(2))
    product = torch.empty_like(left)
    times = alternate(
        {
            "copy": lambda: milliseconds(device, lambda: into.copy_(source), ROUNDS),
            "matmul": lambda: milliseconds(device, lambda: torch.mm(left, right, out=product), ROUNDS),
        },
        repeats,
    )
    limits: dict[str, Any] = {
        "copied_bytes": size,
        "bytes_per_second": 2 * size / (1e-3 * float(np.median(times["copy"]))),
        "matmul_side": side,
        "flop_per_second": 2 * side**3 / (1e-3 * float(np.median(times["matmul"]))),
        "copy_ms": summary(times["copy"]),
        "matmul_ms": summary(times["matmul"]),
    }
    demand = StepDemand.of(model)
    return limits | {"balance": {str(length): _balance(demand, length, limits) for length in LENGTHS}}


def _balance(demand: StepDemand, length: int, limits: dict[str, Any]) -> int | None:
    for nodes in range(10_000):
        transfer, compute = floors(demand, length, nodes, limits)
        if compute > transfer:
            return nodes
    return None


def floors(demand: StepDemand, length: int, nodes: int, limits: dict[str, Any]) -> tuple[float, float]:
    """(milliseconds to read weights and cache once, milliseconds to compute)."""
    transfer = demand.bytes(length, nodes) / limits["bytes_per_second"]
    return 1e3 * transfer, 1e3 * demand.operations(length, nodes) / limits["flop_per_second"]


def binary_tree(nodes: int, vocabulary: int) -> DraftTree:
    """A binary tree: about as deep and as wide as drafts are."""
    parents = np.concatenate([[-1], np.arange(nodes) // 2]).astype(np.int32)
    return DraftTree(np.arange(1, nodes + 2, dtype=np.int32) % vocabulary, parents)


def verify_costs(
    model: LoadedModel, length: int, repeats: int
) -> tuple[dict[int, list[float]], dict[int, list[float]]]:
    """Milliseconds of HFTarget.verify by draft nodes, in turns: (with a new shape, with the same shape again).

    In decoding every step has a new shape, because the text grows; here the text shrinks by a token a turn. cuDNN's
    attention, which torch prefers on some devices, makes a plan for each new shape (see --no-cudnn-attention).
    """
    target, device = model.target, model.target.device
    target.prefill(random_text(model, length + repeats))
    again: dict[int, list[float]] = {nodes: [] for nodes in NODES}

    def side(nodes: int) -> Callable[[], float]:
        tree, turn = binary_tree(nodes, target.vocab_size), iter(range(repeats + 1))

        def measure() -> float:
            target.truncate(length + repeats - next(turn))
            new = milliseconds(device, lambda: target.verify(tree))
            again[nodes].append(milliseconds(device, lambda: target.verify(tree)))
            return new

        return measure

    measured = alternate({str(nodes): side(nodes) for nodes in NODES}, repeats)
    return {int(nodes): times for nodes, times in measured.items()}, {nodes: t[1:] for nodes, t in again.items()}


def verifying(model: LoadedModel, length: int, repeats: int, limits: dict[str, Any]) -> dict[str, Any]:
    """Times of verification by draft nodes (verify_costs) with their floors."""
    demand, (new, again) = StepDemand.of(model), verify_costs(model, length, repeats)
    rows: dict[str, Any] = {}
    for nodes in NODES:
        ms, (transfer, compute) = summary(new[nodes]), floors(demand, length, nodes, limits)
        rows[str(nodes)] = {
            "ms": ms,
            "again_ms": summary(again[nodes]),
            "over_plain": ratio(new[nodes], new[0]),
            "bandwidth_floor_ms": transfer,
            "compute_floor_ms": compute,
            "over_floor": ms["median"] / max(transfer, compute),
            "tflop_per_second": demand.operations(length, nodes) / ms["median"] / 1e9,
        }
    return rows
