"""Costs of steps: known, or learned from the steps of decoding and saved."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from dresd_milvus.decoding.step_costs import PRIORS, LearnedCosts, StepCosts, costs_file

CPU = {0: 36.0, 4: 45.0, 8: 57.0, 16: 72.0, 32: 110.0, 64: 190.0}
"""Milliseconds of a small model on a CPU."""


def learned(
    true: dict[int, float], steps: int = 300, noise: float = 0.0, costs: LearnedCosts | None = None
) -> LearnedCosts:
    """Costs after this number of steps, of all sizes in turn."""
    costs, random = costs or LearnedCosts(), np.random.default_rng(0)
    for step in range(steps):
        nodes = list(true)[step % len(true)]
        costs.observe(nodes, true[nodes] * np.exp(noise * random.standard_normal()))
    return costs


def test_costs_lie_between_the_sizes_of_the_table_and_go_on_beyond() -> None:
    costs = StepCosts({0: 10.0, 4: 10.5, 8: 11.0, 16: 13.0, 64: 30.0})
    assert costs.of(0) == 10.0 and costs.of(6) == 10.75 and costs.of(64) == 30.0
    assert costs.of(112) == pytest.approx(30 + 48 * 17 / 48)
    assert StepCosts({0: 5.0, 8: 4.0}).of(100) == 5.0, "more nodes never cost less"


def test_costs_that_are_given_do_not_change() -> None:
    costs = StepCosts(CPU)
    costs.observe(8, 1000.0)
    assert costs.ms == CPU


def test_costs_are_learned_from_steps() -> None:
    found = learned(CPU, noise=0.1)
    assert [found.of(nodes) for nodes in CPU] == pytest.approx(list(CPU.values()), rel=0.1)


def test_the_first_steps_set_the_scale_of_all_sizes() -> None:
    costs = LearnedCosts("cpu")
    costs.observe(0, 900.0)
    costs.observe(0, 3.0)
    assert costs.ms == pytest.approx({size: ms / 10 for size, ms in PRIORS["cpu"].items()}, rel=1e-3)


def test_the_first_step_of_a_size_is_left_out() -> None:
    """It allocates and compiles."""
    costs = learned({0: 36.0}, 10)
    before = costs.of(16)
    costs.observe(16, 3000.0)
    assert costs.of(16) == pytest.approx(before, rel=0.01)
    costs.observe(16, 72.0)
    assert costs.of(16) == pytest.approx(72, rel=0.01)


def test_one_late_step_says_little() -> None:
    costs = learned(CPU)
    costs.observe(8, 5000.0)
    assert costs.of(8) < 1.1 * CPU[8]


def test_sizes_that_were_not_seen_keep_their_ratio_to_those_that_were() -> None:
    found, prior = learned({0: 10.0, 8: 20.0}), PRIORS["cpu"]
    assert found.of(8) == pytest.approx(20, rel=0.05)
    assert 10 * prior[64] / prior[0] <= found.of(64) <= 20 * prior[64] / prior[8]


def test_a_machine_that_slows_down_does_so_at_all_sizes() -> None:
    costs = learned(CPU)
    for _ in range(300):
        costs.observe(8, 3 * CPU[8])
    assert costs.of(8) == pytest.approx(3 * CPU[8], rel=0.05) and costs.of(0) > 1.5 * CPU[0]


def test_a_larger_size_never_costs_less() -> None:
    found = learned({0: 30.0, 8: 50.0, 16: 40.0}).ms
    assert list(found.values()) == sorted(found.values())


def test_what_was_learned_is_kept_for_the_next_session(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "costs.json"
    costs = learned(CPU, costs=LearnedCosts("cpu", file))
    costs.save()
    again = LearnedCosts("cpu", file)
    assert again.ms == pytest.approx(costs.ms, rel=1e-3)
    again.observe(8, 2 * CPU[8])
    assert again.of(8) < 1.15 * CPU[8], "it rests on many steps"
    assert [path.name for path in file.parent.iterdir()] == ["costs.json"]


def test_a_session_without_a_step_keeps_nothing(tmp_path: Path) -> None:
    LearnedCosts("cpu", tmp_path / "costs.json").save()
    assert not list(tmp_path.iterdir())


GOOD = {str(size): [ms, 10] for size, ms in CPU.items()}


@pytest.mark.parametrize(
    "content",
    [
        "", "[]", "7", "{", '{"0": null}', json.dumps({**GOOD, "8": [-1.0, 3]}), json.dumps({**GOOD, "8": [1.0, -3]}),
        json.dumps({**GOOD, "8": [float("nan"), 3]}), json.dumps({"0": [1.0, 9], "5": [2.0, 9]}),
        json.dumps({**GOOD, "8": 57.0}), json.dumps({**GOOD, "8": ["a", 3]}),
    ],
)  # fmt: skip
def test_a_damaged_file_is_as_none(content: str, tmp_path: Path) -> None:
    file = tmp_path / "costs.json"
    file.write_text(json.dumps(GOOD))
    assert LearnedCosts("cpu", file).ms == CPU
    file.write_text(content)
    assert LearnedCosts("cpu", file).ms == PRIORS["cpu"]
    file.write_bytes(b"\xff\xfe")
    assert LearnedCosts("cpu", file).ms == PRIORS["cpu"]


def test_where_nothing_can_be_written_decoding_goes_on(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    learned(CPU, costs=LearnedCosts("cpu", tmp_path / "taken" / "costs.json")).save()
    assert (tmp_path / "taken").read_text() == ""


def test_costs_are_kept_by_all_that_they_depend_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cpu, half = torch.device("cpu"), torch.bfloat16
    about = ("f", half, cpu, False, 1)
    others = [("g", half, cpu, False, 1), ("f", torch.float32, cpu, False, 1), ("f", half, cpu, True, 1),
              ("f", half, cpu, False, 2)]  # fmt: skip
    files = {costs_file(*some) for some in (about, about, *others)}
    assert len(files) == 5 and all(file.is_relative_to(tmp_path) for file in files)
