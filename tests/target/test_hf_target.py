"""HFTarget: one pass over a tree has, at every node, the result of a pass over that node's own text."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import takewhile

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dresd_milvus.decoding.tree import DraftTree
from dresd_milvus.target.hf_target import HFTarget
from tests.decoding.trees import climb

VOCAB = 64
texts = st.lists(st.integers(0, VOCAB - 1), min_size=1, max_size=10)


def random_tree(seed: int, size: int, root: int, depth: int = 6) -> DraftTree:
    random = np.random.default_rng(seed)
    paths = random.integers(0, 4, (size, 6))  # few tokens, so that branches share and repeat them
    return DraftTree.from_paths(root, paths.astype(np.int32), random.random(size), size, depth)


@torch.inference_mode()
def full_forward(target, text):
    """(logits, last hidden state) after a text, without a cache."""
    out = target.model(torch.tensor([text]), use_cache=False, output_hidden_states=True)
    return out.logits[0, -1], out.hidden_states[-1][0, -1]


def spelled(tree, node):
    """The tokens from below the root to a node."""
    return tree.tokens[climb(tree, node)[1:]].tolist()


def assert_scored(target, scored, text, tree):
    """Every node of a tree below a text's last token has the logits and the state of its own full forward pass."""
    for node in range(len(tree.tokens)):
        logits, hidden = full_forward(target, text + spelled(tree, node))
        assert torch.allclose(scored.logits[node], logits, rtol=0, atol=1e-10)
        assert torch.allclose(scored.hidden[node], hidden, rtol=0, atol=1e-10)


@given(texts, st.integers(0, 2**16), st.integers(0, 20))
@settings(max_examples=30)
def test_verify_scores_each_node_as_a_full_forward_over_its_path(tiny, text, seed, size):
    tree = random_tree(seed, size, text[-1])
    tiny.prefill(text[:-1])
    assert_scored(tiny, tiny.verify(tree), text, tree)


@given(texts, st.integers(0, 2**16), st.integers(1, 20), st.data())
@settings(max_examples=30)
def test_verify_after_any_commit_sees_the_committed_path_alone(tiny, text, seed, size, data):
    tree = random_tree(seed, size, text[-1])
    node = data.draw(st.integers(0, len(tree.tokens) - 1))
    tiny.prefill(text[:-1])
    tiny.verify(tree)
    tiny.commit(np.array(climb(tree, node)))
    longer = [*text, *spelled(tree, node), 17]
    following = random_tree(seed + 1, 5, 17)
    assert_scored(tiny, tiny.verify(following), longer, following)


def test_verify_leaves_the_committed_text_alone(tiny):
    text, tree = [4, 8, 15], random_tree(0, 10, 15)
    tiny.prefill(text[:-1])
    first, second = tiny.verify(tree), tiny.verify(tree)
    assert torch.equal(first.logits, second.logits) and torch.equal(first.hidden, second.hidden)


def test_prefill_gives_the_state_after_the_last_token(tiny):
    hidden = tiny.prefill([4, 8, 15])
    assert hidden.shape == (tiny.hidden_size,)
    assert torch.allclose(hidden, full_forward(tiny, [4, 8, 15])[1], rtol=0, atol=1e-10)


def test_prefill_of_nothing_has_no_state_and_forgets_the_last_text(tiny):
    tiny.prefill([4, 8, 15])
    assert tiny.prefill([]) is None
    tree = random_tree(0, 10, 16)
    assert_scored(tiny, tiny.verify(tree), [16], tree)


@contextmanager
def counting(target: HFTarget) -> Iterator[list[int]]:
    """The number of tokens in each pass through the model."""
    seen: list[int] = []
    hook = target.model.get_input_embeddings().register_forward_hook(lambda _m, args, _o: seen.append(args[0].numel()))
    try:
        yield seen
    finally:
        hook.remove()


@given(texts, st.integers(0, 2**16), st.integers(0, 20), texts, st.data())
@settings(max_examples=40)
def test_a_text_that_goes_on_is_read_from_where_it_is_new(tiny, text, seed, size, more, data):
    """Cached rows, of a prompt and of accepted paths, give the results of a text that is computed anew."""
    tree = random_tree(seed, size, text[-1])
    node = data.draw(st.integers(0, len(tree.tokens) - 1))
    tiny.prefill(text[:-1])
    tiny.verify(tree)
    tiny.commit(np.array(climb(tree, node)))
    committed = [*text, *spelled(tree, node)]
    shared = data.draw(st.integers(0, len(committed)))
    longer = committed[:shared] + more
    known = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(committed, longer[:-1], strict=False)))
    with counting(tiny) as passed:
        hidden = tiny.prefill(longer, reuse_prefix=True)
    assert passed == [len(longer) - known]
    assert torch.allclose(hidden, full_forward(tiny, longer)[1], rtol=0, atol=1e-10)
    following = random_tree(seed + 1, 5, 17)
    assert_scored(tiny, tiny.verify(following), [*longer, 17], following)
    with counting(tiny) as passed:
        tiny.prefill(longer)
    assert passed == [len(longer)], "nothing is reused unless it is asked for"


@pytest.mark.parametrize("reading", [True, False], ids=["reading", "verifying"])
def test_what_was_committed_outlives_a_pass_that_is_cut_off(tiny, reading):
    text, tree = [4, 8, 15], random_tree(0, 10, 15)

    def cut_off(*_):
        raise KeyboardInterrupt

    tiny.prefill(text)
    hook = tiny.model.model.layers[1].register_forward_hook(cut_off)
    with pytest.raises(KeyboardInterrupt):
        tiny.prefill([*text, 16, 23], reuse_prefix=True) if reading else tiny.verify(tree)
    hook.remove()
    with counting(tiny) as passed:
        tiny.prefill([*text, 42], reuse_prefix=True)
    assert passed == [1]
    following = random_tree(1, 5, 17)
    assert_scored(tiny, tiny.verify(following), [*text, 42, 17], following)


@given(st.lists(texts, min_size=1, max_size=4), st.integers(0, 5))
@settings(max_examples=30)
def test_embed_ignores_padding_on_the_right(tiny, batch, extra):
    width = max(map(len, batch)) + extra
    tokens, mask = torch.full((len(batch), width), 7), torch.zeros(len(batch), width, dtype=torch.long)
    for row, text in enumerate(batch):
        tokens[row, : len(text)], mask[row, : len(text)] = torch.tensor(text), 1
    states = tiny.embed(tokens, mask)
    assert states.shape == (len(batch), width, tiny.hidden_size)
    for row, text in enumerate(batch):
        with torch.inference_mode():
            alone = tiny.model(torch.tensor([text]), output_hidden_states=True).hidden_states[-1][0]
        assert torch.allclose(states[row, : len(text)], alone, rtol=0, atol=1e-10)


def test_embedding_disturbs_no_text_in_the_cache(tiny):
    text, tree = [4, 8, 15], random_tree(0, 10, 15)
    tiny.prefill(text[:-1])
    tiny.embed(torch.tensor([[1, 2, 3, 4]]), torch.ones(1, 4, dtype=torch.long))
    assert_scored(tiny, tiny.verify(tree), text, tree)


def test_the_target_reports_its_sizes(tiny):
    assert (tiny.vocab_size, tiny.hidden_size, tiny.context, tiny.dtype) == (64, 32, 256, torch.float64)
