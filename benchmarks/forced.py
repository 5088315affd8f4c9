"""Draft quality under teacher forcing, for the results page: accepted length by draft nodes, of all systems.

On: recordings of a real model (evaluation/offline/replay.py), so that the model is not needed; and SuffixDecoding's and
REST's own packages over the same documents.
"""

from __future__ import annotations

import importlib.util
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from published import RestPackage, SuffixDecoding

from dresd_milvus.decoding.protocols import Drafter
from dresd_milvus.errors import InputError
from dresd_milvus.retrieval.suffix_store import SuffixStore
from dresd_milvus.systems.factory import make_drafter
from dresd_milvus.systems.sources import Where, open_sources
from evaluation.offline.intrinsic import Shape, Tally, force
from evaluation.offline.replay import Recording, recorded_model, recorded_says
from evaluation.reporting.bootstrap import interval

SYSTEMS = ("prompt_lookup", "rest", "suffix", "dense", "hybrid-no-dense", "hybrid")
NODES, DEPTH = (4, 8, 16, 32, 64), 16
ALL_POSITIONS = 10**6
"""More positions than there are, so that drafters are asked as often as drafts of this depth allow."""


def forced(recording: Recording, uri: str, collection: str, core: str) -> dict[str, Any]:
    """One cell of the page: {systems: {name: {nodes: summary of Tally}}, dense adds: {nodes: see `gain`}}.

    uri, collection: the store that is drafted from. core: see `decoding_core`.
    """
    shapes = [Shape(nodes, DEPTH) for nodes in NODES]
    model = recorded_model(recording)
    sources = open_sources(Where(uri, collection), SYSTEMS, model)
    assert sources.suffixes is not None, "stores are ingested with --also rest"
    ours = [make_drafter(name, sources) for name in SYSTEMS]
    with published_drafters(sources.suffixes, model.target.vocab_size, core) as theirs:
        listen = recorded_says(model.target.vocab_size)
        tallies = force(recording.texts, listen, [*ours, *theirs], shapes, ALL_POSITIONS)
    return {
        "systems": {name: {s.nodes: tally.summary() for s, tally in by.items()} for name, by in tallies.items()},
        "dense adds": {s.nodes: gain(tallies["hybrid"][s], tallies["hybrid-no-dense"][s]) for s in shapes},
    }


@contextmanager
def published_drafters(store: SuffixStore, vocabulary: int, core: str) -> Iterator[list[Drafter]]:
    """Drafters of SuffixDecoding's core and REST's package, built from the documents of our own suffix store."""
    texts = [text[text >= 0] for text in np.split(store.tokens, np.flatnonzero(store.tokens < 0))]
    texts = [text for text in texts if len(text)]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        yield [SuffixDecoding(decoding_core(core), texts), RestPackage(store, texts, vocabulary, Path(folder))]


def check_published(core: str) -> None:
    """Raise InputError unless the packages of both are installed."""
    decoding_core(core)
    if importlib.util.find_spec("draftretriever") is None:
        raise InputError("REST's package is not installed; pip install draftretriever==0.1.1")


def decoding_core(folder: str) -> Any:
    """The compiled core of SuffixDecoding, from this folder or from arctic-inference. Raises InputError without it."""
    sys.path.insert(0, folder)
    for name in ("_C", "arctic_inference.suffix_decoding._C"):
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise InputError("SuffixDecoding's core was not found; build it (docs/results.md) and give --core FOLDER")


def gain(ours: Tally, theirs: Tally) -> dict[str, Any]:
    """The ratio of accepted lengths over the same positions, and its 95 % bootstrap interval over texts."""
    sums = np.array([[sum(a), sum(b)] for a, b in zip(ours.accepted, theirs.accepted, strict=True)], float)

    def ratio(sums: np.ndarray) -> Any:
        ours, theirs = sums.sum(-2).T
        return ours / np.maximum(theirs, 1)

    return {"ratio": float(ratio(sums)), "interval": interval(ratio, sums)}


def table(cell: dict[str, Any]) -> str:
    """A cell in Markdown: a row for each system, a column for each number of nodes; the last row is what dense adds."""
    lines = [
        f"| accepted at | {' | '.join(f'{nodes} nodes' for nodes in NODES)} |",
        "|---" + "|---:" * len(NODES) + "|",
    ]
    for name, by in cell["systems"].items():
        shown = (by[str(nodes)] for nodes in NODES)
        lines.append(_row(name, [(each["accepted_length"], each["interval"]) for each in shown]))
    adds = (cell["dense adds"][str(nodes)] for nodes in NODES)
    lines.append(_row("hybrid / hybrid-no-dense", [(each["ratio"], each["interval"]) for each in adds]))
    return "\n".join(lines) + "\n"


def _row(name: str, cells: Sequence[tuple[float, Sequence[float]]]) -> str:
    return f"| {name} | " + " | ".join(f"{value:.2f} [{low:.2f}, {high:.2f}]" for value, (low, high) in cells) + " |"
