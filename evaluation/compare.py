"""Two runs side by side, prompt by prompt: what became faster or was accepted more, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dresd_milvus.errors import InputError
from evaluation.metrics import RESAMPLES, Record, merged
from evaluation.results import read_records


def compare(first: Path, second: Path) -> list[dict[str, Any]]:
    """An entry for every system of both runs: B over A, over the prompts that both have, with 95 % intervals.

    speed: ratio of tokens per second; relative_speed: the same of the speed-ups over vanilla, which takes out that one
    machine is faster than the other; mat: difference. Raises InputError when the runs have nothing in common.
    """
    a, b = _read(first), _read(second)
    systems = [system for system in a if system in b]
    entries = []
    for system in systems:
        keys = [key for key in a[system] if key in b[system] and key in a["vanilla"] and key in b["vanilla"]]
        if keys:
            entries.append({"system": system, "texts": len(keys), **_figures(a, b, system, keys)})
    if not entries:
        raise InputError(f"{first} and {second} have no system and prompt in common; there is nothing to compare")
    return entries


def _figures(a: Any, b: Any, system: str, keys: Sequence[Any]) -> dict[str, Any]:
    pick = np.random.default_rng(0).integers(0, len(keys), (RESAMPLES, len(keys)))

    def sums(of: dict[str, dict[Any, Record]], name: str) -> tuple[NDArray[Any], NDArray[Any]]:
        """(of all [3], of every resample [RESAMPLES, 3]): tokens, milliseconds, steps."""
        table = np.array(
            [(r["new_tokens"], r["decoding_ms"], len(r["accept_lengths"])) for r in (of[name][key] for key in keys)],
            float,
        )
        return table.sum(0), table[pick].sum(1)

    parts = {(side, name): sums(of, name) for side, of in (("a", a), ("b", b)) for name in (system, "vanilla")}
    found: dict[str, Any] = {}
    values: list[list[Any]] = []
    for at in (0, 1):  # of all, then of the resamples
        speed = {key: part[at][..., 0] / part[at][..., 1] for key, part in parts.items()}
        mat = {key: part[at][..., 0] / np.maximum(part[at][..., 2], 1) for key, part in parts.items()}
        ratio = speed["b", system] / speed["a", system]
        vanilla = speed["b", "vanilla"] / speed["a", "vanilla"]
        values.append([ratio, ratio / vanilla, mat["b", system] - mat["a", system]])
    for name, whole, resampled in zip(("speed", "relative_speed", "mat"), *values, strict=True):
        found[name] = float(whole)
        found[f"{name}_interval"] = [float(edge) for edge in np.percentile(resampled, [2.5, 97.5])]
    return found


def table(entries: Sequence[dict[str, Any]]) -> list[list[str]]:
    """Cells, the headings first."""
    heads = ["system", "texts", "speed B/A [95 %]", "speed-up B/A [95 %]", "MAT B-A [95 %]"]

    def cell(entry: dict[str, Any], name: str, sign: str) -> str:
        low, high = entry[f"{name}_interval"]
        return f"{entry[name]:{sign}.2f} [{low:{sign}.2f}, {high:{sign}.2f}]"

    return [heads] + [
        [e["system"], str(e["texts"]), cell(e, "speed", ""), cell(e, "relative_speed", ""), cell(e, "mat", "+")]
        for e in entries
    ]


def _read(folder: Path) -> dict[str, dict[Any, Record]]:
    """{system: {(prompt, turn, its length): its record, times the median of its repeats}}."""
    path = folder / "records.jsonl"
    try:
        records = read_records(path.read_text())
    except OSError as error:
        raise InputError(f"there are no results in {folder} ({error}); give folders of dresd eval run") from error
    found: dict[str, dict[Any, Record]] = {}
    for system in dict.fromkeys(record["system"] for record in records):
        ours = merged([record for record in records if record["system"] == system])
        # The prompt's length tells apart prompts of other suites that have the same number.
        found[system] = {(r["prompt_id"], r["turn"], r["prompt_tokens"]): r for r in ours}
    return found
