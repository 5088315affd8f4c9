"""What is counted of a step that drafts for several texts."""

from collections.abc import Callable
from pathlib import Path
from time import sleep
from types import ModuleType

import numpy as np
import pytest


@pytest.fixture(scope="module")
def batch_drafts(benchmark_module: Callable[[str], ModuleType]) -> ModuleType:
    return benchmark_module("batch_drafts")


def test_time_that_a_part_spends_in_another_counts_once(batch_drafts: ModuleType) -> None:
    class Inner:
        def search(self, seconds: float) -> float:
            sleep(seconds)
            return seconds

    clock, inner = batch_drafts.Clock(), Inner()
    clock.watch(inner, "search", "search")
    with clock.part("sources"):
        assert inner.search(0.05) == 0.05
    assert clock.seconds["search"] >= 0.05 > clock.seconds["sources"] > 0


def test_drafting_is_the_first_parts_and_the_step_all(batch_drafts: ModuleType) -> None:
    rows = np.tile(np.arange(8.0), (3, 1))
    made = batch_drafts.summary(rows)
    assert made["drafting"] == 15 and made["step"] == 28 and made["intervals"]["step"] == [28, 28]
    assert "| 16 | 0.00 | 1.00 | 2.00 " in batch_drafts.table({16: made})


def test_texts_of_a_batch_go_on_as_they_were_made(batch_drafts: ModuleType, tmp_path: Path) -> None:
    batches, clock = batch_drafts.make_batches(2_000, tmp_path)
    batch = batches[16]
    taken = [batch.step() for _ in range(4)]
    assert min(taken) > 0 and set(clock.seconds) == set(batch_drafts.PARTS)
    for text, made in zip(batch.texts, batch.made, strict=True):
        assert len(text) >= batch_drafts.PROMPT + 4 and text == made.tokens[: len(text)].tolist()
    assert batch.tokens > 4 * 16, "some drafts were right"
