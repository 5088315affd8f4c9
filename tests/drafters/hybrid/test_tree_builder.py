"""Trees grown from evidence, against a slow statement of what they should be; and what the mixer learns of them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dresd_milvus.drafters.hybrid.evidence import Evidence, Kind
from dresd_milvus.drafters.hybrid.mixer import NO_MIXER, Mixer
from dresd_milvus.drafters.hybrid.recycling import NOTHING, Recycled
from dresd_milvus.drafters.hybrid.tree_builder import LEAST_REACH, MOST_CANDIDATES, grow, learn, likeliest_chain
from tests.decoding.trees import climb

Row = tuple[list[int], Kind, int, float]
"""(tokens, kind, quality, weight)"""

ROWS = st.lists(
    st.tuples(
        st.lists(st.integers(0, 5), min_size=1, max_size=5),
        st.sampled_from([Kind.TEXT, Kind.CORPUS, Kind.DENSE]),
        st.integers(0, 40),
        st.floats(0.1, 2),
    ),
    max_size=12,
)


def evidence(rows: list[Row]) -> Evidence:
    return Evidence.join(
        [Evidence.of(kind, np.array([tokens], np.int32), quality, weight) for tokens, kind, quality, weight in rows]
    )


def recycled(seed: int) -> Recycled:
    """Two successors of every token but 5."""
    random = np.random.default_rng(seed)
    found = Recycled.nothing(6, 2)
    for token in range(5):
        found.successors[token] = random.choice(6, 2, replace=False)
        found.likely[token] = [0.6, 0.3]
    return found


@settings(max_examples=60, deadline=None)
@given(rows=ROWS, seed=st.none() | st.integers(0, 9), nodes=st.integers(1, 40), depth=st.integers(1, 6))
def test_nodes_come_by_reach_and_any_number_of_them_is_a_tree(
    rows: list[Row], seed: int | None, nodes: int, depth: int
) -> None:
    known = NOTHING if seed is None else recycled(seed)
    grown = grow(0, evidence(rows), known, Mixer.untaught(), nodes, depth)
    reach = grown.reach[1:]
    assert grown.reach[0] == 1 and len(reach) <= nodes
    assert (np.diff(grown.reach) <= 1e-12).all() and (reach >= LEAST_REACH).all()
    whole = grown.tree(nodes, "x")
    assert len(whole) == len(reach) and whole.depths().max() <= depth
    for few in range(len(reach)):
        assert grown.tree(few, "x").tokens.tolist() == whole.tokens[: few + 1].tolist()
    paths = {tuple(tokens[:size]) for tokens, *_ in rows for size in range(1, depth + 1)}
    for node in range(1, len(whole) + 1):
        walked = whole.tokens[climb(whole, node)[1:]].tolist()
        last = ([0, *walked])[-2]
        assert tuple(walked) in paths or walked[-1] in known.successors[last], "no source said so"


@settings(max_examples=60, deadline=None)
@given(rows=ROWS, seed=st.integers(0, 9), nodes=st.integers(1, 20))
def test_every_token_that_the_evidence_names_after_a_node_is_a_candidate(
    rows: list[Row], seed: int, nodes: int
) -> None:
    known = recycled(seed)
    grown = grow(0, evidence(rows), known, Mixer.untaught(), nodes, 4)
    tree = grown.tree(nodes, "x")
    assert grown.first[-1] == len(grown.candidates) == len(grown.log_odds) == len(grown.cells)
    for node, depth in enumerate(tree.depths().tolist()):
        path = tree.tokens[climb(tree, node)[1:]].tolist()
        named = {tokens[depth] for tokens, *_ in rows if tokens[:depth] == path and len(tokens) > depth}
        named |= set(known.successors[tree.tokens[node]].tolist()) - {-1}
        found = grown.candidates[grown.first[node] : grown.first[node + 1]].tolist()
        assert sorted(found) == (sorted(named) if depth < 4 else [])


@settings(max_examples=60, deadline=None)
@given(rows=ROWS, nodes=st.integers(0, 40), most=st.integers(0, 6))
def test_the_likeliest_chain_has_the_highest_expected_length(rows: list[Row], nodes: int, most: int) -> None:
    grown = grow(0, evidence(rows), recycled(1), Mixer.untaught(), nodes, 5)
    tree, chain = grown.tree(nodes, "x"), likeliest_chain(grown, most)
    assert len(chain) <= most and tree.parents[chain].tolist() == [0, *chain.tolist()][: len(chain)]
    paths = [climb(tree, node)[1:] for node in range(len(tree) + 1)]
    expected = max(grown.reach[path].sum() for path in paths if len(path) <= most)
    assert grown.reach[chain].sum() == pytest.approx(expected)


@settings(max_examples=60, deadline=None)
@given(rows=ROWS.filter(bool), nodes=st.integers(1, 40))
def test_of_one_kind_without_a_mixer_shares_are_chances(rows: list[Row], nodes: int) -> None:
    """Then the tree is that of its heaviest paths, as DraftTree.from_paths makes it, but for the least reach and
    ties."""
    rows = [(tokens, Kind.TEXT, quality, 1.0) for tokens, _, quality, _ in rows]
    reach = grow(0, evidence(rows), NOTHING, NO_MIXER, nodes, 5).reach[1:]
    expected: dict[tuple[int, ...], float] = {(): 1.0}
    for size in range(1, 6):
        for path in {tuple(tokens[:size]) for tokens, *_ in rows if len(tokens) >= size}:
            through = [tokens for tokens, *_ in rows if tuple(tokens[: size - 1]) == path[:-1] and len(tokens) >= size]
            expected[path] = expected[path[:-1]] * sum(tuple(t[:size]) == path for t in through) / len(through)
    del expected[()]
    assert np.allclose(reach, sorted(expected.values(), reverse=True)[:nodes])


def test_what_came_is_believed_more_and_what_did_not_less() -> None:
    """Matches of the corpus are always right here and neighbours always wrong: the tree comes to follow the corpus."""
    mixer = Mixer.untaught()
    found = evidence([([1, 2], Kind.CORPUS, 3, 1.0), *[([3, 4], Kind.DENSE, 5, 1.0)] * 9])
    chances = []
    for _ in range(200):
        grown = grow(0, found, NOTHING, mixer, 8, 2)
        first = np.flatnonzero(grown.parents == 0)
        chances.append(dict(zip(grown.tokens[first].tolist(), grown.reach[first].tolist(), strict=True)))
        learn(mixer, grown, np.array([1, 2, 7]))
    assert chances[-1][1] > 0.9 > chances[0][1]
    assert chances[-1].get(3, 0.0) < chances[0][3] / 2
    for array in mixer:
        assert np.isfinite(array).all()


def test_chances_come_to_be_true() -> None:
    """A token that comes in seven of ten cases is held likely at about 0.7."""
    mixer, random = Mixer.untaught(), np.random.default_rng(0)
    found = evidence([([token], Kind.TEXT, 2, 1.0) for token in (1, 1, 1, 2)])
    for _ in range(3000):
        learn(mixer, grow(0, found, NOTHING, mixer, 2, 1), np.array([1 if random.random() < 0.7 else 9]))
    assert grow(0, found, NOTHING, mixer, 2, 1).reach[1] == pytest.approx(0.7, abs=0.08)


def test_without_evidence_there_is_the_root_and_nothing_to_learn() -> None:
    mixer = Mixer.untaught()
    grown = grow(3, evidence([]), NOTHING, mixer, 8, 4)
    assert grown.tree(8, "x").tokens.tolist() == [3] and len(grown.candidates) == 0
    learn(mixer, grown, np.array([1, 2]))
    for array, untaught in zip(mixer, Mixer.untaught(), strict=True):
        assert (array == untaught).all()


def test_of_too_many_tokens_the_first_are_evaluated() -> None:
    many = evidence([([token], Kind.DENSE, 3, 1.0) for token in range(1, 1001)])
    grown = grow(0, many, NOTHING, Mixer.untaught(), 100, 4)
    assert grown.candidates.tolist() == list(range(1, MOST_CANDIDATES + 1))
