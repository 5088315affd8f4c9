"""DraftTree against a slow trie that is easy to check."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dresd_milvus.decoding.tree import DraftTree
from tests.decoding.trees import ROOT, climb, trees

WHOLE = st.integers(0, 5)


@st.composite
def path_sets(draw, weight=WHOLE):
    """(paths [P, L] over few tokens, so that prefixes collide, and weights [P]); -1 anywhere ends a path."""
    rows, depth = draw(st.integers(1, 12)), draw(st.integers(1, 6))
    cells = st.lists(st.integers(-1, 3), min_size=depth, max_size=depth)
    paths = draw(st.lists(cells, min_size=rows, max_size=rows))
    weights = draw(st.lists(weight, min_size=rows, max_size=rows))
    return np.array(paths, np.int32), np.array(weights, np.float64)


def prefixes(path, max_depth):
    """The non-empty prefixes of a path up to its padding."""
    path = [int(token) for token in path[:max_depth]]
    path = path[: path.index(-1)] if -1 in path else path
    return [tuple(path[: end + 1]) for end in range(len(path))]


def trie(paths, weights, max_depth):
    """Prefix -> summed weight of the paths through it."""
    total = defaultdict(float)
    for path, weight in zip(paths, weights, strict=True):
        for prefix in prefixes(path, max_depth):
            total[prefix] += weight
    return total


def spelled(tree):
    """The draft nodes as the token strings that lead to them."""
    return [tuple(int(tree.tokens[at]) for at in climb(tree, node)[1:]) for node in range(1, len(tree.tokens))]


@given(path_sets(), st.integers(0, 40), st.integers(0, 7))
def test_from_paths_keeps_the_heaviest_nodes_in_the_promised_order(drawn, max_nodes, max_depth):
    paths, weights = drawn
    total = trie(paths, weights, max_depth)
    expected = sorted(total, key=lambda prefix: (-total[prefix], len(prefix), prefix))[:max_nodes]
    tree = DraftTree.from_paths(ROOT, paths, weights, max_nodes, max_depth)
    assert spelled(tree) == expected


@given(path_sets(st.floats(0, 1e6)), st.integers(0, 40), st.integers(0, 7))
def test_from_paths_is_a_tree_of_prefixes_within_its_limits(drawn, max_nodes, max_depth):
    paths, weights = drawn
    tree = DraftTree.from_paths(ROOT, paths, weights, max_nodes, max_depth, source="test")
    nodes, total = spelled(tree), trie(paths, weights, max_depth)
    assert tree.tokens[0] == ROOT and tree.source == "test" and tree.tokens.dtype == tree.parents.dtype == np.int32
    assert len(nodes) == len(tree) == min(max_nodes, len(total))
    assert len(set(nodes)) == len(nodes), "siblings must differ"
    assert set(nodes) <= set(total), "every node is a prefix of some path"
    assert {node[:-1] for node in nodes} <= {(), *nodes}, "every node's parent was kept"
    assert np.all(tree.parents < np.arange(len(tree.parents))), "parents come first"
    assert max(map(len, nodes), default=0) <= max_depth


@given(path_sets(st.floats(0, 1e6)), st.integers(0, 40))
def test_from_paths_is_weight_optimal(drawn, max_nodes):
    paths, weights = drawn
    total = trie(paths, weights, paths.shape[1])
    chosen = [total[node] for node in spelled(DraftTree.from_paths(ROOT, paths, weights, max_nodes, paths.shape[1]))]
    assert np.allclose(sorted(chosen, reverse=True), sorted(total.values(), reverse=True)[:max_nodes])


@given(path_sets(), st.randoms(use_true_random=False))
def test_from_paths_does_not_depend_on_the_order_of_rows(drawn, random):
    paths, weights = drawn
    order = list(range(len(paths)))
    random.shuffle(order)
    one = DraftTree.from_paths(ROOT, paths, weights, 7, 5)
    other = DraftTree.from_paths(ROOT, paths[order], weights[order], 7, 5)
    assert spelled(one) == spelled(other)


def test_padding_ends_a_path_and_what_follows_it_is_ignored():
    paths = np.array([[1, -1, 5], [1, -1, 6], [-1, 2, 2]], np.int32)
    assert spelled(DraftTree.from_paths(ROOT, paths, np.ones(3), 10, 10)) == [(1,)]


@pytest.mark.parametrize("shape", [(0, 5), (3, 0), (0, 0)])
def test_no_paths_give_the_root_alone(shape):
    tree = DraftTree.from_paths(ROOT, np.zeros(shape, np.int32), np.ones(shape[0]), 8, 8)
    assert len(tree) == 0 and tree.tokens.tolist() == [ROOT]


@given(trees())
def test_depths_equal_naive_climbing(tree):
    assert tree.depths().tolist() == [len(climb(tree, node)) - 1 for node in range(len(tree.tokens))]


@given(trees(tokens=3), st.data())
def test_walk_equals_a_naive_search_among_the_children(tree, data):
    picks = data.draw(st.lists(st.integers(0, 2), min_size=len(tree.tokens), max_size=len(tree.tokens)))
    asked = []
    walk = tree.walk(lambda node, depth: asked.append((node, depth)) or picks[node])
    path, emitted = walk.path.tolist(), walk.picks.tolist()
    expected = [0]
    while found := [
        node
        for node in range(1, len(tree.tokens))
        if tree.parents[node] == expected[-1] and tree.tokens[node] == picks[expected[-1]]
    ]:
        expected.append(found[0])
    assert path == expected and emitted == [picks[node] for node in expected]
    assert asked == [(node, depth) for depth, node in enumerate(path)], "each visited node is asked once, root first"


@pytest.mark.parametrize(
    ("tokens", "parents"),
    [
        ([], []),
        ([1, 2], [-1]),
        ([[1]], [[-1]]),
        ([1], [0]),
        ([1, 2], [-1, -1]),
        ([1, 2], [-1, 1]),
        ([1, 2, 3], [-1, 2, 0]),
        ([1, -1], [-1, 0]),
        ([1, 2, 2], [-1, 0, 0]),
    ],
    ids=["empty", "lengths", "two-dimensional", "root", "two-roots", "own-parent", "forward", "padding", "siblings"],
)
def test_a_bad_tree_is_refused(tokens, parents):
    with pytest.raises(ValueError, match="draft tree"):
        DraftTree(np.array(tokens, np.int32), np.array(parents, np.int32))


@given(trees(tokens=3), st.lists(st.integers(0, 2), max_size=6))
def test_follow_walks_as_far_as_the_tree_has_the_text(tree, tokens):
    path, picks = tree.follow(tokens)
    assert picks.tolist() == [*tokens, -1][: len(path)]
    assert tree.tokens[path[1:]].tolist() == picks[:-1].tolist()
    below = tree.tokens[tree.parents == path[-1]]
    assert picks[-1] not in below
