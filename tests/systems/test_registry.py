"""Systems by their names."""

import json

import pytest

from dresd_milvus.systems.factory import make_drafter
from dresd_milvus.systems.registry import drafting, needs, parse_systems, with_current_names
from dresd_milvus.systems.sources import Sources


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
