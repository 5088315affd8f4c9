"""Systems by their names, what they need, and what they are given."""

import json
from pathlib import Path
from typing import cast

import pytest

from dresd_milvus.decoding.step_costs import PRIORS
from dresd_milvus.drafters.hybrid import Hybrid
from dresd_milvus.drafters.hybrid.dense_sources import BackgroundSearch, DenseSource
from dresd_milvus.models.loading import LoadedModel
from dresd_milvus.retrieval.circuit_breaker import CircuitBreaker, RemoteStore
from dresd_milvus.storage.opening import Retrieval
from dresd_milvus.systems.factory import make_drafter, step_costs
from dresd_milvus.systems.registry import (
    MOST_NODES,
    NODES,
    budget_of,
    drafting,
    needs,
    parse_systems,
    with_current_names,
)
from dresd_milvus.systems.sources import Sources
from tests.conftest import build_tiny
from tests.oracle import MemoryStore, example_manifest, example_projection


@pytest.mark.parametrize(
    ("name", "older", "left"),
    [
        ("hybrid-no-dense", "hybrid-dense", {"suffix", "recycling"}),
        ("hybrid-no-suffix", "hybrid-suffix", {"dense", "recycling"}),
        ("hybrid-no-dense-no-recycling", "hybrid-dense-recycling", {"suffix"}),
    ],
)
def test_a_part_is_left_out_by_either_name(name: str, older: str, left: set[str]) -> None:
    """And results are kept under one of them, so that a run that was begun with the other goes on."""
    assert parse_systems(name) == parse_systems(older) == parse_systems(f"{name},{older}") == ["vanilla", name]
    assert drafting([name]) == drafting([older]) == left
    assert needs([name]) == needs([older])


def test_a_drafter_is_made_by_either_name() -> None:
    drafters = [make_drafter(name, Sources()) for name in ("hybrid-no-dense", "hybrid-dense")]
    assert [drafter.name for drafter in drafters] == ["hybrid-no-dense", "hybrid-no-dense"]


def test_results_that_were_kept_under_older_names_are_read_by_the_current_ones() -> None:
    kept = {"systems": {"hybrid-dense-suffix": 1, "hybrid-no-dense": 2}, "text": 'the name "hybrid-dense" in a text'}
    read = json.loads(with_current_names(json.dumps(kept)))
    assert read == {**kept, "systems": {"hybrid-no-dense-no-suffix": 1, "hybrid-no-dense": 2}}


def test_a_models_costs_start_without_a_step_and_are_found_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    target = build_tiny(seed=0)
    monkeypatch.setattr(target, "verify", lambda tree: pytest.fail("a step was timed"))
    model = LoadedModel("tiny", target, None, "f", "t")
    costs = step_costs(model)
    assert costs.ms == PRIORS["cpu"]
    for nodes in 20 * (0, 8):
        costs.observe(nodes, 30.0 + nodes)
    costs.save()
    assert step_costs(model).ms == pytest.approx(costs.ms) and step_costs(model, ranks=2).ms == PRIORS["cpu"]


def test_a_budget_is_what_was_asked_for_or_what_is_usual() -> None:
    assert budget_of("rest", None, 8) == (NODES, 8) and budget_of("hybrid-no-dense", None, 8) == (MOST_NODES, 8)
    assert budget_of("hybrid", 5, 8) == (5, 8)


def test_a_server_is_asked_in_the_background_and_a_store_in_memory_at_every_step() -> None:
    store = MemoryStore(example_manifest())
    for asked, kind in ((CircuitBreaker(cast(RemoteStore, store)), BackgroundSearch), (store, DenseSource)):
        drafter = make_drafter("hybrid", Sources(Retrieval(asked, example_projection(), "filter")))
        assert isinstance(drafter, Hybrid) and isinstance(drafter.batch.sources[-1], kind)
