"""What a run has done: every phase and shard."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from dresd_milvus.console import wide_console
from ingestion.run import Run


def status(run: Run) -> dict[str, Any]:
    """{phase: {state: count}, shards: [...]}, as the markers have it."""
    folder = run.folder
    shards = []
    for shard, (first, documents, characters) in enumerate(run.plan.shards):
        embedded, loaded = folder.done("embed", shard), folder.done("load", shard)
        shards.append(
            {
                "shard": shard,
                "first": first,
                "documents": documents,
                "characters": characters,
                "embed": "done" if embedded else "begun" if folder.begun("embed", shard) else "to do",
                "load": "done" if loaded else "begun" if folder.begun("load", shard) else "to do",
                "rows": (loaded or embedded or {}).get("rows"),
            }
        )
    phases = {"plan": "done"}
    for phase in ("fit", "seal"):
        phases[phase] = "done" if folder.done(phase) else "begun" if folder.begun(phase) else "to do"
    for phase in ("embed", "load"):
        count = sum(shard[phase] == "done" for shard in shards)
        phases[phase] = "done" if count == len(shards) else f"{count} of {len(shards)} shards" if count else "to do"
    return {
        "collection": f"{run.plan.settings.collection} in {run.plan.settings.uri}",
        "documents": run.plan.documents,
        "passed over": run.plan.skipped,
        "rows": sum(shard["rows"] or 0 for shard in shards),
        "phases": {phase: phases[phase] for phase in ("plan", "fit", "embed", "load", "seal")},
        "shards": shards,
    }


def print_status(content: dict[str, Any]) -> None:
    """The same for a person."""
    console = wide_console()
    passed = ", ".join(f"{count:,} {reason}" for reason, count in content["passed over"].items())
    console.print(f"{content['collection']}: {content['documents']:,} documents" + (f" ({passed})" if passed else ""))
    for phase, state in content["phases"].items():
        console.print(f"  {phase:<6} {state}")
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("shard", "documents", "embed", "load", "rows"):
        table.add_column(name, justify="left" if name in ("embed", "load") else "right")
    for shard in content["shards"]:
        rows = "" if shard["rows"] is None else f"{shard['rows']:,}"
        table.add_row(str(shard["shard"]), f"{shard['documents']:,}", shard["embed"], shard["load"], rows)
    console.print()
    console.print(table)
