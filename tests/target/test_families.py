"""Every model family: the nodes of a tree have the results of their own full forward passes, and texts are those of
plain decoding and of transformers' `generate`."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import transformers
from transformers import LlamaConfig, MistralConfig, Qwen2Config

from dresd_milvus.decoding.loop import FixedBudget, generate
from dresd_milvus.decoding.sampling import Greedy
from dresd_milvus.drafters.base import Vanilla
from dresd_milvus.errors import InputError
from dresd_milvus.models.self_check import check_tree_logits
from dresd_milvus.target.families import TESTED, attention_windows, refuse_unsupported
from dresd_milvus.target.hf_target import HFTarget
from tests.decoding.trees import climb
from tests.drafters.wild_drafters import RandomTree
from tests.target.families import BORDER, CONTEXT, FAMILIES, VOCAB, build_family
from tests.target.test_hf_target import random_tree, spelled

LENGTHS = (1, 2, 6, 13, 40)
"""Lengths of texts: an empty cache, less and more than a window, beyond the border of longrope."""


@pytest.fixture(scope="module", params=FAMILIES)
def target(request: pytest.FixtureRequest) -> HFTarget:
    return HFTarget(build_family(request.param), frozenset())


def text_of(length: int) -> list[int]:
    return np.random.default_rng(length).integers(0, VOCAB, length).tolist()


def assert_scored_as_full_passes(target: HFTarget, text: list[int], seed: int) -> None:
    """Check random trees behind a text and behind accepted paths, and the states that ingestion makes."""
    # Float64, except for parts that some families always compute in float32, such as softmax.
    tolerance = 2e-5 if target.dtype == torch.float64 else 1e-3
    target.prefill(text[: len(text) // 2])
    target.prefill(text[:-1], reuse_prefix=True)
    end = len(text) + target.context_left(len(text))
    for turn in range(3):
        if len(text) >= end:
            return
        tree = random_tree(seed + turn, 12, text[-1], min(6, end - len(text) - 1))
        scored = target.verify(tree)
        assert scored.hidden.shape == (len(tree.tokens), target.hidden_size)
        for node in range(len(tree.tokens)):
            ids = torch.tensor([text + spelled(tree, node)])
            with torch.inference_mode():
                right = target.model(ids, use_cache=False).logits[0, -1]
            state = target.embed(ids, torch.ones_like(ids))[0, -1]
            assert torch.allclose(scored.logits[node], right, rtol=0, atol=tolerance)
            assert torch.allclose(scored.hidden[node], state, rtol=0, atol=tolerance)
            assert torch.allclose(target.score(state[None])[0], right, rtol=0, atol=tolerance)
        kept = climb(tree, int(np.random.default_rng(turn).integers(len(tree.tokens))))
        target.commit(np.array(kept))
        text = [*text, *tree.tokens[kept[1:]].tolist(), 7]


@pytest.mark.parametrize("length", LENGTHS)
def test_every_node_is_scored_as_its_own_full_pass(target: HFTarget, length: int) -> None:
    assert_scored_as_full_passes(target, text_of(length), length)


@pytest.mark.parametrize("length", [1, 5, 30])
def test_drafted_greedy_text_is_the_plain_one_and_that_of_transformers(target: HFTarget, length: int) -> None:
    prompt = text_of(length)
    count = min(40, target.context_left(length))
    plain = generate(target, Vanilla(), Greedy(), prompt, count, FixedBudget()).tokens
    drafter = RandomTree([*prompt, *plain, *[0] * 12], 1, VOCAB)
    drafted = generate(target, drafter, Greedy(), prompt, count, FixedBudget(12, 6))
    ids = torch.tensor([prompt])
    theirs = target.model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=count, do_sample=False, pad_token_id=0
    )
    assert len(plain) == count and drafted.tokens == plain and drafted.mat > 1.2
    assert theirs[0, length:].tolist() == plain


@pytest.mark.parametrize("name", ["llama", "qwen2 with windows", "gpt-oss", "deepseek-v3"])
def test_passes_of_fixed_shapes_know_windows_and_widths(name: str) -> None:
    target = HFTarget(build_family(name), frozenset(), cuda_graphs=True)
    for length in LENGTHS[1:]:
        assert_scored_as_full_passes(target, text_of(length), length)


def test_the_matrix_has_the_families_that_are_said_to_be_tested() -> None:
    kinds = {getattr(transformers, f"{kind}Config")().get_text_config().model_type for kind, _ in FAMILIES.values()}
    assert kinds == TESTED and len(kinds) >= 28


@pytest.mark.parametrize("name", ["phi3 longrope", "llama longrope"])
def test_a_text_of_longrope_stays_on_its_side_of_the_border(name: str) -> None:
    target = HFTarget(build_family(name), frozenset())
    lengths = (BORDER - 3, BORDER, BORDER + 1)
    assert [target.context_left(length) for length in lengths] == [4, 1, CONTEXT - BORDER - 1]
    done = generate(target, Vanilla(), Greedy(), text_of(BORDER - 3), 40, FixedBudget())
    assert len(done.tokens) == 4 and done.reason == "context"


@pytest.mark.parametrize("length", [BORDER, BORDER + 1, BORDER + 2])
def test_a_prompt_at_the_border_of_longrope_is_read_as_in_a_full_pass(length: int) -> None:
    target = HFTarget(build_family("phi3 longrope"), frozenset())
    assert_scored_as_full_passes(target, text_of(length), 0)


@pytest.mark.parametrize(
    ("kind", "fields", "why"),
    [
        ("Bloom", {}, "rows of its cache"),
        ("Mpt", {}, "rows of its cache"),
        ("GPTNeo", {}, "rows of its cache"),
        ("Falcon", {"alibi": True}, "rows of its cache"),
        ("Mamba", {}, "running state"),
        ("Mamba2", {}, "running state"),
        ("Rwkv", {}, "running state"),
        ("RecurrentGemma", {}, "running state"),
        ("Jamba", {}, "running state"),
        ("FalconH1", {}, "running state"),
        ("Qwen3Next", {}, "running state"),
        ("MiniMax", {}, "linear_attention"),
        ("Lfm2", {"layer_types": ["conv", "full_attention"], "num_hidden_layers": 2}, "conv"),
        ("T5", {}, "encoder"),
        ("Bart", {}, "encoder"),
        ("Llama4Text", {}, "chunked_attention"),
        ("VaultGemma", {}, "never tested"),
    ],
)
def test_other_families_are_refused_by_name_and_reason(kind: str, fields: dict[str, object], why: str) -> None:
    config = getattr(transformers, f"{kind}Config")(**fields)
    with pytest.raises(InputError, match=why) as caught:
        refuse_unsupported(config)
    assert config.model_type.removesuffix("_text") in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("config", "windows"),
    [
        (LlamaConfig(), {"full_attention": None}),
        (MistralConfig(sliding_window=None), {"full_attention": None}),
        (MistralConfig(sliding_window=512), {"sliding_attention": 512}),
        (MistralConfig(sliding_window=512, max_position_embeddings=512), {"sliding_attention": None}),
        (Qwen2Config(sliding_window=128), {"full_attention": None}),
        (
            Qwen2Config(use_sliding_window=True, sliding_window=128, max_window_layers=4),
            {"full_attention": None, "sliding_attention": 128},
        ),
    ],
)
def test_windows_are_those_of_the_configuration(config: object, windows: dict[str, int | None]) -> None:
    refuse_unsupported(config)
    assert attention_windows(config) == windows


def test_a_family_that_is_not_tested_is_compared_with_itself() -> None:
    target = HFTarget(build_family("llama"), frozenset())
    check_tree_logits(target)
    target.family = "other"
    forward = target.model.forward
    target.model.forward = lambda **given: forward(**{**given, "attention_mask": None})
    with pytest.raises(InputError, match=r"family other are not supported: .* ordinary forward pass") as caught:
        check_tree_logits(target)
    assert "\n" not in str(caught.value)
