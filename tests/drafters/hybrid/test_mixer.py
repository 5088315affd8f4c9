"""The mixer's cells, chances and file."""

from pathlib import Path

import numpy as np
import pytest

from dresd_milvus.drafters.hybrid import PRIOR
from dresd_milvus.drafters.hybrid.evidence import GRADES
from dresd_milvus.drafters.hybrid.mixer import CELLS, COUNT_EDGES, SHARE_EDGES, Mixer, cell_of, chance_of


def test_a_mixer_is_kept(tmp_path: Path) -> None:
    mixer = Mixer.untaught()
    mixer.weights[3, 0], mixer.seen[0, 0], mixer.right[1, 2] = 0.25, 200, 0.125
    mixer.save(tmp_path / "mixer.npz")
    again = Mixer.load(tmp_path / "mixer.npz", cases=30)
    assert again.weights[3, 0] == 0.25 and again.seen.max() == 30 and again.right[1, 2] == 0.125
    mixer.right[0, 0] = 1e-30
    mixer.save(tmp_path / "mixer.npz")
    assert np.isfinite(Mixer.load(tmp_path / "mixer.npz", cases=30).log_odds).all()
    assert again.log_odds[1, 2] == pytest.approx(np.log(0.125 / 0.875))


def test_the_prior_fits_the_mixer() -> None:
    shapes = [array.shape for array in Mixer.load(PRIOR, 30)]
    assert shapes == [array.shape for array in Mixer.untaught()]


def test_every_grade_share_and_count_has_its_cell() -> None:
    shares, counts = (*SHARE_EDGES, 1.0), (*COUNT_EDGES, 16)
    cells = [cell_of(grade, share, count) for grade in range(GRADES) for share in shares for count in counts]
    assert cells == list(range(CELLS))


def test_an_untaught_curve_is_the_logistic_function() -> None:
    mixer = Mixer.untaught()
    for log_odds in (-12.0, -3.0, 0.0, 3.0, 12.0):
        assert chance_of(mixer, 0, log_odds) == pytest.approx(1 / (1 + np.exp(-log_odds)))
    between = (chance_of(mixer, 0, 1.0) + chance_of(mixer, 0, 2.0)) / 2
    assert chance_of(mixer, 0, 1.5) == pytest.approx(between), "linear between the points"
