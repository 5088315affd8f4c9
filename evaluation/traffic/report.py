"""What is shown and written of a replay: a table, a figure, all answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from dresd_milvus.console import print_rows
from dresd_milvus.files.atomic import write_json, write_text
from evaluation.prompts import Prompt
from evaluation.reporting.report import SYSTEMS, markdown_table
from evaluation.traffic.measuring import Block, Measured
from evaluation.traffic.summary import Figures, over_time, summarise

FILES = "traffic.json, table.md, traffic.png, records.jsonl"


def _number(key: str, form: str, unit: float = 1.0) -> Callable[[Figures], str]:
    return lambda run: "-" if run[key] is None else format(run[key] * unit, form)


def _ratio(key: str) -> Callable[[Figures], str]:
    return lambda run: (
        _number(key, ".2f")(run)
        + (" [{:.2f}, {:.2f}]".format(*run[f"{key}_interval"]) if run[f"{key}_interval"] else "")
    )


COLUMNS: dict[str, Callable[[Figures], str]] = {
    "server": lambda run: run["server"],
    "answered": lambda run: f"{run['answered']}/{run['asked']}",
    "tokens/s": _number("tokens_per_second", ".1f"),
    "ratio [95 %]": _ratio("speedup"),
    "latency s": _number("latency_p50", ".2f"),
    "p95": _number("latency_p95", ".2f"),
    "latency ratio [95 %]": _ratio("latency_ratio"),
    "first token s": _number("first_token_p50", ".2f"),
    "token ms": _number("token_p50", ".1f", 1000),
    "tokens/step": _number("tokens_per_step", ".2f"),
    "accepted": _number("acceptance", ".0%"),
    "same texts": lambda run: "-" if run["same_texts"] is None else f"{run['same_texts']}/{run['compared']}",
}
"""The table of servers: headings, and what is under each of them. Times are medians where nothing else is said."""

LATE_SECONDS = 0.02
"""A lateness of this client above which its figures are its own."""

FILE_ONLY = ("latency ratio [95 %]", "first token s", "token ms")
"""Columns that a terminal has no room for."""


def table(runs: Sequence[Figures], narrow: bool = False) -> list[list[str]]:
    """The cells of the table of servers, the headings first. narrow: without the columns of FILE_ONLY."""
    columns = {heading: cell for heading, cell in COLUMNS.items() if not (narrow and heading in FILE_ONLY)}
    return [[*columns], *([cell(run) for cell in columns.values()] for run in runs)]


def print_summary(runs: Sequence[Figures]) -> None:
    """Print the table, and warnings: of requests that failed, and of a client that was itself late."""
    print_rows(table(runs, narrow=True))
    for run in runs:
        if run["failures"]:
            counted = ", ".join(f"{count} {kind}" for kind, count in run["failures"].items())
            message = run["first_failures"][next(iter(run["failures"]))]
            print(f"warning: {run['server']}: requests failed: {counted} ({' '.join(message.split())[:200]})")
        if (lag := run["client_lag_p95"] or 0) > LATE_SECONDS:
            print(f"warning: {run['server']}: this client itself was {lag:.2f} s late; give it more processor time")


def write_results(
    measured: Measured, prompts: Sequence[Prompt], about: dict[str, Any], greedy: bool, folder: Path
) -> list[Figures]:
    """Write FILES into a folder, and return what summarise gives. about: what the results were made with."""
    blocks = measured.blocks
    runs = summarise(blocks, greedy)
    times = {run["server"]: over_time(block for block in blocks if block.server == run["server"]) for run in runs}
    write_json(folder / "traffic.json", {"servers": runs, "over_time": times, "models": measured.models, **about})
    write_text(folder / "table.md", markdown_table(table(runs)))
    write_text(folder / "records.jsonl", "".join(f"{json.dumps(record)}\n" for record in _records(blocks, prompts)))
    draw(runs, times, blocks).savefig(folder / "traffic.png", dpi=110)
    return runs


def _records(blocks: Sequence[Block], prompts: Sequence[Prompt]) -> Iterator[dict[str, Any]]:
    for block in blocks:
        for answer in block.answers:
            named = {"server": block.server, "round": block.turn, "prompt_id": prompts[answer.prompt].id}
            yield named | answer._asdict()


def draw(runs: Sequence[Figures], times: dict[str, list[Figures]], blocks: Sequence[Block]) -> Any:
    """The figure: tokens a second, latencies, acceptance over time, and acceptance by source over time."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 7.2), layout="constrained")
    axes = figure.subplots(2, 2)
    names = [run["server"] for run in runs]
    colours = {name: SYSTEMS[index % len(SYSTEMS)] for index, name in enumerate(names)}
    bars = axes[0, 0].bar(names, [run["tokens_per_second"] or 0 for run in runs], color=[*colours.values()])
    axes[0, 0].bar_label(bars, [_ratio("speedup")(run) for run in runs])
    axes[0, 0].margins(y=0.1)
    axes[0, 0].set(title="Tokens a second; over the first server's, 95 % interval")
    for name in names:
        of_server = [answer for block in blocks if block.server == name for answer in block.answers]
        latencies = [answer.latency for answer in of_server if not answer.failure]
        if latencies:
            axes[0, 1].ecdf(latencies, color=colours[name], label=name)
        _line(axes[1, 0], [(point["seconds"], point) for point in times[name]], name, colours[name])
    axes[0, 1].set(title="Share of requests answered within", xlabel="seconds from their arrival")
    axes[1, 0].set(title="Accepted share of drafted tokens", xlabel="seconds of traffic", ylim=(0, 1))
    pairs = [(name, source) for name, run in zip(names, runs, strict=True) for source in run["by_source"]]
    for index, (name, source) in enumerate(pairs):
        points = [(at["seconds"], at["by_source"][source]) for at in times[name] if source in at["by_source"]]
        _line(axes[1, 1], points, f"{name}: {source}", SYSTEMS[index % len(SYSTEMS)])
    axes[1, 1].set(title="The same by source, where a server says it", xlabel="seconds of traffic", ylim=(0, 1))
    for axis in axes.flat:
        axis.spines[["top", "right"]].set_visible(False)
        if axis.lines:
            axis.legend(frameon=False)
    return figure


def _line(axis: Any, points: Sequence[tuple[float, Figures]], label: str, colour: str) -> None:
    """Accepted over drafted, at every time that has drafts."""
    shares = [(seconds, counted["accepted"] / counted["drafted"]) for seconds, counted in points if counted["drafted"]]
    if shares:
        axis.plot(*zip(*shares, strict=True), ".-", color=colour, label=label)
