"""Writes docs/results.md from the figures that benchmarks/results.py has left in its folder."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from domains import FILES
from forced import DEPTH, table

from dresd_milvus.systems.registry import with_current_names
from evaluation.reporting.report import markdown

KINDS = {"greedy": 0.0, "sampled": 0.7}
"""Temperature of each kind of texts; sampled ones have top-p 0.95."""

STORES = {"ood": "people's answers", "id": "the model's own"}

SIMULATED = (16, 32, 64)
"""Numbers of draft nodes of the replays."""

MIDDLE = "16"
"""Number of draft nodes in the summary."""

SHOWN = ("SuffixDecoding's core", "REST's package", "dense", "hybrid-no-dense", "hybrid")

HEAD = """# Results on a real model

SmolLM2-135M-Instruct under its chat template. Made by `python benchmarks/results.py`, {date}, commit {git}, on
{hardware}; the whole took {minutes:.0f} minutes ({parts}). All tables are that command's output, none was left out.
What the sample model shows is in [results-sample.md](results-sample.md).

**What these figures can say.** How good drafts are on real text of a real instruction model, by domain, by whose
answers are in the store, greedy and sampled; what each kind of retrieval adds; what it is worth on this processor.

**What they cannot say.** How much faster a large model becomes on a GPU. Accepted length is a property of texts and
stores, and carries over as far as those do; the time of a step is one of the machine. Here a step with 16 draft nodes
takes {cost:.1f} times a plain one, on a GPU about as long: the two are shown apart, and simulated times are marked. A
larger model is surer of itself and more often drafted right, or has more ways to say a thing: nobody has measured this
here. If the weights came by way of the package index they were rounded to four bits and widened again. The stores are
small, {rows} rows; what one of millions gives is not measured here.

- **Domains**: GSM8K (stores of training problems, texts of test problems); code (stores of MBPP's tasks that are not
  test tasks, GPTeacher and CodeAlpaca; texts of HumanEval and MBPP's test tasks); MT-Bench (stores of OASST pairs in
  English; texts of MT-Bench's first turns, and of Vicuna-Bench where those are used up).
- **Stores**: OOD holds people's answers as published (GSM8K's carry marks such as <<48/2=24>>, which this model does
  not write), ID the model's own sampled answers (t = 0.7, top-p 0.95, {tokens} tokens at most) to {stored} prompts;
  OOD has as many characters. In MT-Bench's domain nothing in either store is about the questions asked: it shows what
  retrieval has where the store does not fit.
- **Texts**: {texts} a cell, the model's own answers, greedy or sampled, {tokens} tokens at most, written and read in
  {precision}.
- **Intervals** are 95 % of bootstrap resamples: of texts under teacher forcing, of prompts when decoding.

"""

FORCED = """## Draft quality: accepted length by draft nodes

Teacher forcing: at places of a text, {depth} tokens apart and more, every system is asked with exactly the text and
state that it would have there; counted is how many of the next tokens its tree holds (at most {depth}, bonus
excluded). `suffix` is SuffixDecoding's rule in this project; SuffixDecoding's core is its authors' own
(arctic-inference 0.3.0), with their settings; REST's package is its authors' own (draftretriever 0.1.1). The last row
is what dense retrieval adds to all else: the ratio of the two rows above, over the same positions.
"""

DECODING = """## Decoding on this processor

{prompts} prompts a cell, {decoded} tokens each, float32: in it every text must be plain decoding's, which ties of
bfloat16 are in the way of. All systems choose their tree sizes by
`--nodes auto`. Columns: see [evaluation.md](evaluation.md).
"""

STEPS = """## What a step costs here by draft nodes

float32. Read beside the tables above: what drafts are worth is what they add there over what they cost here.

"""

REPLAYS = """## Simulated: the step costs of a GPU

The first {replayed} sampled texts of each domain, decoded again on the ID store: acceptance and the time of drafts are
real (drafts on this processor), **the time of the model is not**: every step takes {ms:.0f} ms, whatever the nodes.
That is what reading the 14 GB of a 7 B model in 16 bits takes at 0.7 TB/s, and what it stays up to some 64 nodes. It
says what the same acceptance would give there, and nothing about how a 7 B model would be drafted.
"""

DATA = """## The data

`--data FOLDER` (default: `../shared/data`) has these files, as their authors publish them. CodeAlpaca may not be used
commercially: it is measured with, and neither it nor anything made of it is shipped.

| file | licence and source |
|---|---|
{files}

SuffixDecoding's core is built from its source package and named by `--core build`:

```bash
pip download --no-deps --no-binary :all: arctic-inference==0.3.0 && tar xf arctic_inference-0.3.0.tar.gz
pip install nanobind cmake ninja draftretriever==0.1.1
cmake -G Ninja -S arctic_inference-0.3.0/csrc/suffix_decoding -B build && cmake --build build
```

The server of the last cell is `make server`'s.
"""


def write_page(folder: Path, page: Path, options: Namespace) -> None:
    """Write the page from the figures in the folder."""
    cells = {path.stem: _read(path) for path in sorted((folder / "forced").glob("*.json"))}
    sweeps = {path.parent.name: _read(path)["entries"] for path in (folder / "decoding").glob("*/sweep.json")}
    stores = {path.parents[2].name: _read(path) for path in (folder / "decoding").glob("*/cells/*/summary.json")}
    about, rows = next(iter(stores.values()))["provenance"], {name: s["store"]["rows"] for name, s in stores.items()}
    minutes = _read(folder / "minutes.json")
    text = HEAD.format(
        date=about["made_at"][:10],
        git=about["git"],
        hardware=f"{about['hardware']['cores']} cores of {about['hardware']['processor']}",
        minutes=sum(minutes.values()),
        parts=", ".join(f"{part.replace('_', ' ')} {taken:.0f}" for part, taken in minutes.items()),
        rows=f"{min(rows.values()):,} to {max(rows.values()):,}",
        cost=_cost(folder),
        precision=_read(next((folder / "texts").glob("*/recording.json")))["dtype"],
        **vars(options),
    )
    text += _summary(cells, sweeps) + FORCED.format(depth=DEPTH)
    for name, cell in cells.items():
        text += f"\n**{_named(name)}**\n\n{table(cell)}"
    text += "\n" + DECODING.format(**vars(options))
    for name in sorted(sweeps.keys() - {"ranks", "server"}):
        text += f"\n**{_named(name)}, {rows[name]:,} rows**\n\n{markdown(sweeps[name], ['temperature'])}"
    text += "\n**GSM8K, ID store, greedy, on two ranks** (DeepSpeed; each has one core, so that only identity means "
    text += f"anything)\n\n{markdown(sweeps['ranks'], ['tp'])}"
    text += "\n**The same, searched on a Milvus server** (on the same two cores, asked within a step)\n\n"
    text += f"{markdown(sweeps['server'], ['search'])}\n"
    text += STEPS + (folder / "steps.md").read_text() + "\n" + _replays(folder, options)
    text += DATA.format(files="\n".join(f"| {name} | {licence} |" for name, licence in FILES.items()))
    page.write_text(text)
    print(f"written: {page}")


def _summary(cells: dict[str, Any], sweeps: dict[str, Any]) -> str:
    """One table of all cells, and the list of what is bad."""
    text = f"## In short\n\nAccepted length with {MIDDLE} draft nodes, teacher-forced; what dense adds there "
    text += "(hybrid over hybrid-no-dense).\n\n"
    text += f"| texts | store | {' | '.join(SHOWN)} | dense adds |\n" + "|---" * 2 + "|---:" * (len(SHOWN) + 1) + "|\n"
    for name, cell in cells.items():
        domain, store, kind = name.rsplit("-", 2)
        middle = (cell["systems"][system][MIDDLE] for system in SHOWN)
        shown = " | ".join(_with(each["accepted_length"], each["interval"]) for each in middle)
        text += f"| {domain}, {kind} | {store.upper()} | {shown} | {_percent(cell['dense adds'][MIDDLE])} |\n"
    text += "\n**What is bad.**\n\n" + "\n".join(f"- {line}" for line in what_is_bad(cells, sweeps)) + "\n\n"
    return text


def what_is_bad(cells: dict[str, Any], sweeps: dict[str, Any]) -> Iterator[str]:
    """A line for each kind of cell or text that went badly; it also says so where there is none."""
    unsure = [name for name, cell in cells.items() if cell["dense adds"][MIDDLE]["interval"][0] <= 1]
    listed = "; ".join(f"{_named(name)} {_percent(cells[name]['dense adds'][MIDDLE])}" for name in unsure) or "none"
    yield f"Cells in which dense retrieval adds nothing for certain: {len(unsure)} of {len(cells)}: {listed}."
    for peer in ("SuffixDecoding's core", "REST's package"):
        behind = [
            f"{_named(name)} at {nodes} nodes"
            for name, cell in cells.items()
            for nodes in cell["dense adds"]
            if cell["systems"]["hybrid"][nodes]["accepted_length"] < cell["systems"][peer][nodes]["accepted_length"]
        ]
        yield f"`hybrid` accepts less than {peer}: {'; '.join(behind) or 'nowhere'}."
    entries = [(name, entry) for name, found in sorted(sweeps.items()) for entry in found]
    yield "Not faster than plain decoding here, or not for certain:" + "".join(_slow(entries))
    by = {(name, _cell(entry), entry["system"]): entry for name, entry in entries}
    pairs = [(key, by[(*key, "hybrid")], by[(*key, "hybrid-no-dense")]) for key in dict.fromkeys(key[:2] for key in by)]
    worse = [
        f"{_named(name)} {cell} ({_speed(ours)}, without {_speed(theirs)})"
        for (name, cell), ours, theirs in pairs
        if ours["speedup"] < theirs["speedup"]
    ]
    listed = "; ".join(worse) or "nowhere"
    yield f"`hybrid` is slower with dense than without (by chance perhaps, where intervals meet): {listed}."
    differing = sum(entry["compared"] - entry["identical"] for _, entry in entries)
    compared = sum(entry["compared"] for _, entry in entries)
    explained = sum(entry["explained"] for _, entry in entries)
    yield f"Of {compared} texts {differing} differ from plain decoding's, {explained} of them at a gap below 1e-4."


def _slow(entries: Sequence[tuple[str, dict[str, Any]]]) -> Iterator[str]:
    """For each system, the cells in which its speed-up's interval reaches 1, as a list within a list."""
    slow = [(entry["system"], name, entry) for name, entry in entries if entry["speedup_interval"][0] <= 1]
    for system in dict.fromkeys(system for system, *_ in slow if system != "vanilla"):
        cells = [f"{_named(name)} {_cell(entry)} ({_speed(entry)})" for of, name, entry in slow if of == system]
        yield f"\n  - `{system}`, {len(cells)}: {'; '.join(cells)}."


def _replays(folder: Path, options: Namespace) -> str:
    found = sorted((folder / "replays").iterdir())
    costs = _read(found[0] / "recording.json")["costs"]
    text = REPLAYS.format(ms=costs["0"], **vars(options))
    for part in found:
        for nodes in SIMULATED:
            runs = _read(part / str(nodes) / "summary.json")["runs"]
            text += f"\n**{part.name}, sampled, ID store, {nodes} nodes (simulated)**\n\n{markdown(runs)}"
    return text + "\n"


def _named(cell: str) -> str:
    """'mt-bench-ood-greedy' -> 'mt-bench, OOD store, greedy'."""
    parts = cell.rsplit("-", 2) if cell.endswith(tuple(KINDS)) else cell.rsplit("-", 1)
    return ", ".join(f"{part.upper()} store" if part in STORES else part for part in parts)


def _cell(entry: dict[str, Any]) -> str:
    return ", ".join(f"{axis} {value}" for axis, value in entry["cell"].items())


def _cost(folder: Path) -> float:
    """Time of a step with MIDDLE draft nodes over that of a plain one, on this machine."""
    sizes = _read(folder / "steps.json")["results"]["steps"]["sizes"]
    return next(size["over_plain"] for size in sizes if str(size["nodes"]) == MIDDLE)


def _speed(entry: dict[str, Any]) -> str:
    return f"{entry['speedup']:.2f}x [{entry['speedup_interval'][0]:.2f}, {entry['speedup_interval'][1]:.2f}]"


def _with(value: float, interval: Sequence[float]) -> str:
    return f"{value:.2f} [{interval[0]:.2f}, {interval[1]:.2f}]"


def _percent(gain: dict[str, Any]) -> str:
    low, high = gain["interval"]
    return f"{gain['ratio'] - 1:+.0%} [{low - 1:+.0%}, {high - 1:+.0%}]"


def _read(path: Path) -> Any:
    return json.loads(with_current_names(path.read_text()))
