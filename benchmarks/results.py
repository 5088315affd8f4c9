"""Makes docs/results.md: a real model on three domains, with stores of people's answers and of its own.

Run: PYTHONPATH=. python benchmarks/results.py [--data FOLDER] [--core FOLDER] [--folder runs/results]

The parts below leave their figures in --folder; each goes on where it was interrupted.

    answers   the model writes the texts to draft for, and the answers of its own stores
    texts     the model reads the texts once: recordings
    stores    two for each domain, through dresd ingest: people's answers (OOD) and the model's own (ID)
    forced    accepted length by draft nodes, teacher-forced
    steps     step time on this machine by draft nodes
    decoding  speed on this machine, greedy and sampled; one cell on two ranks, one with a Milvus server
    replays   the same texts decoded again with the step times of a GPU: simulated
    page      docs/results.md
"""

from __future__ import annotations

import json
import sys
import tempfile
from argparse import Namespace
from itertools import product
from pathlib import Path
from time import perf_counter

import numpy as np
from common import arguments, run
from domains import Domain, read_domains
from forced import check_published, forced
from own_answers import answer_all, answers_in
from results_page import KINDS, SIMULATED, STORES, write_page
from server_search import server

from dresd_milvus.console import Phases
from dresd_milvus.corpus.chat import CHAT
from dresd_milvus.corpus.conversation import Conversation
from dresd_milvus.errors import DresdError, InputError
from dresd_milvus.files.atomic import write_json
from dresd_milvus.models.loading import load_model
from evaluation.offline.replay import Recording, about_recording, load_recording, read_text, save_recording
from evaluation.prompts import Prompt
from evaluation.running.harness import Options
from tests import milvus_server

ROOT = Path(__file__).parent.parent
DATA = ROOT.parent / "shared" / "data"

SYSTEMS = "prompt_lookup,rest,suffix,dense,hybrid-dense,hybrid"

GPU = {0: 20.0, 64: 20.0}
"""Assumed step times of a GPU, milliseconds by draft nodes: 14 GB of a 7 B model in 16 bits, read at 0.7 TB/s."""

DTYPE = "float32"
"""Precision of decoding. In float32 the output is the same token for token; in bfloat16 ties may break otherwise."""

DRESD = ("-c", "from dresd_milvus.cli.main import main; main()")


def main() -> None:
    options = arguments(
        __doc__ or "", data=str(DATA), folder="runs/results", core="", model="smollm2",
        texts=100, stored=300, tokens=128, prompts=5, decoded=64, replayed=15,
    )  # fmt: skip
    folder = Path(options.folder).resolve()
    domains = read_domains(Path(options.data))
    if not milvus_server.installed():
        raise InputError(milvus_server.MISSING)
    check_published(options.core)
    keep_options(folder, options)
    for part in (answers, texts, stores, teacher_forcing, steps, decoding, replays):
        begun = perf_counter()
        try:
            part(domains, folder, options)
        finally:
            add_minutes(folder, part.__name__, perf_counter() - begun)
    write_page(folder, ROOT / "docs" / "results.md", options)


def keep_options(folder: Path, options: Namespace) -> None:
    """Keep the options that decide figures in the folder. Raises InputError where its figures are of other options."""
    folder.mkdir(parents=True, exist_ok=True)
    deciding = {name: value for name, value in vars(options).items() if name not in ("data", "folder", "core", "out")}
    file = folder / "options.json"
    if file.exists() and (before := json.loads(file.read_text())) != deciding:
        raise InputError(f"{folder} has results of other options ({before}); give those, or another --folder")
    write_json(file, deciding)


def add_minutes(folder: Path, part: str, seconds: float) -> None:
    """Add the time of a part to minutes.json, which counts all runs of the command."""
    file = folder / "minutes.json"
    minutes = json.loads(file.read_text()) if file.exists() else {}
    write_json(file, {**minutes, part: minutes.get(part, 0.0) + seconds / 60})


def answers(domains: dict[str, Domain], folder: Path, options: Namespace) -> None:
    """Greedy and sampled answers to held-out prompts, and sampled ones for the stores."""
    (folder / "answers").mkdir(parents=True, exist_ok=True)
    jobs = [
        (answers_of(folder, name, kind), [pair.prompt for pair in pairs], temperature)
        for name, domain in domains.items()
        for kind, pairs, temperature in (
            *((kind, domain.held_out[: options.texts], temperature) for kind, temperature in KINDS.items()),
            ("stored", domain.stored[: options.stored], 0.7),
        )
    ]
    done, total = (sum(map(len, part)) for part in zip(*((answers_in(f), asked) for f, asked, _ in jobs), strict=True))
    if done >= total:
        return
    with Phases() as phases:
        model = load_model(options.model)
        phases.phase("having the model answer", total, "answers", done)
        for file, prompts, temperature in jobs:
            answer_all(model, prompts, file, options.tokens, temperature, phases.advance)


def answers_of(folder: Path, domain: str, kind: str) -> Path:
    return folder / "answers" / f"{domain}-{kind}.jsonl"


def texts(domains: dict[str, Domain], folder: Path, options: Namespace) -> None:
    """Record the answers to held-out prompts."""
    todo = [(name, kind) for name in domains for kind in KINDS if not recording_of(folder, name, kind).exists()]
    if not todo:
        return
    with Phases() as phases:
        model = load_model(options.model)
        conversation = Conversation(model.tokenizer, CHAT)
        phases.phase("reading the texts", len(todo) * options.texts, "texts")
        for name, kind in todo:
            written = {row["instruction"]: row["tokens"] for row in answers_in(answers_of(folder, name, kind))}
            read = []
            for number, pair in enumerate(domains[name].held_out[: options.texts]):
                ids, tokens = conversation.begin(pair.prompt), written[pair.prompt]
                ended = tokens[-1] in model.target.eos_ids
                read.append(read_text(model.target, Prompt(str(number), (pair.prompt,)), ids + tokens, len(ids), ended))
                phases.advance(1)
            about = about_recording(model, Options(options.tokens, KINDS[kind], 0.95))
            save_recording(Recording(about, GPU, read), recording_of(folder, name, kind).parent)


def recording_of(folder: Path, domain: str, kind: str) -> Path:
    """A file that only a complete recording has."""
    return folder / "texts" / f"{domain}-{kind}" / "recording.json"


def stores(domains: dict[str, Domain], folder: Path, options: Namespace) -> None:
    """Build an OOD and an ID store for each domain, with as many characters of people's answers as of the model's."""
    for name, domain in domains.items():
        own, people = answers_of(folder, name, "stored"), answers_of(folder, name, "people")
        characters = sum(len(row["instruction"]) + len(row["output"]) for row in answers_in(own))
        sizes = np.cumsum([len(pair.prompt) + len(pair.answer) for pair in domain.stored])
        pairs = domain.stored[: int(np.searchsorted(sizes, characters)) + 1]
        rows = ({"instruction": pair.prompt, "output": pair.answer} for pair in pairs)
        people.write_text("".join(json.dumps(row) + "\n" for row in rows))
        for store, source in (("ood", people), ("id", own)):
            run("-m", "ingestion", "run", "--source", str(source), *store_of(folder, name, store), "--model",
                options.model, "--template", CHAT, "--also", "rest")  # fmt: skip


def store_of(folder: Path, domain: str, store: str) -> list[str]:
    """The options of commands that name a store."""
    return ["--uri", str(folder / "store.db"), "--collection", f"{domain.replace('-', '_')}_{store}"]


def teacher_forcing(domains: dict[str, Domain], folder: Path, options: Namespace) -> None:
    """Write one file for each cell: a domain, a store, a kind of texts."""
    (folder / "forced").mkdir(exist_ok=True)
    for name, store, kind in product(domains, STORES, KINDS):
        file = folder / "forced" / f"{name}-{store}-{kind}.json"
        if not file.exists():
            print(f"teacher forcing: {name}, {store} store, {kind} texts", file=sys.stderr)
            _, uri, _, named = store_of(folder, name, store)
            write_json(file, forced(load_recording(recording_of(folder, name, kind).parent), uri, named, options.core))


def steps(domains: dict[str, Domain], folder: Path, options: Namespace) -> None:
    """The table of benchmarks/curves.py, in the precision of decoding."""
    if not (folder / "steps.md").exists():
        run(str(ROOT / "benchmarks" / "curves.py"), "--model", options.model, "--dtype", DTYPE, "--nodes", "64",
            "--rows", "0", "--out", str(folder / "steps.json"))  # fmt: skip


def decoding(domains: dict[str, Domain], folder: Path, options: Namespace) -> None:
    """Run the sweeps of dresd eval: every domain on one rank; the first domain on two ranks, and with a server."""
    (folder / "suites").mkdir(exist_ok=True)
    shared = ["--model", options.model, "--dtype", DTYPE, "--template", CHAT, "--systems", SYSTEMS,
              "--max-new-tokens", str(options.decoded)]  # fmt: skip
    for name, domain in domains.items():
        rows = [{"id": number, "prompt": pair.prompt} for number, pair in enumerate(domain.held_out[: options.prompts])]
        suite_of(folder, name).write_text("".join(json.dumps(row) + "\n" for row in rows))
        for store in STORES:
            sweep(folder, f"{name}-{store}", "temperature=0,0.7", *shared, "--suite", str(suite_of(folder, name)),
                  *store_of(folder, name, store))  # fmt: skip
    first = next(iter(domains))
    shared += ["--suite", str(suite_of(folder, first))]
    sweep(folder, "ranks", "tp=2", *shared, *store_of(folder, first, "id"))
    if not (folder / "decoding" / "server" / "sweep.json").exists():
        with tempfile.TemporaryDirectory() as home, server("", Path(home)) as uri:
            moved, there = f"{home}/moved", ["--uri", uri, "--collection", "moved"]
            run(*DRESD, "store", "export", *store_of(folder, first, "id"), "--to", moved)
            run(*DRESD, "store", "import", moved, *there)
            sweep(folder, "server", "search=server", *shared, *there, "--replace")


def suite_of(folder: Path, domain: str) -> Path:
    return folder / "suites" / f"{domain}.jsonl"


def sweep(folder: Path, name: str, axis: str, *given: str) -> None:
    run("-m", "evaluation", "sweep", "--axis", axis, *given, "--out", str(folder / "decoding" / name))


def replays(domains: dict[str, Domain], folder: Path, options: Namespace) -> None:
    """Replay the first sampled texts of every domain on its ID store, with the numbers of draft nodes in SIMULATED."""
    for name in domains:
        part = folder / "replays" / name
        if not (part / "recording.json").exists():
            whole = load_recording(recording_of(folder, name, "sampled").parent)
            save_recording(Recording(whole.about, whole.costs, whole.texts[: options.replayed]), part)
        for nodes in SIMULATED:
            if not (part / str(nodes) / "summary.json").exists():
                run("-m", "evaluation", "replay", str(part), *store_of(folder, name, "id"), "--systems", SYSTEMS,
                    "--nodes", str(nodes), "--out", str(part / str(nodes)))  # fmt: skip


if __name__ == "__main__":
    try:
        main()
    except DresdError as error:
        sys.exit(f"error: {error}")
