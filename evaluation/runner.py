"""One evaluation from start to end: open, check, generate, write."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dresd_milvus.corpus import Template
from dresd_milvus.errors import InputError
from dresd_milvus.loading import LoadedModel
from dresd_milvus.retrieval import SYSTEMS, Retrieval, make_drafter
from evaluation.harness import Options, Progress, encode_suite, evaluate
from evaluation.provenance import provenance
from evaluation.report import write_report
from evaluation.suites import load_suite

WRITTEN = ("summary.json", "records.jsonl", "report.html", "report.png")


def run_evaluation(
    model: LoadedModel,
    retrieval: Retrieval | None,
    template: Template | None,
    suite: str,
    systems: list[str],
    limit: int | None,
    options: Options,
    out: Path,
    progress: Progress,
) -> dict[str, Any]:
    """Measure the systems on a suite and write summary.json, records.jsonl and the report; returns the summary.

    Vanilla always runs: speed-ups and identity are defined against it. All input is checked before `out` is touched.
    """
    progress.phase("reading the prompts", None, "")
    prompts = load_suite(suite, limit)
    encoded = encode_suite(model, template, prompts)
    drafters = [make_drafter(system, retrieval) for system in dict.fromkeys(["vanilla", *systems])]
    out.mkdir(parents=True, exist_ok=True)
    for name in WRITTEN:
        (out / name).unlink(missing_ok=True)
    results = evaluate(model, drafters, suite, prompts, encoded, options, out, progress)
    progress.phase("writing the report", None, "")
    store = None
    if retrieval is not None:
        store = {**asdict(retrieval.manifest), "search": retrieval.how, "losses": retrieval.losses()}
    settings = {**asdict(options), "template": template.text if template else None, "limit": limit}
    summary = {"runs": results.runs(), "store": store, "provenance": provenance(model, settings)}
    (out / "summary.json.part").write_text(json.dumps(summary, indent=2, ensure_ascii=False) + "\n")
    (out / "summary.json.part").replace(out / "summary.json")
    write_report(summary, out)
    return summary


def parse_systems(text: str) -> list[str]:
    """'a,b' -> ['a', 'b']; raises InputError for an unknown or missing name."""
    systems = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in systems if name not in SYSTEMS]
    if unknown or not systems:
        raise InputError(f"there is no system '{', '.join(unknown)}'; use some of {', '.join(SYSTEMS)}")
    return systems
