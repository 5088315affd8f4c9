"""Measures what ingestion costs besides the model: a whole ingestion over one bare forward pass on the same batches.

On: --model and functions of the standard library. A whole ingestion is everything from reading the corpus to the sealed
store in Milvus Lite; importing libraries and loading the model are not in it. The two take turns.
Run: PYTHONPATH=. python benchmarks/ingest_ratio.py
Prints: JSON, and one line with the ratio and its 95 % interval.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from time import perf_counter

from common import alternate, arguments, ratio, report

from dresd_milvus.console import Phases
from dresd_milvus.models.loading import load_model
from ingestion.planning.plan import Settings
from ingestion.run import Run
from ingestion.runner import ingest


def main() -> None:
    options = arguments(__doc__ or "", model="smollm2", dtype="auto", documents=500, repeats=3)
    model = load_model(options.model, options.dtype)

    def ingested(folder: str, documents: int) -> tuple[float, Run]:
        """(seconds of a whole ingestion, its run)."""
        uri, run = f"{folder}/store.db", Path(folder) / "run"
        settings = Settings(options.model, ("stdlib",), "rows", uri, dtype=options.dtype, limit=documents)
        start = perf_counter()
        with Phases() as phases:
            ingest(settings, run, phases, model=model)
        return perf_counter() - start, Run.open(run, model=model)

    def whole() -> float:
        with tempfile.TemporaryDirectory() as folder:
            return ingested(folder, options.documents)[0]

    with tempfile.TemporaryDirectory() as folder:
        ingested(f"{folder}/warm-up", 20)
        _, run = ingested(folder, options.documents)
        shards = [run.embedder.encode(run.documents(shard).documents) for shard in run.shards()]

    def bare() -> float:
        start = perf_counter()
        for encoded in shards:
            for _ in run.embedder.states(encoded):
                pass
        return perf_counter() - start

    seconds = alternate({"ingestion": whole, "forward": bare}, options.repeats, warm_up=False)
    cost = ratio(seconds["ingestion"], seconds["forward"])
    tokens = sum(len(document.ids) - 1 for encoded in shards for document in encoded)
    report({"tokens": tokens, "seconds of an ingestion over those of a forward pass": cost}, model, options)
    (low, high), (ours, theirs) = cost["interval"], cost["medians"]
    print(
        f"{tokens:,} tokens, {options.model}, {model.dtype}: an ingestion takes {cost['ratio']:.3f}x "
        f"[{low:.3f}, {high:.3f}] of a forward pass ({ours:.1f} s and {theirs:.1f} s, {options.repeats} in turn)"
    )


if __name__ == "__main__":
    main()
