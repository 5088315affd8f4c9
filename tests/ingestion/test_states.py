"""States that the fit leaves on the disk: each token goes through the model once, and the rows do not change."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor

from dresd_milvus.corpus import Encoded
from dresd_milvus.models.loading import LoadedModel, load_model
from dresd_milvus.progress import SILENT, Silent
from dresd_milvus.retrieval.store import Rows
from dresd_milvus.storage.row_file import read_rows
from dresd_milvus.target.hf_target import HFTarget
from ingestion.phases.embed import Window
from ingestion.run import Run
from ingestion.runner import ingest, plan
from tests.samples import settings, write_corpus

DOCUMENTS = 24


class Counting:
    """A target that counts the tokens it embeds."""

    def __init__(self, target: HFTarget) -> None:
        self.target, self.tokens = target, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.target, name)

    def embed(self, tokens: Tensor, attention_mask: Tensor) -> Tensor:
        self.tokens += int(attention_mask.sum())
        return self.target.embed(tokens, attention_mask)


class Recorded(Silent):
    """Progress that keeps its messages, and by phase [total, done]."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.phases: dict[str, list[int]] = {}

    def message(self, line: str) -> None:
        self.lines.append(line)

    def phase(self, name: str, total: int | None, unit: str, done: int = 0) -> None:
        self.phases[f"{name} {unit}"] = [total or 0, 0]

    def advance(self, amount: int, worker: int | None = None) -> None:
        self.phases[list(self.phases)[-1]][1] += amount


def no_disk(folder: Path) -> int:
    return 0


def planned(model: LoadedModel, folder: Path, **other: Any) -> tuple[Run, Counting]:
    folder.mkdir(exist_ok=True)
    corpus = write_corpus(folder / "corpus.jsonl", DOCUMENTS)
    target = Counting(model.target)
    counted = replace(model, target=cast(HFTarget, target))
    wanted = settings(corpus, folder / "a.db", **{"shard_size": 1500, **other})
    return Run(folder / "run", plan(wanted, folder / "run", SILENT, counted), model=counted), target


def windows(run: Run) -> list[Window]:
    """The windows of all shards of a run."""
    encoded = [run.embedder.encode(run.documents(shard).documents) for shard in run.shards()]
    return [window for part in encoded for batch in run.embedder.batches(part) for window in batch]


def tokens_of(found: list[Window]) -> int:
    """Tokens of these windows, their overlaps included."""
    return sum(map(len, found))


def embedded(run: Run) -> list[Rows]:
    """Fit and embed; the rows, in the order of the files."""
    run.fit(SILENT)
    run.embed(run.shards(), lambda tokens: None)
    return [rows for shard in run.shards() for rows in read_rows(run.folder.file("embed", shard))]


def require_same(found: list[Rows], expected: list[Rows], cosine: float = 1 - 1e-6) -> None:
    """The same rows in the same order, whose keys have at least this cosine."""
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        assert a.pk.tolist() == b.pk.tolist() and a.next_tokens.tolist() == b.next_tokens.tolist()
        assert (a.origin, a.previews) == (b.origin, b.previews)
        assert len(a) == 0 or np.einsum("rd,rd->r", a.vectors, b.vectors).min() >= cosine


@pytest.mark.parametrize(
    "other",
    [
        {},
        {"max_length": 48},
        {"responses_only": True, "keep_every": 2},
        {"drop_same": True, "per_token": 20},
        {"dim": 0},
    ],
    ids=str,
)
def test_every_token_goes_through_the_model_once_and_the_rows_are_the_same(
    sample: LoadedModel, tmp_path: Path, other: dict[str, Any]
) -> None:
    kept, once = planned(sample, tmp_path / "kept", **other)
    again, twice = planned(sample, tmp_path / "again", **other)
    again.states.limit = no_disk
    require_same(embedded(kept), embedded(again))
    assert len(kept.shards()) > 3
    every = windows(kept)
    assert once.tokens == tokens_of(every) and twice.tokens == 2 * tokens_of(every)
    overlaps = sum(window.first - window.start for window in every)
    assert (overlaps > 0) == ("max_length" in other)
    assert once.tokens - overlaps == sum(window.stop - window.first for window in every)
    assert not list((kept.folder.folder / "states").iterdir())


@pytest.mark.parametrize(("dtype", "cosine"), [("float32", 1 - 1e-6), ("bfloat16", 1 - 1e-3)])
def test_in_a_large_corpus_only_what_the_fit_read_is_not_read_again(tmp_path: Path, dtype: str, cosine: float) -> None:
    """Batches have other sizes then, and rounding differs: keys have at least these cosines."""
    model = load_model("sample", dtype)
    kept, some = planned(model, tmp_path / "kept", fit_tokens=400, dtype=dtype)
    again, twice = planned(model, tmp_path / "again", fit_tokens=400, dtype=dtype)
    again.states.limit = no_disk
    require_same(embedded(kept), embedded(again), cosine)
    fitted = kept.folder.done("fit")
    assert fitted and 0 < fitted["states"] < tokens_of(windows(kept)) / 2
    assert some.tokens == tokens_of(windows(kept)) and twice.tokens == some.tokens + fitted["states"]


def test_states_are_kept_in_the_models_own_dtype(tmp_path: Path) -> None:
    model = load_model("sample", "bfloat16")
    kept, _ = planned(model, tmp_path / "kept", dtype="bfloat16", responses_only=True)
    kept.fit(SILENT)
    shard = 1
    encoded = kept.embedder.encode(kept.documents(shard).documents)
    states = kept.states.read(shard, kept.model.target)
    rows = sum(len(own) for own in states.values())
    assert (tmp_path / "kept" / "run" / "states" / "00001.bin").stat().st_size == rows * model.target.hidden_size * 2
    assert rows == sum(answered(document) for document in encoded)
    for batch in kept.embedder.states(encoded):
        for window, own in zip(
            batch.windows, batch.values.split([w.stop - w.first for w in batch.windows]), strict=True
        ):
            before = encoded[window.document].answered[window.first + 1 : window.stop + 1]
            assert states[window].dtype == torch.bfloat16 and torch.equal(states[window], own[torch.from_numpy(before)])


def answered(document: Encoded) -> int:
    return int(document.answered[1:].sum())


def test_one_line_says_how_much_is_kept(sample: LoadedModel, tmp_path: Path) -> None:
    for limit, expected in (
        (1 << 40, "keeping the states of about {} tokens for embedding: {} GB in {}/states"),
        (
            1000,
            "not keeping the states of about {} tokens for embedding: {} GB in {}/states, above the limit of 1e-06 GB",
        ),
    ):
        run, _ = planned(sample, tmp_path / str(limit))
        run.states.limit = lambda folder, limit=limit: limit
        progress = Recorded()
        run.fit(progress)
        size = run.plan.rows * sample.target.hidden_size * 4 / 1e9
        (line,) = progress.lines
        assert line.startswith(expected.format(f"{run.plan.rows:,}", f"{size:.3g}", run.folder.folder))


def test_a_file_that_is_not_whole_is_not_used(sample: LoadedModel, tmp_path: Path) -> None:
    """What kill -9 may leave: a missing marker, a half-written file, a missing file."""
    whole, once = planned(sample, tmp_path / "whole")
    expected = embedded(whole)
    run, count = planned(sample, tmp_path / "run")
    run.fit(SILENT)
    states = run.folder.folder / "states"
    (states / "00000.done").unlink()
    half = states / "00001.bin"
    half.write_bytes(half.read_bytes()[: half.stat().st_size // 2])
    (states / "00002.bin").unlink()
    again = sum(
        len(window)
        for shard in (0, 1, 2)
        for batch in run.embedder.batches(run.embedder.encode(run.documents(shard).documents))
        for window in batch
    )
    require_same(embedded(run), expected)
    assert count.tokens == once.tokens + again


class KilledError(Exception):
    """Stands for a process that dies."""


def test_a_fit_that_was_killed_begins_anew(sample: LoadedModel, tmp_path: Path) -> None:
    whole, once = planned(sample, tmp_path / "whole")
    expected = embedded(whole)
    run, count = planned(sample, tmp_path / "run")

    class Dies(Silent):
        def advance(self, amount: int, worker: int | None = None) -> None:
            if list((run.folder.folder / "states").glob("00001.bin*")):
                raise KilledError

    with pytest.raises(KilledError):
        run.fit(Dies())
    assert not (run.folder.folder / "states" / "00001.done").exists()
    stray = run.folder.folder / "states" / "99999.bin"
    stray.write_bytes(b"of a run before")
    count.tokens = 0
    require_same(embedded(run), expected)
    assert count.tokens == once.tokens and not stray.exists()


def test_an_embedding_that_was_killed_goes_on_with_the_states(sample: LoadedModel, tmp_path: Path) -> None:
    run, count = planned(sample, tmp_path / "run")
    run.fit(SILENT)

    def dies(tokens: int) -> None:
        raise KilledError

    with pytest.raises(KilledError):
        run.embed([0], dies)
    embedded(run)
    assert count.tokens == tokens_of(windows(run))


def test_nothing_of_the_states_is_left_when_the_store_is_sealed(sample: LoadedModel, tmp_path: Path) -> None:
    run, count = planned(sample, tmp_path / "run")
    run.fit(SILENT)
    (run.folder.folder / "states" / "orphan.bin").write_bytes(b"killed before it was removed")
    manifest = ingest(run.plan.settings, run.folder.folder, SILENT, model=run.model)
    assert manifest and manifest.rows == sum(window.stop - window.first for window in windows(run)) == count.tokens
    assert not (run.folder.folder / "states").exists()


@pytest.mark.parametrize("other", [{}, {"responses_only": True}, {"responses_only": True, "keep_every": 3}], ids=str)
def test_estimates_are_near(sample: LoadedModel, tmp_path: Path, other: dict[str, Any]) -> None:
    run, _ = planned(sample, tmp_path / "run", **other)
    progress = Recorded()
    manifest = ingest(run.plan.settings, run.folder.folder, progress, model=run.model)
    assert manifest and run.plan.rows == pytest.approx(manifest.rows, rel=0.15)
    total, done = progress.phases["embedding tokens"]
    assert total == run.plan.tokens == pytest.approx(done, rel=0.15)
    assert progress.phases["loading rows"] == [manifest.rows, manifest.rows]


def test_answers_still_to_be_written_are_counted_as_long_as_they_may_be(sample: LoadedModel, tmp_path: Path) -> None:
    own, _ = planned(sample, tmp_path / "own", responses_only=True)
    written, _ = planned(sample, tmp_path / "written", responses_only=True, answers="greedy", answer_tokens=50)
    assert own.shards_to_generate() == [] and written.plan.rows == pytest.approx(51 * DOCUMENTS, rel=0.1)
    assert written.plan.tokens > written.plan.rows


def test_markers_name_the_windows(sample: LoadedModel, tmp_path: Path) -> None:
    run, _ = planned(sample, tmp_path / "run")
    run.fit(SILENT)
    marker = json.loads((run.folder.folder / "states" / "00000.done").read_text())
    assert marker["plan"] == run.plan.fingerprint
    assert {Window(*window[:-1]) for window in marker["windows"]} == set(run.states.read(0, run.model.target))
