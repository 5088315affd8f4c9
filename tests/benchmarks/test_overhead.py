"""What the benchmark counts as the overhead of a step."""

from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest

from dresd_milvus.decoding.loop import FixedBudget, Generation, StepRecord, generate
from dresd_milvus.decoding.sampling import Greedy
from dresd_milvus.drafters.base import Vanilla
from tests.conftest import build_tiny


@pytest.fixture(scope="module")
def overhead(benchmark_module: Callable[[str], ModuleType]) -> ModuleType:
    return benchmark_module("overhead")


def test_overhead_is_all_but_the_forward_pass_and_the_draft(overhead: ModuleType) -> None:
    step = StepRecord(nodes=3, depth=2, accepted=1, draft=0.002, verify=0.011, choose=0.003, total=0.020)
    parts = overhead.parts(Generation(steps=[step]), [0.010])
    assert parts.round(9).tolist() == [[10.0, 2.0, 1.0, 3.0, 4.0, 8.0]]
    texts = [np.tile(parts, (3, 1)), np.tile(2 * parts, (3, 1))]
    made = overhead.summary(texts)
    assert made["overhead"] == pytest.approx(12.0) and made["steps"] == 6
    assert made["interval"] == pytest.approx([8.0, 16.0])
    assert "| 0.7 | x | 15.00 | 3.00 | 1.50 | 4.50 | 6.00 | 12.00 [8.00, 16.00] |" in overhead.table(
        {"0.7": {"x": made}}
    )


def test_every_forward_pass_is_timed(overhead: ModuleType) -> None:
    target = build_tiny(seed=0)
    calls = overhead.record_forward_times(target.model)
    done = generate(target, Vanilla(), Greedy(), [1, 2, 3], 5, FixedBudget())
    assert len(calls) == 1 + len(done.steps), "the prompt's and each step's"
    assert all(0 < took < step.verify for took, step in zip(calls[1:], done.steps, strict=True))
