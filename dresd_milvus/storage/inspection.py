"""The contents of a collection, for `dresd inspect`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from dresd_milvus.console import wide_console
from dresd_milvus.milvus import MilvusStore
from dresd_milvus.retrieval.store import Rows
from dresd_milvus.storage.recall import ENOUGH, PlanRecall


def inspect_store(
    store: MilvusStore, samples: int = 5, progress: Callable[[int], None] = lambda rows: None
) -> dict[str, Any]:
    """{rows, checksum, index, manifest, sample} of a store. Reads every row, for the checksum.

    samples: number of rows in the sample. progress: gets the number of rows of every batch.
    """
    checksum = Checksum()
    for rows in store.scan():
        checksum.add(rows)
        progress(len(rows))
    return {
        "rows": store.count(),
        "checksum": checksum.hexdigest(),
        "index": store.index(),
        "manifest": asdict(store.manifest),
        "sample": store.sample(samples),
    }


def print_inspection(uri: str, collection: str, content: dict[str, Any]) -> None:
    """Print the result of inspect_store as tables. content: may have PlanRecall._asdict() of plans under 'recall'."""
    table = Table(show_header=False, box=None, pad_edge=False)
    index = {name: content["index"].get(name) for name in ("index_type", "metric_type")}
    for name, value in {
        "collection": f"{collection} in {uri}",
        "rows": f"{content['rows']:,}",
        "checksum": content["checksum"],
        "index built": " ".join(str(value) for value in index.values()),
        **content["manifest"],
    }.items():
        table.add_row(name.replace("_", " "), str(value).replace("\n", "\\n"))
    console = wide_console()
    console.print(table)
    console.print("\nsome rows (context ⟶ continuation)")
    for row in content["sample"]:
        text = f"{row['pk']:>12}  {row['origin']}  {' '.join(row['preview'].split())}"
        console.print(text, markup=False, overflow="ellipsis", no_wrap=True)
    if content.get("recall"):
        _print_recall(console, [PlanRecall(**plan) for plan in content["recall"]])


def _print_recall(console: Console, plans: list[PlanRecall]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("search plan", "recall@10 stored keys", "near them", "MRR@50", "p50 ms", "p95 ms"):
        table.add_column(heading, justify="left" if heading == "search plan" else "right")
    for plan in plans:
        table.add_row(
            *(plan.plan, f"{plan.stored:.3f}", f"{plan.perturbed:.3f}", f"{plan.mrr:.3f}"),
            *(f"{plan.p50_ms:.2f}", f"{plan.p95_ms:.2f}"),
        )
    console.print()
    console.print(table)
    best = plans[0]
    if best.enough:
        console.print(f"\nuse --search {best.plan}")
        return
    console.print(
        f"\nwarning: no plan finds {ENOUGH:.0%} of the nearest rows; {best.plan} finds the most. Use a wider search "
        "(dresd store index --index NAME:ef=... or nprobe=...), or partition by token when you ingest.",
        style="yellow",
    )


class Checksum:
    """A checksum of primary keys and continuations that does not depend on the order of the rows.

    It is the sum modulo 2^64 of the BLAKE2b hashes of all rows (pk as int64, tokens as int32, little-endian).
    """

    def __init__(self) -> None:
        self._sum = 0

    def add(self, rows: Rows) -> None:
        """Add rows."""
        pks = rows.pk.astype("<i8").tobytes()
        tokens = rows.next_tokens.astype("<i4")
        for at, row in enumerate(tokens):
            digest = hashlib.blake2b(pks[8 * at : 8 * at + 8] + row.tobytes(), digest_size=8)
            self._sum = (self._sum + int.from_bytes(digest.digest(), "little")) % 2**64

    def hexdigest(self) -> str:
        """The checksum of all rows so far, 16 hex digits."""
        return f"{self._sum:016x}"

    @classmethod
    def total(cls, checksums: Iterable[str]) -> str:
        """The checksum of all rows, from the checksums of their parts."""
        return f"{sum(int(checksum, 16) for checksum in checksums) % 2**64:016x}"
