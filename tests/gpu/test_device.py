"""What a processor cannot show: passes replayed as CUDA graphs, and the way of picks and masks to a device and back."""

from __future__ import annotations

import pytest
import torch

from dresd_milvus.decoding.loop import FixedBudget, generate
from dresd_milvus.decoding.sampling import Greedy, GumbelSampler
from dresd_milvus.drafters.base import Vanilla
from dresd_milvus.target.hf_target import HFTarget
from tests.conftest import build_tiny
from tests.drafters.wild_drafters import RandomTree, Siblings

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")]


@pytest.fixture(scope="module", params=[False, True], ids=["eager", "graphs"])
def target(request: pytest.FixtureRequest) -> HFTarget:
    """The tiny model in float64, on the GPU."""
    return HFTarget(build_tiny(seed=0, context=1024).model.to("cuda"), frozenset(), cuda_graphs=request.param)


@pytest.mark.parametrize(
    "sampler",
    [
        Greedy(),
        Greedy(1.3),
        GumbelSampler(0.7, 0.95, 3),
        GumbelSampler(1.0, 1.0, 3),
        GumbelSampler(1.0, 0.9, 3, 20, 0.05, 1.2),
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", [RandomTree, Siblings])
def test_texts_are_those_of_the_processor(target: HFTarget, kind: type, sampler: Greedy | GumbelSampler) -> None:
    right = generate(build_tiny(seed=0, context=1024), Vanilla(), sampler, [9, 4], 600, FixedBudget()).tokens
    drafter = kind([9, 4, *right, *[0] * 12], 1, 64)
    done = generate(target, drafter, sampler, [9, 4], 600, FixedBudget(20, 6))
    assert done.tokens == right and done.mat > 1.2
