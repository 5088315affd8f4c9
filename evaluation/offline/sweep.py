"""Many evaluations from one command: every combination of the axes is a cell, each a run of its own in its own folder.

A cell is `dresd eval run` in a process of its own, so that thread pools, caches and ranks start alike, started by
DeepSpeed's launcher where its --tp is more than 1. A cell that is whole is not done again, one that was cut goes on.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dresd_milvus.errors import InputError
from dresd_milvus.files.atomic import write_json
from evaluation.reporting.report import HEADINGS, rows

Cell = dict[str, str]
"""{axis: value}, each an option of `dresd eval run`."""


def parse_axis(text: str) -> tuple[str, list[str]]:
    """'nodes=8,16' -> ('nodes', ['8', '16']); 'systems=a,b;c' separates values that hold commas by semicolons.

    Raises InputError for anything else.
    """
    name, equals, values = text.partition("=")
    found = [value.strip() for value in values.split(";" if ";" in values else ",") if value.strip()]
    if not (equals and name.strip() and found):
        raise InputError(f"an axis is written NAME=VALUE,VALUE,... with an option of dresd eval run, not '{text}'")
    return name.strip().lstrip("-").replace("_", "-"), found


def cells(axes: Sequence[tuple[str, list[str]]]) -> list[Cell]:
    """Every combination, the last axis changing fastest; raises InputError for an axis that is named twice."""
    names = [name for name, _ in axes]
    if twice := [name for name in names if names.count(name) > 1]:
        raise InputError(f"the axis {twice[0]} is given twice; give all its values at once")
    return [dict(zip(names, values, strict=True)) for values in itertools.product(*(values for _, values in axes))]


def cell_name(cell: Cell) -> str:
    """The name of a cell, usable as a file name: its options and values."""
    safe = {name: "".join(c if c.isalnum() or c in ".-_" else "_" for c in value) for name, value in cell.items()}
    return ",".join(f"{name}={value}" for name, value in safe.items()) or "all"


def command(cell: Cell, given: Sequence[str], out: Path) -> list[str]:
    """What runs a cell; given: options that all cells have in common."""
    ranks = _option(cell, given, "tp") or "1"
    # A temperature above 0 has the paper's nucleus unless another is named.
    hot = (_option(cell, given, "temperature") or "0").strip("0.") != ""
    nucleus = ["--top-p", "0.95"] if hot and _option(cell, given, "top-p") is None else []
    options = [part for name, value in cell.items() for part in (f"--{name}", value)]
    arguments = ["evaluation", "run", *given, *nucleus, *options, "--out", str(out)]
    if ranks == "1":
        return [sys.executable, "-m", *arguments]
    count = "--num_gpus" if _has_gpu() else "--num_accelerators"
    return [sys.executable, "-m", "deepspeed.launcher.runner", count, ranks, "--module", *arguments]


def run_sweep(
    axes: Sequence[tuple[str, list[str]]],
    given: Sequence[str],
    out: Path,
    tell: Callable[[str], None],
) -> list[dict[str, Any]]:
    """Run what is missing of all cells and write sweep.json, table.md and sweep.png; one entry a cell and system.

    Raises InputError, naming the cell and what it said last, when one fails; the others' results stay.
    """
    todo = cells(axes)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the cell that runs is ended, not orphaned
    out.mkdir(parents=True, exist_ok=True)
    entries: list[dict[str, Any]] = []
    for number, cell in enumerate(todo, 1):
        folder = out / "cells" / cell_name(cell)
        tell(f"cell {number} of {len(todo)}: {cell_name(cell)}")
        if not (folder / "summary.json").exists() or _differs(folder, cell, given):
            _run_cell(command(cell, given, folder), folder, cell, given)
        summary = json.loads((folder / "summary.json").read_text())
        entries += [{"cell": cell, **run} for run in summary["runs"]]
    write_json(out / "sweep.json", {"axes": dict(axes), "options": list(given), "entries": entries})
    (out / "table.md").write_text(markdown(entries, [name for name, _ in axes]))
    draw_sweep(entries, axes, out / "sweep.png")
    return entries


def markdown(entries: Sequence[dict[str, Any]], axes: Sequence[str]) -> str:
    """A table with the axes' values before the usual columns."""
    heads = [*axes, *HEADINGS]
    lines = [heads, ["---"] * (len(axes) + 1) + ["---:"] * (len(HEADINGS) - 1)]
    for entry, row in zip(entries, rows(list(entries)), strict=True):
        lines.append([*(entry["cell"][axis] for axis in axes), *row])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def draw_sweep(entries: Sequence[dict[str, Any]], axes: Sequence[tuple[str, list[str]]], path: Path) -> None:
    """Speed-up and MAT: heat maps a system over two axes of numbers, else bars a cell."""
    from matplotlib.figure import Figure

    systems = [name for name in dict.fromkeys(entry["system"] for entry in entries) if name != "vanilla"]
    grid = [axis for axis in axes if len(axis[1]) > 1]
    everywhere = len(cells(axes)) * (len(systems) + 1) == len(entries)  # vanilla is in every cell too
    if len(grid) != 2 or not systems or not everywhere:
        return _bars(entries, systems, path)
    (down, downs), (across, acrosses) = grid
    figure = Figure(figsize=(3.2 * len(systems) + 1, 6), layout="constrained")
    axes_grid = figure.subplots(2, len(systems), squeeze=False)
    for row, metric in enumerate(("speedup", "mat")):
        for column, system in enumerate(systems):
            at = {(e["cell"][down], e["cell"][across]): e[metric] for e in entries if e["system"] == system}
            values = [[at[y, x] for x in acrosses] for y in downs]
            axis = axes_grid[row, column]
            axis.imshow(values, cmap="viridis", aspect="auto")
            axis.set(title=f"{system}: {'speed-up' if metric == 'speedup' else 'MAT'}", xlabel=across, ylabel=down)
            axis.set_xticks(range(len(acrosses)), acrosses)
            axis.set_yticks(range(len(downs)), downs)
            for y, line in enumerate(values):
                for x, value in enumerate(line):
                    axis.text(x, y, f"{value:.2f}", ha="center", va="center", color="white", fontsize=9)
    figure.savefig(path, dpi=110)
    return None


def _bars(entries: Sequence[dict[str, Any]], systems: Sequence[str], path: Path) -> None:
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(cell_name(entry["cell"]) for entry in entries))
    figure = Figure(figsize=(max(7, 1.1 * len(names) * max(len(systems), 1)), 4.5), layout="constrained")
    axis = figure.subplots()
    for number, system in enumerate(systems):
        ours = [entry for entry in entries if entry["system"] == system]
        places = [names.index(cell_name(e["cell"])) + (number - len(systems) / 2) * 0.8 / len(systems) for e in ours]
        bars = axis.bar(places, [e["speedup"] for e in ours], 0.8 / len(systems), label=system, align="edge")
        axis.bar_label(bars, fmt="%.2f", fontsize=7, rotation=90, padding=2)
    axis.axhline(1, color="#444", linewidth=0.8, linestyle="--")
    axis.set_xticks(range(len(names)), names)
    axis.set(title="Speed-up over vanilla")
    axis.legend(frameon=False, ncols=4)
    figure.savefig(path, dpi=110)


def _run_cell(arguments: list[str], folder: Path, cell: Cell, given: Sequence[str]) -> None:
    """Raises InputError with the last line that it said."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cell.json").unlink(missing_ok=True)
    (folder / "started").touch()
    # The project's own packages, whatever folder the command is given in.
    home = str(Path(__file__).parents[2])
    path = os.pathsep.join([home, *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path}
    if not _has_gpu():
        environment.setdefault("DS_ACCELERATOR", "cpu")
    with (folder / "log.txt").open("w") as log:
        process = subprocess.Popen(arguments, stdout=log, stderr=log, env=environment, start_new_session=True)
        try:
            ended = process.wait()
        finally:
            if process.poll() is None:  # interrupted: the ranks go with it
                os.killpg(process.pid, signal.SIGTERM)
                process.wait()
    if ended:
        said = [line for line in (folder / "log.txt").read_text().splitlines() if line.strip()]
        errors = [line for line in said if line.startswith("error: ")] or said[-1:] or [f"it ended with {ended}"]
        raise InputError(
            f"the cell {cell_name(cell)} failed ({errors[0].removeprefix('error: ')}); see {folder}/log.txt"
        )
    write_json(folder / "cell.json", _about(cell, given))


def _about(cell: Cell, given: Sequence[str]) -> dict[str, Any]:
    return {"cell": cell, "options": list(given)}


def _differs(folder: Path, cell: Cell, given: Sequence[str]) -> bool:
    """Whether what is there was made by other options: then run refuses it, or goes on, as its own settings say."""
    path = folder / "cell.json"
    return not path.exists() or json.loads(path.read_text()) != _about(cell, given)


def _option(cell: Cell, given: Sequence[str], name: str) -> str | None:
    """The value of an option, of the cell or of all, given as '--name value' or '--name=value'."""
    if name in cell:
        return cell[name]
    parts = [part for argument in given for part in ([argument] if argument[:2] != "--" else argument.split("=", 1))]
    return next((value for option, value in itertools.pairwise(parts) if option == f"--{name}"), None)


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()
