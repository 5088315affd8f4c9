"""Tables and plots of draft quality."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dresd_milvus.files.atomic import write_json
from evaluation.offline.intrinsic import Shape, Tally
from evaluation.reporting.report import markdown_table

Plot = tuple[str, dict[str, list[tuple[float, dict[str, Any]]]]]
"""What is on the x axis, and the lines: by label, their places and summaries of Tally."""


def report_systems(found: dict[str, dict[Shape, Tally]], about: dict[str, Any], out: Path) -> str:
    """Write accepted length of systems by draft nodes; returns the table."""
    shapes = list(next(iter(found.values())))
    summaries = {name: {shape: tally.summary() for shape, tally in by.items()} for name, by in found.items()}
    heads = ["system", *(f"{shape.nodes} nodes" for shape in shapes), "hit rate"]
    lines = [
        [name, *(_cell(by[shape]) for shape in shapes), f"{by[shapes[-1]]['hit_rate']:.0%}"]
        for name, by in summaries.items()
    ]
    listed = [
        {"system": name, "nodes": shape.nodes, "depth": shape.depth, **summary}
        for name, by in summaries.items()
        for shape, summary in by.items()
    ]
    curves = {name: [(float(s.nodes), by[s]) for s in shapes] for name, by in summaries.items()}
    table = markdown_table([heads, *lines])
    _write({"systems": listed, **about}, table, [("draft nodes", curves)], out)
    return table


def report_curves(curves: dict[str, list[dict[str, Any]]], about: dict[str, Any], out: Path) -> str:
    """Write accepted length of dense retrieval by each thing that was varied; returns the tables."""
    tables, plots = [], []
    for name, points in curves.items():
        shapes = [shape["nodes"] for shape in points[0]["by_shape"]]
        heads = [name, *(f"{nodes} nodes" for nodes in shapes), "rows"]
        cells = [[f"{p[name]:g}", *(_cell(s) for s in p["by_shape"]), f"{p['rows']:,}"] for p in points]
        tables.append(markdown_table([heads, *cells]))
        lines = {
            f"{nodes} nodes": [(p[name] if name != "store" else p["rows"], p["by_shape"][at]) for p in points]
            for at, nodes in enumerate(shapes)
        }
        plots.append((name if name != "store" else "rows in the store", lines))
    _write({"varied": curves, "provenance": about}, "\n".join(tables), plots, out)
    return "\n".join(tables)


def _write(content: dict[str, Any], table: str, plots: Sequence[Plot], out: Path) -> None:
    write_json(out / "intrinsic.json", content)
    (out / "table.md").write_text(table)
    _plot(plots, out / "intrinsic.png")


def _cell(summary: dict[str, Any]) -> str:
    low, high = summary["interval"]
    return f"{summary['accepted_length']:.2f} [{low:.2f}, {high:.2f}]"


def _plot(plots: Sequence[Plot], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2 * len(plots), 4), layout="constrained")
    for axis, (name, lines) in zip(figure.subplots(1, len(plots), squeeze=False)[0], plots, strict=True):
        for label, points in lines.items():
            x = [at for at, _ in points]
            axis.plot(x, [p["accepted_length"] for _, p in points], "o-", label=label)
            axis.fill_between(
                x, [p["interval"][0] for _, p in points], [p["interval"][1] for _, p in points], alpha=0.15
            )
        axis.set(xlabel=name, ylabel="accepted length, teacher-forced")
        axis.set_ylim(bottom=0)
        axis.legend(frameon=False)
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
