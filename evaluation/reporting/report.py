"""What a person looks at: a table in the terminal, a figure, and a page that stands alone."""

from __future__ import annotations

import html
import io
import json
from collections.abc import Callable, Container, Sequence
from pathlib import Path
from typing import Any

from dresd_milvus.console import print_rows

Run = dict[str, Any]
"""The metrics of one system, see metrics.summarise; of a sweep with its cell, {axis: value}."""

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

PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>
<style>{style}</style><h1>{title}</h1>
<table>{head}{body}</table>
<p class="note">Speed-up: all tokens over all decoding time, against vanilla on the same prompts in the same run; in
brackets 95 % of bootstrap resamples of the prompts. MAT counts the bonus token; every step counts, with or without a
draft.</p>
<p>Accepted draft tokens by source: {shares}</p>
{figure}
<h2>Where texts differ from vanilla's</h2><p>{differing}</p>
<p class="note">The gap is the distance of the two best scores at that token: in low precision a tie may break otherwise
when the same token is computed in a batch of another shape. "+n" after the identical texts: n more whose gap is below
1e-4, what float32 may round either way.</p>
<h2>Provenance</h2><pre>{about}</pre></html>
"""

COLUMNS: dict[str, Callable[[Run], str]] = {
    "system": lambda run: run["system"],
    "MAT": lambda run: f"{run['mat']:.2f}",
    "tokens/s": lambda run: f"{run['tokens_per_second']:.0f}",
    "speed-up [95 %]": lambda run: "{:.2f}x [{:.2f}, {:.2f}]".format(run["speedup"], *run["speedup_interval"]),
    "hit rate": lambda run: f"{run['hit_rate']:.0%}",
    "path acc.": lambda run: f"{run['path_acceptance']:.0%}",
    "node acc.": lambda run: f"{run['node_acceptance']:.0%}",
    "draft ms": lambda run: f"{run['draft_ms_p50']:.2f}",
    "verify ms": lambda run: f"{run['verify_ms_p50']:.2f}",
    "identical": lambda run: f"{run['identical']}/{run['compared']}" + f" +{run['explained']}" * (run["explained"] > 0),
}
"""The table of runs: headings, and what is under each of them."""

PAGE_ONLY = ("path acc.", "node acc.")
"""Columns that a terminal has no room for."""


def table(runs: Sequence[Run], axes: Sequence[str] = (), without: Container[str] = ()) -> list[list[str]]:
    """The cells of the table of runs, the headings first. axes: of a sweep, whose values in each run's cell come first.
    without: headings of columns that are left out."""
    columns = {heading: cell for heading, cell in COLUMNS.items() if heading not in without}
    lines = [[*(run["cell"][axis] for axis in axes), *(cell(run) for cell in columns.values())] for run in runs]
    return [[*axes, *columns], *lines]


def markdown(runs: Sequence[Run], axes: Sequence[str] = ()) -> str:
    """The table of runs as Markdown; axes: see table."""
    return markdown_table(table(runs, axes), left=len(axes) + 1)


def markdown_table(lines: Sequence[Sequence[str]], left: int = 1) -> str:
    """Lines of cells as Markdown, the headings first; all columns but the first `left` are aligned on the right."""
    rule = ["---"] * left + ["---:"] * (len(lines[0]) - left)
    return "".join(f"| {' | '.join(line)} |\n" for line in [lines[0], rule, *lines[1:]])


def print_table(runs: Sequence[Run], axes: Sequence[str] = ()) -> None:
    """The table of runs, for a terminal; axes: see table."""
    print_rows(table(runs, axes, PAGE_ONLY), left=[*axes, "system"])


def accepted_from(runs: Sequence[Run]) -> str:
    """The share of each source in the accepted draft tokens of every system that notes it."""
    told = [(run["system"], run.get("accepted_from", {})) for run in runs]
    shares = {system: ", ".join(f"{name} {share:.0%}" for name, share in parts.items()) for system, parts in told}
    return "; ".join(f"{system}: {parts}" for system, parts in shares.items() if parts)


def write_report(summary: dict[str, Any], out: Path) -> None:
    """Write out/report.html (stands alone), out/report.png (its figure) and out/table.md (its table)."""
    figure, drawing = draw(summary["runs"]), io.StringIO()
    figure.savefig(drawing, format="svg")
    figure.savefig(out / "report.png", dpi=110)
    (out / "table.md").write_text(markdown(summary["runs"]))
    (out / "report.html").write_text(_page(summary, drawing.getvalue()))


def _page(summary: dict[str, Any], drawing: str) -> str:
    runs = summary["runs"]
    lines = [f"<tr><td>{'</td><td>'.join(map(html.escape, line))}</td></tr>" for line in table(runs)]
    differing = "; ".join(
        f"{run['system']}: prompt {d['prompt_id']}, token {d['position']}, gap {d['gap']:.3g}"
        for run in runs
        for d in run["first_divergences"]
    )
    return PAGE.format(
        style=STYLE,
        title=html.escape(f"dresd-milvus: {runs[0]['suite']}, {runs[0]['prompts']} prompts"),
        head=lines[0].replace("td>", "th>"),
        body="".join(lines[1:]),
        shares=html.escape(accepted_from(runs)) or "not known",
        figure=drawing[drawing.index("<svg") :],
        differing=html.escape(differing) or "Nowhere: every text is identical.",
        about=html.escape(json.dumps({name: part for name, part in summary.items() if name != "runs"}, indent=2)),
    )


def draw(runs: Sequence[Run]) -> Any:
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


def _speed(axis: Any, runs: Sequence[Run], names: list[str], colours: list[str]) -> None:
    speed = [run["speedup"] for run in runs]
    low = [max(run["speedup"] - run["speedup_interval"][0], 0) for run in runs]
    high = [max(run["speedup_interval"][1] - run["speedup"], 0) for run in runs]
    bars = axis.bar(names, speed, yerr=[low, high], color=colours, capsize=4)
    axis.bar_label(bars, fmt="%.2fx", label_type="center", color="white", fontweight="bold")
    axis.axhline(1, color="#444", linewidth=0.8, linestyle="--")
    axis.set(title="Speed-up over vanilla, 95 % interval")


def _times(axis: Any, runs: Sequence[Run], names: list[str]) -> None:
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
