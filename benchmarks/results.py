"""The results page, docs/results.md: a real model on three domains, with stores of people's and of its own answers.

    PYTHONPATH=. python benchmarks/results.py [--data FOLDER] [--core FOLDER] [--folder runs/results]

The parts, each of which goes on where it was interrupted and leaves its figures in --folder:

    answers   the model writes texts to draft for, and the answers of its own stores
    texts     the model reads the texts once: recordings
    stores    two a domain, through dresd ingest: people's answers (OOD) and the model's own (ID)
    forced    accepted length by draft nodes, teacher-forced
    steps     what a step costs on this machine by draft nodes
    decoding  speed on this machine, greedy and sampled; one cell on two ranks, one against a Milvus server
    replays   the same texts decoded again with the step costs of a GPU: simulated
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
from forced import check_others, forced
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

SYSTEMS = "prompt_lookup,rest,suffix,dense,hybrid-no-dense,hybrid"

GPU = {0: 20.0, 64: 20.0}
"""Milliseconds of a step by draft nodes, assumed: a 7 B model in 16 bits, whose 14 GB are read at 0.7 TB/s."""

DTYPE = "float32"
"""Of decoding: with it output is the same token for token, which bfloat16's ties are in the way of."""

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
    check_others(options.core)
    keep_options(folder, options)
    for part in (answers, texts, stores, teacher_forcing, steps, decoding, replays):
        begun = perf_counter()
        try:
            part(domains, folder, options)
        finally:
            timed(folder, part.__name__, perf_counter() - begun)
    write_page(folder, ROOT / "docs" / "results.md", options)


def keep_options(folder: Path, options: Namespace) -> None:
    """Raise InputError where the folder has figures of other sizes or another model."""
    folder.mkdir(parents=True, exist_ok=True)
    deciding = {name: value for name, value in vars(options).items() if name not in ("data", "folder", "core", "out")}
    file = folder / "options.json"
    if file.exists() and (before := json.loads(file.read_text())) != deciding:
        raise InputError(f"{folder} has results of other options ({before}); give those, or another --folder")
    write_json(file, deciding)


def timed(folder: Path, part: str, seconds: float) -> None:
    """Add to the time that a part took, over all runs of the command."""
    file = folder / "minutes.json"
    taken = json.loads(file.read_text()) if file.exists() else {}
    write_json(file, {**taken, part: taken.get(part, 0.0) + seconds / 60})


def answers(domains: dict[str, Domain], folder: Path, options: Namespace) -> None:
    """Greedy and sampled answers to held-out prompts, and sampled ones for the stores."""
    (folder / "answers").mkdir(parents=True, exist_ok=True)
    jobs = [
        (answers_of(folder, name, kind), [pair.prompt for pair in pairs], temperature)
        for name, domain in domains.items()
        for kind, pairs, temperature in (
            *((kind, domain.held[: options.texts], temperature) for kind, temperature in KINDS.items()),
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
    """Recordings of the answers to held-out prompts."""
    todo = [(name, kind) for name in domains for kind in KINDS if not recording_of(folder, name, kind).exists()]
    if not todo:
        return
    with Phases() as phases:
        model = load_model(options.model)
        put = Conversation(model.tokenizer, CHAT)
        phases.phase("reading the texts", len(todo) * options.texts, "texts")
        for name, kind in todo:
            written = {row["instruction"]: row["tokens"] for row in answers_in(answers_of(folder, name, kind))}
            read = []
            for number, pair in enumerate(domains[name].held[: options.texts]):
                ids, tokens = put.begin(pair.prompt), written[pair.prompt]
                ended = tokens[-1] in model.target.eos_ids
                read.append(read_text(model.target, Prompt(str(number), (pair.prompt,)), ids + tokens, len(ids), ended))
                phases.advance(1)
            about = about_recording(model, Options(temperature=KINDS[kind], top_p=0.95, max_new_tokens=options.tokens))
            save_recording(Recording(about, GPU, read), recording_of(folder, name, kind).parent)


def recording_of(folder: Path, domain: str, kind: str) -> Path:
    """What marks a whole recording."""
    return folder / "texts" / f"{domain}-{kind}" / "recording.json"


def stores(domains: dict[str, Domain], folder: Path, options: Namespace) -> None:
    """An OOD and an ID store a domain, of like size: as many characters of people's answers as of the model's own."""
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
    """Where a store is, as options of commands."""
    return ["--uri", str(folder / "store.db"), "--collection", f"{domain.replace('-', '_')}_{store}"]


def teacher_forcing(domains: dict[str, Domain], folder: Path, options: Namespace) -> None:
    """A file a cell: a domain, a store, a kind of texts."""
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
    """Sweeps of dresd eval: every domain on one rank; the first on two, and against a server."""
    (folder / "suites").mkdir(exist_ok=True)
    shared = ["--model", options.model, "--dtype", DTYPE, "--template", CHAT, "--systems", SYSTEMS,
              "--max-new-tokens", str(options.decoded)]  # fmt: skip
    for name, domain in domains.items():
        rows = [{"id": number, "prompt": pair.prompt} for number, pair in enumerate(domain.held[: options.prompts])]
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
    """The first sampled texts of every domain on its ID store, with as many draft nodes as SIMULATED says."""
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
