"""Systems by their names."""

import pytest

from dresd_milvus.systems.registry import Sources, drafting, make_drafter, needs, parse_systems


@pytest.mark.parametrize(
    ("new", "old", "left"),
    [
        ("hybrid-no-dense", "hybrid-dense", {"suffix", "recycling"}),
        ("hybrid-no-suffix", "hybrid-suffix", {"dense", "recycling"}),
        ("hybrid-no-dense-no-recycling", "hybrid-dense-recycling", {"suffix"}),
    ],
)
def test_a_part_is_left_out_by_either_name(new: str, old: str, left: set[str]) -> None:
    """And results are kept under one of them, so that a run that was begun with the other goes on."""
    assert parse_systems(new) == parse_systems(old) == parse_systems(f"{new},{old}") == ["vanilla", old]
    assert drafting([new]) == drafting([old]) == left
    assert needs([new]) == needs([old])


def test_a_drafter_is_made_by_either_name() -> None:
    drafters = [make_drafter(name, Sources()) for name in ("hybrid-no-dense", "hybrid-dense")]
    assert [drafter.name for drafter in drafters] == ["hybrid-dense", "hybrid-dense"]
