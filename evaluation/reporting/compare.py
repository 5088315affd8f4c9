"""Two runs side by side, prompt by prompt: what became faster or was accepted more, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dresd_milvus.errors import InputError
from evaluation.reporting.bootstrap import interval
from evaluation.reporting.metrics import Record, merged
from evaluation.running.results import read_records


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
    def counts(of: dict[str, dict[Any, Record]], name: str) -> NDArray[np.float64]:
        """[texts, 3]: tokens, milliseconds, steps."""
        records = (of[name][key] for key in keys)
        return np.array([(r["new_tokens"], r["decoding_ms"], len(r["accept_lengths"])) for r in records], float)

    tables = [counts(of, name) for name in (system, "vanilla") for of in (a, b)]
    found: dict[str, Any] = {}
    for name, figure in (("speed", _faster), ("relative_speed", _faster_than_vanilla), ("mat", _longer)):
        found[name] = float(figure(*tables))
        found[f"{name}_interval"] = interval(figure, *tables)
    return found


def _faster(a: NDArray[Any], b: NDArray[Any], *vanilla: NDArray[Any]) -> Any:
    """Tokens a millisecond of all texts, B over A. Tables are [..., texts, 3], see `_figures`."""
    ours, theirs = b.sum(-2), a.sum(-2)
    return (ours[..., 0] / ours[..., 1]) / (theirs[..., 0] / theirs[..., 1])


def _faster_than_vanilla(a: NDArray[Any], b: NDArray[Any], *vanilla: NDArray[Any]) -> Any:
    return _faster(a, b) / _faster(*vanilla)


def _longer(a: NDArray[Any], b: NDArray[Any], *vanilla: NDArray[Any]) -> Any:
    """Tokens a step of all texts, B - A."""
    ours, theirs = b.sum(-2), a.sum(-2)
    return ours[..., 0] / np.maximum(ours[..., 2], 1) - theirs[..., 0] / np.maximum(theirs[..., 2], 1)


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
