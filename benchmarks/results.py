"""The results page, docs/results.md: a real model on three domains, with stores of people's and of its own answers.

    python benchmarks/results.py [--data FOLDER] [--folder runs/results]
"""

from __future__ import annotations

import argparse
from pathlib import Path

from domains import Domain, read_domains
from own_answers import answer_all, answers_in

from dresd_milvus.console import Phases
from dresd_milvus.loading import load_model

ROOT = Path(__file__).parent.parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--folder", type=Path, default=Path("runs/results"))
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--texts", type=int, default=100)
    parser.add_argument("--stored", type=int, default=300)
    parser.add_argument("--tokens", type=int, default=128)
    options = parser.parse_args()
    domains = read_domains(options.data)
    write_answers(domains, options)


def write_answers(domains: dict[str, Domain], options: argparse.Namespace) -> None:
    folder = options.folder / "answers"
    folder.mkdir(parents=True, exist_ok=True)
    jobs = [
        (folder / f"{name}-{kind}.jsonl", [pair.prompt for pair in pairs], temperature)
        for name, domain in domains.items()
        for kind, pairs, temperature in (
            ("greedy", domain.held[: options.texts], 0.0),
            ("sampled", domain.held[: options.texts], 0.7),
            ("stored", domain.stored[: options.stored], 0.7),
        )
    ]
    total = sum(len(prompts) for _, prompts, _ in jobs)
    with Phases() as phases:
        model = load_model(options.model)
        phases.phase("having the model answer", total, "answers", sum(len(answers_in(file)) for file, _, _ in jobs))
        for file, prompts, temperature in jobs:
            answer_all(model, prompts, file, options.tokens, temperature, phases.advance)


if __name__ == "__main__":
    main()
