"""Makes docs/results-sample.md: all systems with the sample model, both stores, greedy and sampled, one and two ranks.

Builds both stores from the same prompts of the standard library (OOD: people's code; ID: the sample model's own sampled
answers), generates from held-out functions, and measures drafts under teacher forcing. Every part goes on where it was
interrupted.
Run: PYTHONPATH=. python benchmarks/results_sample.py [--prompts 20] [--documents 800] [--folder runs/results-sample]
"""

from __future__ import annotations

import json
from pathlib import Path
from time import perf_counter
from typing import Any

from common import arguments, run

from evaluation.offline.sweep import markdown

ROOT = Path(__file__).parent.parent
SYSTEMS = "prompt_lookup,rest,suffix,small_lm,dense,hybrid"

HEAD = """# Results with the sample model

Made by `python benchmarks/results_sample.py` {options}, {date}, commit {git}, on {hardware}, {dtype}.
All tables of this page are that command's output.

**What these figures can say.** The machinery works end to end: every system runs through one loop and one verifier, on
one rank and on two, its texts are compared with plain decoding's token by token, and on this model each pays as shown.
Differences between systems that draft from the same store are theirs.

**What they cannot say.** How much faster a large model becomes. The sample model has 10 M parameters: a step takes 5
to 10 ms, so that a draft of 0.5 ms is a tenth or a twentieth, where a 7 B model's step hides it altogether. Its
greedy text falls into loops, which flatters what copies from the running text (prompt_lookup, suffix); sampled text
is the honest half. It was trained on the functions that it is asked for. With two ranks on two cores each rank has
one core, and every layer waits for gloo twice: these rows show that output is the same, not that two ranks are fast.

- **OOD**: {documents} functions of the standard library as people wrote them, {ood_rows:,} rows.
- **ID**: the same prompts, answered by the model itself (t = 0.7, top-p 0.95), {id_rows:,} rows.
- Prompts: {prompts} functions that were held back, 128 tokens each; 16 draft nodes a step (hybrid: what pays, up to
  64), at most 32 deep.
- Columns: see [evaluation.md](evaluation.md). Intervals: 95 % of bootstrap resamples of the prompts.

"""


def main() -> None:
    options = arguments(__doc__ or "", prompts=20, documents=800, folder="runs/results-sample", texts=100)
    folder = Path(options.folder).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    uri, begun = str(folder / "store.db"), perf_counter()
    stores = {name: build(folder, uri, name, options.documents) for name in ("ood", "id")}
    shared = ["--uri", uri, "--systems", SYSTEMS, "--limit", str(options.prompts), "--max-new-tokens", "128"]
    matrix = sweep(folder / "matrix", ["temperature=0,0.7", "tp=1,2"], [*shared, "--collection", "ood"])
    minutes = sum(cell_seconds(cell) for cell in (folder / "matrix" / "cells").iterdir()) / 60
    id_store = sweep(folder / "id", ["temperature=0,0.7"], [*shared, "--collection", "id"])
    own = own_answers(folder / "id" / "cells" / "temperature=0.7", folder / "own.jsonl")
    drafts = {
        (store, texts): intrinsic(folder, uri, store, texts, where, options.texts)
        for store in ("ood", "id")
        for texts, where in (("people's code", "stdlib"), ("the model's own sampled text", str(own)))
    }
    first = json.loads(next((folder / "matrix" / "cells").glob("*/summary.json")).read_text())["provenance"]
    page = HEAD.format(
        options=f"--prompts {options.prompts} --documents {options.documents}",
        date=first["made_at"][:10],
        git=first["git"],
        hardware=f"{first['hardware']['cores']} cores of {first['hardware']['processor']}",
        dtype=first["model"]["dtype"],
        documents=options.documents,
        prompts=options.prompts,
        ood_rows=stores["ood"],
        id_rows=stores["id"],
    )
    page += "## All systems, OOD store: greedy and sampled, one rank and two\n\n"
    page += markdown(matrix, ["temperature", "tp"])
    page += f"\nThe {len(matrix)} lines took {minutes:.1f} minutes to measure, loading included.\n\n"
    page += "## All systems, ID store, one rank\n\n" + markdown(id_store, ["temperature"])
    page += "\n**Not faster than plain decoding, or not for certain** (the interval reaches 1): "
    page += f"{losers(matrix, id_store)}.\n"
    page += (
        "\n## Drafts under teacher forcing: accepted length by draft nodes\n\nNothing is generated: at positions of a"
    )
    page += " known text, how many of its next tokens were in the draft (bonus excluded; [95 %] over texts).\n"
    for (store, texts), table in drafts.items():
        page += f"\n**{store.upper()} store, {texts}**\n\n{table}"
    page += "\n"
    (ROOT / "docs" / "results-sample.md").write_text(page)
    print(f"docs/results-sample.md, after {(perf_counter() - begun) / 60:.1f} minutes")


def losers(matrix: list[dict[str, Any]], id_store: list[dict[str, Any]]) -> str:
    """The systems and cells whose interval of the speed-up reaches 1 or less, as text."""
    slow = [
        f"{entry['system']} at {', '.join(f'{axis} {value}' for axis, value in entry['cell'].items())} ({store})"
        for store, entries in (("OOD", matrix), ("ID", id_store))
        for entry in entries
        if entry["system"] != "vanilla" and entry["speedup_interval"][0] <= 1
    ]
    return "; ".join(slow) or "none"


def cell_seconds(cell: Path) -> float:
    """Seconds from the start of a cell to its results."""
    return (cell / "summary.json").stat().st_mtime - (cell / "started").stat().st_mtime


def build(folder: Path, uri: str, name: str, documents: int) -> int:
    """Build a store, or go on building it; returns its number of rows."""
    answers = [] if name == "ood" else ["--answers", "sampled", "--answer-tokens", "128"]
    run("-m", "ingestion", "run", "--source", "stdlib", "--limit", str(documents), "--uri", uri, "--collection", name,
        "--run-dir", str(folder / f"run-{name}"), "--also", "rest", *answers)  # fmt: skip
    return int(json.loads((folder / f"run-{name}" / "seal" / "00000.done").read_text())["rows"])


def sweep(out: Path, axes: list[str], given: list[str]) -> list[dict[str, Any]]:
    run("-m", "evaluation", "sweep", *(part for axis in axes for part in ("--axis", axis)), *given, "--out", str(out))
    return list(json.loads((out / "sweep.json").read_text())["entries"])


def own_answers(cell: Path, path: Path) -> Path:
    """Write the prompts of a run with the texts of plain decoding as a file of pairs; returns its path."""
    from evaluation.prompts import load_suite

    prompts = {prompt.id: prompt.text for prompt in load_suite("stdlib").prompts}
    records = [json.loads(line) for line in (cell / "records.jsonl").read_text().splitlines()]
    plain = [record for record in records if record["system"] == "vanilla"]
    rows = [{"instruction": prompts[record["prompt_id"]], "output": record["text"]} for record in plain]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def intrinsic(folder: Path, uri: str, store: str, texts: str, where: str, limit: int) -> str:
    out = folder / "intrinsic" / f"{store} {texts}".replace(" ", "-").replace("'", "")
    if not (out / "table.md").exists():
        run("-m", "evaluation", "intrinsic", "--uri", uri, "--collection", store, "--texts", where, "--limit",
            str(limit), "--systems", "prompt_lookup,rest,suffix,dense,hybrid", "--out", str(out))  # fmt: skip
    return (out / "table.md").read_text()


if __name__ == "__main__":
    main()
