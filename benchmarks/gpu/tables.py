"""The results as Markdown."""

from __future__ import annotations

from typing import Any


def markdown(results: dict[str, Any], about: dict[str, Any]) -> str:
    """All parts that were measured, after a head with model, machine and versions."""
    hardware, model = about["hardware"], results["model"]
    lines = [
        f"# {model['name']} on {hardware['gpu'] if hardware['device'].startswith('cuda') else hardware['processor']}",
        f"{about['made_at'][:10]}, device {hardware['device']}, torch {about['packages']['torch']}, transformers "
        f"{about['packages']['transformers']}, {model['parameters']:,} parameters in {model['dtype']}; "
        f"milliseconds, medians, in brackets 95 % of bootstrap resamples. `{about['command']}`",
        results["note"],
    ]
    parts = (_ceilings, _verifying, _upkeep, _searching, _overhead, _simulated, _graphs)
    return "\n\n".join([*lines, *(text for part in parts if (text := part(results)))]) + "\n"


def table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows])


def ms(found: dict[str, Any]) -> str:
    low, high = found["interval"]
    return f"{found['median']:.3f} [{low:.3f}, {high:.3f}]"


def times(found: dict[str, Any]) -> str:
    low, high = found["interval"]
    return f"{found['ratio']:.2f}x [{low:.2f}, {high:.2f}]"


def _ceilings(results: dict[str, Any]) -> str:
    if not (found := results.get("ceilings")):
        return ""
    crossing = ", ".join(
        f"{'no number of' if nodes is None else nodes} draft nodes at {length} tokens"
        for length, nodes in found["balance"].items()
    )
    return (
        "## Ceilings\n\n"
        f"Copy on the device (read and written): {found['bytes_per_second'] / 1e9:,.0f} GB/s. Product of two bf16 "
        f"matrices of side {found['matmul_side']}: {found['flop_per_second'] / 1e12:,.1f} TFLOP/s. By these two, "
        f"operations take longer than bytes from {crossing}."
    )


def _verifying(results: dict[str, Any]) -> str:
    parts = []
    for length, found in results.get("verify", {}).items():
        rows = [
            [
                nodes,
                ms(of["ms"]),
                times(of["over_plain"]),
                f"{of['again_ms']['median']:.3f}",
                f"{of['bandwidth_floor_ms']:.3f}",
                f"{of['compute_floor_ms']:.3f}",
                f"{of['over_floor']:.2f}x",
                f"{of['tflop_per_second']:.1f}",
            ]
            for nodes, of in found.items()
        ]
        head = ["nodes", "verify", "over 0 nodes", "same shape again", "bandwidth floor", "compute floor", "over floor"]
        parts.append(f"## Verifying, {length} tokens of text\n\n{table([*head, 'TFLOP/s'], rows)}")
    if "budget" in results:
        costs = ", ".join(f"{nodes}: {cost:.3f}" for nodes, cost in results["budget"].items())
        parts.append(f"Milliseconds of a step by draft nodes (`evaluation/running/step_times.py`): {costs}.")
    return "\n\n".join(parts)


def _upkeep(results: dict[str, Any]) -> str:
    titles = {
        "keep": "path kept of 64 nodes",
        "pick": "a step's picks, three nodes",
        "fetch": "between host and device",
    }
    tables = [
        table([title, "ms"], [[name, ms(of)] for name, of in results[part].items()])
        for part, title in titles.items()
        if part in results
    ]
    return "\n\n".join(["## Upkeep", *tables]) if tables else ""


def _searching(results: dict[str, Any]) -> str:
    if not (found := results.get("search")):
        return ""
    rows = [[part, ms(of), f"{of['p95']:.3f}"] for part, of in found["ms"].items()]
    return (
        f"## Retrieval on the host\n\n{found['rows']:,} synthetic rows, {found['bytes'] / 1e6:,.0f} MB; groups asked "
        f"for: median {found['group_asked_for']['p50']:,} rows, p95 {found['group_asked_for']['p95']:,}, largest of "
        f"all {found['largest_group']:,}.\n\n" + table(["part", "ms", "p95"], rows)
    )


def _overhead(results: dict[str, Any]) -> str:
    rows = [
        [
            length,
            ms(of["vanilla_ms"]),
            ms(of["bare_ms"]),
            times(of["vanilla_over_bare"]),
            ms(of["launch_ms"]),
            "-" if of["implicit_waits_a_step"] is None else f"{of['implicit_waits_a_step']:.1f}",
        ]
        for length, of in results.get("overhead", {}).items()
    ]
    head = [
        "tokens",
        "generate, vanilla",
        "bare forward",
        "ratio",
        "host's part of the forward",
        "implicit waits a step",
    ]
    return f"## The loop's overhead a step\n\n{table(head, rows)}" if rows else ""


def _simulated(results: dict[str, Any]) -> str:
    if not (found := results.get("simulated")):
        return ""
    columns = ("draft", "verify", "choose", "rest", "total")
    rows = [
        [
            str(case["nodes"]),
            str(case["accepted"]),
            f"{case['mat']:.2f}",
            *(f"{case[f'{name}_ms']['median']:.3f}" for name in columns),
            times(case["speed_up_simulated"]),
        ]
        for case in found["cases"]
    ]
    return (
        "## Steps with SIMULATED acceptance\n\nA stub drafts the model's own recorded text with a given number of "
        f"right tokens, and `draft` is its time. The model would have picked otherwise than recorded at "
        f"{found['picks_that_differed']} of {found['picks']} picks.\n\n"
        + table(["nodes", "accepted", "MAT", *columns, "speed-up, simulated"], rows)
    )


def _graphs(results: dict[str, Any]) -> str:
    rows = [
        [length, nodes, of if isinstance(of, str) else ms(of)]
        for length, found in results.get("graphs", {}).items()
        for nodes, of in found.items()
    ]
    return f"## The forward pass as a CUDA graph\n\n{table(['tokens', 'nodes', 'replay'], rows)}" if rows else ""
