"""Nobody makes drafts worse, or better, unseen: every system on a recording of a real model."""

from pathlib import Path

import pytest

from evaluation.offline.replay import load_recording
from tests.draft_quality import FOLDER, kept_figures, measure

MARGIN = 0.02


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, float]]:
    return measure(load_recording(FOLDER), tmp_path_factory.mktemp("store"))


@pytest.mark.parametrize("system", kept_figures())
def test_drafts_are_as_good_as_they_were(system: str, measured: dict[str, dict[str, float]]) -> None:
    kept = kept_figures()[system]
    assert measured[system] == pytest.approx(kept, rel=MARGIN), "if it is meant: python -m tests.draft_quality"


def test_every_system_that_drafts_from_a_recording_is_guarded(measured: dict[str, dict[str, float]]) -> None:
    assert set(measured) == set(kept_figures())


def test_the_recording_stays_small() -> None:
    assert sum(path.stat().st_size for path in Path(FOLDER).iterdir()) < 1_000_000
