"""The fit phase: which states it reads, and how many dimensions it chooses."""

import json
from pathlib import Path

import pytest
import torch

from dresd_milvus.models.loading import LoadedModel
from dresd_milvus.progress import SILENT
from ingestion.phases.fit import GOOD_ENOUGH, Curve
from ingestion.run import Run
from ingestion.runner import plan
from tests.samples import settings, write_corpus


def planned(sample: LoadedModel, folder: Path, **other: object) -> Run:
    corpus = write_corpus(folder / "corpus.jsonl", 60)
    made = plan(settings(corpus, folder / "a.db", shard_size=3000, **other), folder / "run", SILENT, sample)
    return Run(folder / "run", made, model=sample)


def test_the_fewest_dimensions_that_draft_nearly_as_well_are_chosen() -> None:
    assert Curve({16: 1.0, 32: 1.97, 64: 1.99, 128: 2.0}).choose() == 32
    assert Curve({16: 3.0, 32: 2.0}).choose() == 16


def test_dim_auto_measures_and_keeps_the_first_axes(sample: LoadedModel, tmp_path: Path) -> None:
    auto = planned(sample, tmp_path, dim=0)
    auto.fit(SILENT)
    curve = Curve(**json.loads((tmp_path / "run" / "fit" / "curve.json").read_text()))
    quality = {int(dim): value for dim, value in curve.quality.items()}
    assert auto.projection.dim in quality and min(quality) == 8 and max(quality) == 256
    assert quality[auto.projection.dim] >= GOOD_ENOUGH * max(quality.values()) > 0
    fixed_at = tmp_path / "fixed"
    fixed_at.mkdir()
    fixed = planned(sample, fixed_at, dim=auto.projection.dim)
    fixed.fit(SILENT)
    torch.testing.assert_close(fixed.projection.weight, auto.projection.weight)
    assert fixed.projection.fingerprint == auto.projection.fingerprint


@pytest.mark.parametrize("fit_tokens", [200, 2_000])
def test_states_come_from_all_over_the_corpus_and_no_more_than_asked(
    sample: LoadedModel, tmp_path: Path, fit_tokens: int
) -> None:
    run = planned(sample, tmp_path, fit_tokens=fit_tokens)
    run.fit(SILENT)
    states = run.folder.done("fit")
    assert states and 0.8 * fit_tokens <= states["states"] <= fit_tokens + 1000 < run.plan.tokens
    before = run.projection.fingerprint
    run.fit(SILENT)  # done is done
    assert Run(tmp_path / "run", run.plan, model=sample).projection.fingerprint == before
