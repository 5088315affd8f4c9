"""What a person looks at: a table in the terminal, a figure, and a page that stands alone."""

from __future__ import annotations

import html
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from dresd_milvus.console import wide_console

COLOURS = {"draft": "#e07b39", "verify": "#3a6ea5", "choose": "#8fb8de", "rest": "#c9c9c9"}
SYSTEMS = ["#7f7f7f", "#3a6ea5", "#8fb8de", "#4c9f70", "#8e6bb0", "#e07b39", "#c44e52", "#b59a3b"]

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1000px; margin: 2rem auto; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; margin: 1rem 0 } td, th { padding: .3rem .8rem; text-align: right }
th { border-bottom: 2px solid #444 } td { border-bottom: 1px solid #ddd }
td:first-child, th:first-child { text-align: left }
svg { max-width: 100%; height: auto } pre { background: #f6f6f6; padding: 1rem; overflow-x: auto; font-size: 12px }
.note { color: #666 }
"""

HEADINGS = (
    "system",
    "MAT",
    "tokens/s",
    "speed-up [95 %]",
    "hit rate",
    "path acc.",
    "node acc.",
    "draft ms",
    "verify ms",
    "identical",
)


def rows(runs: list[dict[str, Any]]) -> list[list[str]]:
    """The table's cells, a row per system."""
    return [
        [
            run["system"],
            f"{run['mat']:.2f}",
            f"{run['tokens_per_second']:.0f}",
            f"{run['speedup']:.2f}x [{run['speedup_interval'][0]:.2f}, {run['speedup_interval'][1]:.2f}]",
            f"{run['hit_rate']:.0%}",
            f"{run['path_acceptance']:.0%}",
            f"{run['node_acceptance']:.0%}",
            f"{run['draft_ms_p50']:.2f}",
            f"{run['verify_ms_p50']:.2f}",
            f"{run['identical']}/{run['compared']}" + (f" +{run['explained']}" if run["explained"] else ""),
        ]
        for run in runs
    ]


IN_TERMINAL = [index for index, heading in enumerate(HEADINGS) if heading not in ("path acc.", "node acc.")]
"""The table's columns in a terminal; the page has them all."""


def markdown(runs: list[dict[str, Any]]) -> str:
    """The table as Markdown."""
    lines = [HEADINGS, ["---"] + ["---:"] * (len(HEADINGS) - 1), *rows(runs)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def print_table(runs: list[dict[str, Any]]) -> None:
    """The table, for a terminal."""
    _print([], [[] for _ in runs], runs)


def print_sweep(entries: list[dict[str, Any]], axes: Sequence[str]) -> None:
    """The table of many runs, the values of the axes first."""
    _print(list(axes), [[entry["cell"][axis] for axis in axes] for entry in entries], entries)


def _print(heads: list[str], before: list[list[str]], runs: list[dict[str, Any]]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for index, heading in enumerate([*heads, *(HEADINGS[index] for index in IN_TERMINAL)]):
        table.add_column(heading, justify="right" if index > len(heads) else "left", no_wrap=index <= len(heads))
    for first, row in zip(before, rows(runs), strict=True):
        table.add_row(*first, *(row[index] for index in IN_TERMINAL))
    wide_console().print(table)


def print_rows(lines: Sequence[Sequence[str]]) -> None:
    """A table for a terminal, the headings first."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for index, heading in enumerate(lines[0]):
        table.add_column(heading, justify="right" if index else "left", no_wrap=True)
    for line in lines[1:]:
        table.add_row(*line)
    wide_console().print(table)


def write_report(summary: dict[str, Any], out: Path) -> None:
    """Write out/report.html (stands alone), out/report.png (its figure) and out/table.md (its table)."""
    (out / "table.md").write_text(markdown(summary["runs"]))
    figure = draw(summary["runs"])
    drawing = io.StringIO()
    figure.savefig(drawing, format="svg")
    svg = drawing.getvalue()
    svg = svg[svg.index("<svg") :]
    runs = summary["runs"]
    head = "".join(f"<th>{html.escape(heading)}</th>" for heading in HEADINGS)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows(runs))
    divergences = [
        f"{run['system']}: prompt {d['prompt_id']}, token {d['position']}, gap {d['gap']:.3g}"
        for run in runs
        for d in run["first_divergences"]
    ]
    about = html.escape(json.dumps({name: part for name, part in summary.items() if name != "runs"}, indent=2))
    title = html.escape(f"dresd-milvus: {runs[0]['suite']}, {runs[0]['prompts']} prompts")
    differing = html.escape("; ".join(divergences)) or "Nowhere: every text is identical."
    page = f"""<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>
<style>{STYLE}</style><h1>{title}</h1>
<table><tr>{head}</tr>{body}</table>
<p class="note">Speed-up: all tokens over all decoding time, against vanilla on the same prompts in the same run; in
brackets 95 % of bootstrap resamples of the prompts. MAT counts the bonus token; every step counts, with or without a
draft.</p>
{svg}
<h2>Where texts differ from vanilla's</h2><p>{differing}</p>
<p class="note">The gap is the distance of the two best scores at that token: in low precision a tie may break otherwise
when the same token is computed in a batch of another shape. "+n" after the identical texts: n more whose gap is below
1e-4, what float32 may round either way.</p>
<h2>Provenance</h2><pre>{about}</pre></html>
"""
    (out / "report.html").write_text(page)
    figure.savefig(out / "report.png", dpi=110)


def draw(runs: list[dict[str, Any]]) -> Any:
    """The figure: speed-up, MAT, where a step's time goes, acceptance by depth."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 7.2), layout="constrained")
    axes = figure.subplots(2, 2)
    names = [run["system"] for run in runs]
    colours = [SYSTEMS[index % len(SYSTEMS)] for index in range(len(runs))]
    _speed(axes[0, 0], runs, names, colours)
    bars = axes[0, 1].bar(names, [run["mat"] for run in runs], color=colours)
    axes[0, 1].bar_label(bars, fmt="%.2f")
    axes[0, 1].set(title="MAT: tokens per forward pass", ylabel="tokens")
    _times(axes[1, 0], runs, names)
    for run, colour in zip(runs, colours, strict=True):
        if run["hit_rate"] > 0:
            depths = range(1, len(run["accepted_by_depth"]) + 1)
            axes[1, 1].plot(depths, run["accepted_by_depth"], "o-", color=colour, label=run["system"])
    axes[1, 1].set(title="Accepted to this depth, of steps with a draft", xlabel="depth", ylim=(0, 1))
    if axes[1, 1].lines:
        axes[1, 1].legend(frameon=False)
    for axis in axes.flat:
        axis.spines[["top", "right"]].set_visible(False)
    return figure


def _speed(axis: Any, runs: list[dict[str, Any]], names: list[str], colours: list[str]) -> None:
    speed = [run["speedup"] for run in runs]
    low = [max(run["speedup"] - run["speedup_interval"][0], 0) for run in runs]
    high = [max(run["speedup_interval"][1] - run["speedup"], 0) for run in runs]
    bars = axis.bar(names, speed, yerr=[low, high], color=colours, capsize=4)
    axis.bar_label(bars, fmt="%.2fx", label_type="center", color="white", fontweight="bold")
    axis.axhline(1, color="#444", linewidth=0.8, linestyle="--")
    axis.set(title="Speed-up over vanilla, 95 % interval")


def _times(axis: Any, runs: list[dict[str, Any]], names: list[str]) -> None:
    left = [0.0] * len(runs)
    for part in ("draft", "verify", "choose", "rest"):
        times = [run["step_ms_mean"] for run in runs]
        width = [
            t[part] if part != "rest" else max(t["total"] - t["draft"] - t["verify"] - t["choose"], 0) for t in times
        ]
        axis.barh(names, width, left=left, color=COLOURS[part], label=part)
        left = [a + b for a, b in zip(left, width, strict=True)]
    axis.invert_yaxis()
    axis.set(title="Where a step's time goes", xlabel="ms, mean per step")
    axis.legend(frameon=False, ncols=4, loc="upper center", bbox_to_anchor=(0.5, -0.16))
