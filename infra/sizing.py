"""How much memory a store needs, by index: derived from what each index keeps of a row, not measured."""

from __future__ import annotations

from typing import NamedTuple

from dresd_milvus.milvus.indexes import CATALOGUE, Chosen

ROWS = (10**6, 10**7, 10**8, 10**9)

GPU_GB, GPU_SHARE = 80, 0.8
"""A GPU of 80 GB of which a fifth stays free for searches and the memory pool."""

PAYLOAD_FIXED, PAYLOAD_TOKEN = 40, 4
"""Bytes of a row beside the index in a query node's memory: primary key, timestamp, next_token, the offsets of two
variable-length fields (8 each); and of each token of the continuation."""

STORED_OVERHEAD = 70
"""Bytes of a row in object storage beside key and continuation: preview and origin, compressed, and the rest."""


class Need(NamedTuple):
    """index_bytes: of a row, in the memory that serves the index (a GPU's, for GPU indexes). rows_per_gpu: None on a
    CPU. index_gb: for each of ROWS. gpus: of GPU_GB, for each of ROWS."""

    name: str
    index_bytes: float
    rows_per_gpu: int | None
    index_gb: tuple[float, ...]
    gpus: tuple[int, ...] | None


def needs(dim: int = 64, half: bool = False) -> list[Need]:
    """Every index of the catalogue with its default parameters."""
    found = []
    for name, index in CATALOGUE.items():
        if half and not index.float16:
            continue
        text = f"GPU_IVF_PQ:m={max(m for m in range(1, 33) if dim % m == 0)}" if name == "GPU_IVF_PQ" else name
        size = Chosen.parse(text, dim).bytes_per_row(dim, 2 if half else 4)
        usable = GPU_GB * 1e9 * GPU_SHARE
        gpus = tuple(-int(-rows * size // usable) for rows in ROWS) if index.gpu else None
        per_gpu = int(usable // size) if index.gpu else None
        found.append(Need(name, size, per_gpu, tuple(rows * size / 1e9 for rows in ROWS), gpus))
    return found


def payload_bytes(continuation: int = 20) -> int:
    """Bytes of a row that a query node keeps in memory beside the index."""
    return PAYLOAD_FIXED + PAYLOAD_TOKEN * continuation


def stored_bytes(dim: int = 64, continuation: int = 20, half: bool = False) -> int:
    """Bytes of a row in object storage, the index apart."""
    return dim * (2 if half else 4) + 4 * continuation + STORED_OVERHEAD
