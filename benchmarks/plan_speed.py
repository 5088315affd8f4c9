"""Speed and memory of `dresd ingest plan` over a large jsonl file, by length of its rows and deduplication.

    PYTHONPATH=. python benchmarks/plan_speed.py [--gigabytes 1] [--rows 500,2500]

The file has texts of Python's standard library, cut into rows of about the given numbers of bytes, each with a number
of its own. Beside the speed stands what json.loads alone needs for the same lines. Memory: of the process at a quarter
of the documents and at the last one.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from time import perf_counter

import psutil

from dresd_milvus.corpus import stdlib
from dresd_milvus.models.checkpoint import SAMPLE
from dresd_milvus.models.loading import load_tokenizer
from evaluation.running.provenance import git_commit, processor
from ingestion.options import Settings
from ingestion.planning.plan import make_plan


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=1.0)
    parser.add_argument("--rows", default="500,2500")
    options = parser.parse_args()
    print(f"{processor()}, {git_commit()}, {options.gigabytes:g} GB")
    heads = ("bytes a row", "dedup", "documents", "MB/s", "json.loads alone", "MiB at a quarter", "at the end")
    print("| " + " | ".join((*heads, "bytes a document")) + " |\n" + "|---" * 8 + "|")
    for size in map(int, options.rows.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "rows.jsonl"
            documents = write(file, size, int(1e9 * options.gigabytes))
            for dedup in ("none", "exact"):
                print(measured(file, documents, size, dedup), flush=True)


def write(file: Path, size: int, total: int) -> int:
    """Write rows of about `size` bytes until the file has `total` bytes; the number of rows."""
    count = written = 0
    with file.open("w") as out:
        for text in pieces(size - 60):
            row = json.dumps({"instruction": f"Part {count}", "output": text}) + "\n"
            written, count = written + out.write(row), count + 1
            if written >= total:
                return count
    raise AssertionError("the pieces never end")


def pieces(size: int) -> Iterator[str]:
    text = "".join(pair.response for pair in stdlib.pairs())
    return cycle([text[first : first + size] for first in range(0, len(text) - size, size)])


def measured(file: Path, documents: int, size: int, dedup: str) -> str:
    """A line of the table."""
    process, memory, seen = psutil.Process(), list[float](), 0

    def advance(more: int) -> None:
        nonlocal seen
        seen += more
        if seen in (documents // 4, documents):
            memory.append(process.memory_info().rss / 2**20)

    tokenizer = load_tokenizer(SAMPLE)
    fields = {"uri": "a.db", "collection": "a", "model": SAMPLE, "template": "{prompt}\n", "dedup": dedup}
    with tempfile.TemporaryDirectory() as run:
        begun = perf_counter()
        plan = make_plan(Settings(sources=[str(file)], **fields), Path(run), tokenizer, advance)
        seconds = perf_counter() - begun
    assert plan.documents == documents
    begun = perf_counter()
    with file.open("rb") as lines:
        for line in lines:
            json.loads(line)
    alone = perf_counter() - begun
    rates = " | ".join(f"{file.stat().st_size / each / 1e6:.0f}" for each in (seconds, alone))
    grown = (memory[1] - memory[0]) * 2**20 / (0.75 * documents)
    return f"| {size} | {dedup} | {documents:,} | {rates} | {memory[0]:.0f} | {memory[1]:.0f} | {grown:.0f} |"


if __name__ == "__main__":
    main()
