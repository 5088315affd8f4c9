"""The parts of the cost curves that do not depend on the machine: floors, sizes, copied rows, tables."""

from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest
import torch

from dresd_milvus.decoding.loop import FixedBudget, generate
from dresd_milvus.decoding.sampling import Greedy
from dresd_milvus.drafters.base import Vanilla
from dresd_milvus.drafters.prompt_lookup import PromptLookup
from dresd_milvus.retrieval.store import POSITION_BITS, Rows
from dresd_milvus.target.hf_target import HFTarget


@pytest.fixture(scope="module")
def curves(benchmark_module: Callable[[str], ModuleType]) -> ModuleType:
    return benchmark_module("curves")


@pytest.fixture(scope="module")
def many_rows(benchmark_module: Callable[[str], ModuleType]) -> ModuleType:
    return benchmark_module("many_rows")


def rows_of(lengths: list[int], seed: int = 0) -> Rows:
    """Rows of texts with these numbers of rows."""
    rng = np.random.default_rng(seed)
    pk = np.concatenate([(n << POSITION_BITS) + np.arange(length) for n, length in enumerate(lengths)])
    keys = rng.standard_normal((len(pk), 64), np.float32)
    keys /= np.linalg.norm(keys, axis=1, keepdims=True)
    return Rows(pk, keys, rng.integers(0, 50, (len(pk), 4), np.int32))


def test_floors_are_bytes_over_bandwidth(curves: ModuleType) -> None:
    times = {0: [2.0, 2.0, 2.0], 8: [3.0, 5.0, 4.0]}
    plain, eight = curves.floors(times, {0: 10**6, 8: 2 * 10**6}, curves.Bandwidth(1e9, 4e9))
    assert (plain["ms"], plain["interval"], plain["over_plain"]) == (2.0, [2.0, 2.0], 1.0)
    assert plain["floor_memory_ms"] == 1.0 and plain["over_floor_memory"] == 2.0
    assert eight["ms"] == 4.0 and eight["over_plain"] == 2.0 and eight["interval"] == [3.0, 5.0]
    assert eight["floor_again_ms"] == 0.5 and eight["over_floor_again"] == 8.0
    steps = {"text": [256, 320], "bandwidth_gb_per_s": {"memory": 1.0, "again": 4.0}, "sizes": [plain, eight]}
    assert "| 8 | 4.00 [3.00, 5.00] | 2.00x | 2.0 | 2.00 | 2.00x | 0.50 | 8.00x |\n" in curves.step_table(steps)


def test_bytes_of_a_step_are_weights_and_keys_and_values(curves: ModuleType, tiny: HFTarget) -> None:
    """Two layers of two key-value heads of 8 in float64; the input embedding gives only the rows that are used."""
    weights = sum(p.nbytes for name, p in tiny.model.named_parameters() if "embed_tokens" not in name)
    assert curves.step_bytes(tiny, 0, 0) == weights + 32 * 8
    assert curves.step_bytes(tiny, 3, 10) == weights + 4 * 32 * 8 + 2 * 2 * 2 * 8 * 10 * 8


def test_steps_take_turns_and_the_text_stays_in_its_bounds(
    curves: ModuleType, tiny: HFTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[tuple[int, int]] = []  # (the first position, how many tokens)

    def spy(_module: object, _args: object, given: dict[str, torch.Tensor]) -> None:
        passes.append((int(given["position_ids"][0, 0]), given["position_ids"].shape[1]))

    monkeypatch.setattr(curves, "GROWS", 8)
    hook = tiny.model.model.register_forward_pre_hook(spy, with_kwargs=True)
    try:
        times = curves.step_times(tiny, [0, 1, 8], 16, 4)
    finally:
        hook.remove()
    assert [len(times[nodes]) for nodes in (0, 1, 8)] == [4, 4, 4]
    prompt, *steps = passes
    assert prompt == (0, 16)
    assert [tokens - 1 for _, tokens in steps] == [0, 1, 8, 0, 1, 8, 8, 1, 0, 0, 1, 8, 8, 1, 0]
    assert [start for start, _ in steps] == [16 + step % 8 for step in range(15)]


def test_bandwidth_is_of_a_machine(curves: ModuleType) -> None:
    assert 1e6 < curves.bandwidth(torch.device("cpu"), 64 * 10**6, 1) < 1e14


def test_jittered_keys_are_near_and_of_length_one(many_rows: ModuleType) -> None:
    keys = rows_of([200]).vectors
    found = many_rows.jittered(keys, np.random.default_rng(1))
    cosines = (found * keys).sum(1)
    assert found.dtype == np.float32 and np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    assert (found != keys).any(1).all() and cosines.min() > 0.99


def test_rows_are_real_first_and_then_copies(many_rows: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(many_rows, "BATCH", 7)
    real = rows_of([4, 6])
    parts = list(many_rows.repeat_rows(real, 23))
    made = many_rows.joined(parts[::-1])
    assert made.pk.tolist() == list(range(23))
    assert (made.next_tokens == np.resize(real.next_tokens, (30, 4))[:23]).all()
    assert (made.vectors[:10] == real.vectors).all()
    assert (made.vectors[10:20] != real.vectors).any(1).all()
    texts = [text.tolist() for text in many_rows.texts_of(real, 13)]
    first = real.next_tokens[:, 0].tolist()
    assert texts == [first[:4], first[4:], first[:3]]


def test_sizes_that_need_too_much_are_named(many_rows: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert many_rows.sizes_up_to(20_000) == [10_000, 20_000] and many_rows.sizes_up_to(30_000) == [10_000, 30_000]
    assert many_rows.sizes_that_fit([10, 1000], 100_000, 336) == [10]
    assert capsys.readouterr().out.startswith("1,000 rows are left out")
    assert many_rows.available() > 0


def test_drafts_are_timed_in_answers_but_for_the_first(many_rows: ModuleType, tiny: HFTarget) -> None:
    class Model:
        target = tiny

    drafters = {(10, "dense"): Vanilla(), (10, "hybrid"): PromptLookup()}
    found = many_rows.decode(Model(), drafters, [[1, 2], [3, 1, 3]], 6, FixedBudget(4, 4))
    plain = [len(generate(tiny, Vanilla(), Greedy(), ids, 6, FixedBudget()).steps) for ids in ([1, 2], [3, 1, 3])]
    assert list(found) == list(drafters) and len(found[10, "dense"]) == sum(plain)
    made = many_rows.draft_times(found[10, "hybrid"])
    assert 0 < made["p50"] <= made["p95"] and made["forward"] > 0 and made["drafts"] == len(found[10, "hybrid"])


def test_a_table_of_drafts(curves: ModuleType) -> None:
    dense, hybrid = {"p50": 0.5, "p95": 0.75}, {"p50": 0.25, "p95": 0.5, "forward": 8.0}
    row = {"rows": 1000, "real": 0.5, "bytes_per_row": 212, "bytes_per_token": 8, "megabytes": 0.22}
    drafts = {"nodes": 16, "note": "Of a test.", "rows": [{**row, "dense": dense, "hybrid": hybrid}]}
    assert "| 1,000 | 50% | 0.50 / 0.75 | 0.25 / 0.50 | 8.0 | 212.0 | 8.0 | 0.2 |" in curves.draft_table(drafts)
