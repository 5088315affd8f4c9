"""What steps cost: measured at several sizes, once on a machine."""

from pathlib import Path

import pytest

from dresd_milvus import costs
from dresd_milvus.costs import TIMED, StepCosts, measure_costs, step_costs
from dresd_milvus.loading import LoadedModel
from tests.conftest import build_tiny

COSTS = StepCosts({0: 10.0, 4: 10.5, 8: 11.0, 16: 13.0, 64: 30.0})


def test_costs_lie_between_the_sizes_that_were_timed_and_go_on_beyond() -> None:
    assert COSTS.of(0) == 10.0 and COSTS.of(6) == 10.75 and COSTS.of(64) == 30.0
    assert COSTS.of(112) == pytest.approx(30 + 48 * 17 / 48)
    assert StepCosts({0: 5.0, 8: 4.0}).of(100) == 4.0, "more nodes never cost less"


def test_a_target_is_timed_at_every_size_and_left_as_it_was() -> None:
    target = build_tiny(seed=0)
    found = measure_costs(target)
    assert set(found.ms) == set(TIMED) and all(ms > 0 for ms in found.ms.values())
    assert target.prefill([1, 2, 3]) is not None


def test_costs_are_measured_once_on_a_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    model = LoadedModel("tiny", build_tiny(seed=0), None, "f", "t")
    monkeypatch.setattr(costs, "measure_costs", lambda target: COSTS)
    assert step_costs(model) == COSTS
    monkeypatch.setattr(costs, "measure_costs", lambda target: pytest.fail("measured again"))
    assert step_costs(model) == COSTS
    for file in tmp_path.rglob("*.json"):
        file.write_text('{"0": null}')
    monkeypatch.setattr(costs, "measure_costs", lambda target: StepCosts({0: 1.0, 4: 2.0}))
    assert step_costs(model) == StepCosts({0: 1.0, 4: 2.0})
