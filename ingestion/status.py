"""The state of a run, by phase and by shard."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from dresd_milvus.console import wide_console
from ingestion.planning.run_folder import PHASES
from ingestion.run import Run


def status(run: Run) -> dict[str, Any]:
    """The state of a run from its markers: collection, documents, rows, phases {phase: state} and shards [{...}]."""
    folder, shards = run.folder, []
    by_shard = ["embed", "load"] if run.plan.settings.answers == "own" else ["generate", "embed", "load"]
    for shard, (first, documents, characters) in enumerate(run.plan.shards):
        embedded, loaded = folder.done("embed", shard), folder.done("load", shard)
        shards.append(
            {
                "shard": shard,
                "first": first,
                "documents": documents,
                "characters": characters,
                **{phase: _state(run, phase, shard) for phase in by_shard},
                "rows": (loaded or embedded or {}).get("rows"),
            }
        )
    phases = {"plan": "done", "fit": _state(run, "fit"), "seal": _state(run, "seal")}
    for phase in by_shard:
        count = sum(shard[phase] == "done" for shard in shards)
        phases[phase] = "done" if count == len(shards) else f"{count} of {len(shards)} shards" if count else "to do"
    return {
        "collection": f"{run.plan.settings.collection} in {run.plan.settings.uri}",
        "documents": run.plan.documents,
        "passed over": run.plan.skipped,
        "rows": sum(shard["rows"] or 0 for shard in shards),
        "phases": {phase: phases[phase] for phase in ("plan", *PHASES) if phase in phases},
        "shards": shards,
    }


def _state(run: Run, phase: str, shard: int = 0) -> str:
    return "done" if run.folder.done(phase, shard) else "begun" if run.folder.begun(phase, shard) else "to do"


def print_status(content: dict[str, Any]) -> None:
    """Print what status() returns, as text."""
    console = wide_console()
    passed = ", ".join(f"{count:,} {reason}" for reason, count in content["passed over"].items())
    console.print(f"{content['collection']}: {content['documents']:,} documents" + (f" ({passed})" if passed else ""))
    for phase, state in content["phases"].items():
        console.print(f"  {phase:<8} {state}")
    table = Table(box=None, pad_edge=False, header_style="bold")
    by_shard = [phase for phase in PHASES if phase in content["shards"][0]]
    for name in ("shard", "documents", *by_shard, "rows"):
        table.add_column(name, justify="left" if name in by_shard else "right")
    for shard in content["shards"]:
        rows = "" if shard["rows"] is None else f"{shard['rows']:,}"
        states = [shard[phase] for phase in by_shard]
        table.add_row(str(shard["shard"]), f"{shard['documents']:,}", *states, rows)
    console.print()
    console.print(table)
