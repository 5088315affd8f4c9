"""Measures what a step costs on a GPU: verification and its floors, upkeep, retrieval on the host, and the loop.

On: a model with the shape of a Llama and random weights, made on the device; nothing is downloaded. Random weights are
good for times only: no figure here says how much of a draft is accepted.
Run:

    python benchmarks/gpu/bench.py --size 7b                  # writes runs/gpu/7b.json and 7b.md
    python benchmarks/gpu/bench.py --size tiny --device cpu   # a check of this script, not a measurement

Prints: the Markdown file.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

NOTE = "Random weights: times only. Nothing here says how much of a draft a trained model accepts."
CHECK = "A CHECK OF THE SCRIPT on a CPU with a tiny model, NOT A MEASUREMENT. " + NOTE
FEW = {"repeats": 2, "texts": 2, "tokens": 8, "rows": 5_000}
MANY = {"repeats": 40, "texts": 5, "tokens": 128, "rows": 1_000_000}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=("1b", "7b", "tiny"), default="1b")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: with --size tiny, as a check")
    parser.add_argument("--out", type=Path, default=Path("runs/gpu"), help="folder of SIZE.json and SIZE.md")
    parser.add_argument("--repeats", type=int, help=f"repeats of each measurement ({MANY['repeats']})")
    parser.add_argument("--texts", type=int, help=f"texts for each way of decoding ({MANY['texts']})")
    parser.add_argument("--tokens", type=int, help=f"new tokens of a text ({MANY['tokens']})")
    parser.add_argument("--rows", type=int, help=f"rows of the synthetic store ({MANY['rows']:,})")
    parser.add_argument("--no-cudnn-attention", action="store_true", help="switch off the attention kernels of cuDNN")
    options = parser.parse_args()
    if options.device == "cpu" and options.size != "tiny":
        parser.error("--device cpu only checks this script, with --size tiny")
    for name, default in (FEW if options.device == "cpu" else MANY).items():
        if getattr(options, name) is None:
            setattr(options, name, default)
    if min(options.repeats, options.texts) < 2:
        parser.error("--repeats and --texts must be at least 2, for the intervals")
    return options


def main() -> None:
    options = arguments()
    if options.device == "cuda" and not torch.cuda.is_available():
        print("no CUDA device; skipped")
        return
    measure(options)


def measure(options: argparse.Namespace) -> None:
    """Run all parts. Results are written after each part, so that an interrupted run leaves what it has measured."""
    from model import StepDemand, random_model

    from evaluation.running.provenance import provenance

    torch.backends.cuda.enable_cudnn_sdp(not options.no_cudnn_attention)
    model = random_model(options.size, torch.device(options.device))
    results: dict[str, Any] = {
        "note": CHECK if options.device == "cpu" else NOTE,
        "measurement": options.device != "cpu",
        "model": {"name": model.name, "dtype": model.dtype, "parameters": StepDemand.of(model).parameters},
    }
    about = provenance(model, {name: value for name, value in vars(options).items() if name != "out"})
    if model.target.device.type == "cuda":
        about["hardware"] |= {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
    print(results["note"], flush=True)
    for name, part in parts(model, options, results):
        print(f"measuring {name}", flush=True)
        results[name] = part()
        write(results, about, options.out / options.size)
    print((options.out / f"{options.size}.md").read_text())


def parts(
    model: Any, options: argparse.Namespace, results: dict[str, Any]
) -> list[tuple[str, Callable[[], dict[Any, Any]]]]:
    """(name, function that measures it) of all parts, in order: later ones may read the results of earlier ones.

    CUDA graphs come last, so that a failed capture disturbs no other part.
    """
    from decoding import overhead, simulated
    from graphs import replays
    from searching import searching
    from upkeep import fetching, keeping, picking
    from verifying import LENGTHS, ceilings, verifying

    from evaluation.running.step_times import SIZES, step_times

    repeats, texts, tokens = options.repeats, options.texts, options.tokens

    def by_length(part: Callable[[int], Any]) -> Callable[[], dict[str, Any]]:
        return lambda: {str(length): part(length) for length in LENGTHS}

    return [
        ("ceilings", lambda: ceilings(model, repeats)),
        ("verify", by_length(lambda length: verifying(model, length, repeats, results["ceilings"]))),
        ("budget", lambda: {str(nodes): cost for nodes, cost in step_times(model.target, SIZES).items()}),
        ("keep", lambda: keeping(model, LENGTHS[-1], repeats)),
        ("pick", lambda: picking(model, repeats)),
        ("fetch", lambda: fetching(model, repeats)),
        ("search", lambda: searching(model, options.rows, repeats)),
        ("overhead", by_length(lambda length: overhead(model, length, tokens, texts))),
        ("simulated", lambda: simulated(model, LENGTHS[0], tokens, texts)),
        ("graphs", by_length(lambda length: replays(model, length, repeats))),
    ]


def write(results: dict[str, Any], about: dict[str, Any], path: Path) -> None:
    """Write PATH.json and PATH.md."""
    from tables import markdown

    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"results": results, "provenance": about}
    path.with_suffix(".json").write_text(json.dumps(content, indent=2) + "\n")
    path.with_suffix(".md").write_text(markdown(results, about))


if __name__ == "__main__":
    main()
