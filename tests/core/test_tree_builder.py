"""Trees grown from evidence, against a slow statement of what they should be; and the mixer's learning."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dresd_milvus.drafters.hybrid.evidence import GRADES, KINDS, Kind, Table
from dresd_milvus.drafters.hybrid.growth import FLOOR, SHARES
from dresd_milvus.drafters.hybrid.mixer import Mixer
from dresd_milvus.drafters.hybrid.tree_builder import Expansion
from dresd_milvus.recycling import NOTHING, Recycled
from dresd_milvus.tree import DraftTree
from tests.core.trees import climb

ROWS = st.lists(
    st.tuples(
        st.lists(st.integers(0, 5), min_size=1, max_size=5),
        st.sampled_from([Kind.TEXT, Kind.CORPUS, Kind.DENSE]),
        st.integers(0, 40),
        st.floats(0.1, 2),
    ),
    max_size=12,
)


def table(rows: list[tuple[list[int], Kind, int, float]]) -> Table:
    found = Table()
    for tokens, kind, quality, weight in rows:
        found.add(kind, np.array([tokens], np.int32), 6, quality)
        found.whole.weights[found.size - 1] = weight
    return found


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
    rows: list[tuple[list[int], Kind, int, float]], seed: int | None, nodes: int, depth: int
) -> None:
    expansion, mixer = Expansion(nodes=4), Mixer.untaught()
    known = NOTHING if seed is None else recycled(seed)
    reach = expansion.grow(0, table(rows), known, mixer, nodes, depth)
    assert len(reach) <= nodes and (np.diff(reach) <= 1e-12).all() and (reach >= FLOOR).all() and (reach <= 1).all()
    whole = expansion.tree(nodes, "x")
    DraftTree(whole.tokens, whole.parents)  # which checks that parents come first and siblings differ
    assert len(whole) == len(reach) and whole.depths().max() <= depth
    for few in range(len(reach)):
        part = expansion.tree(few, "x")
        assert part.tokens.tolist() == whole.tokens[: few + 1].tolist()
    paths = {tuple(tokens[:size]) for tokens, *_ in rows for size in range(1, depth + 1)}
    for node in range(1, len(whole) + 1):
        walked = whole.tokens[climb(whole, node)[1:]].tolist()
        last = ([0, *walked])[-2]
        assert tuple(walked) in paths or walked[-1] in known.successors[last], "no source said so"


@settings(max_examples=60, deadline=None)
@given(rows=ROWS.filter(bool), nodes=st.integers(1, 40))
def test_of_one_kind_without_a_mixer_shares_are_chances(
    rows: list[tuple[list[int], Kind, int, float]], nodes: int
) -> None:
    """Then the tree is that of its heaviest paths, as DraftTree.from_paths makes it, but for the floor and ties."""
    rows = [(tokens, Kind.TEXT, quality, 1.0) for tokens, _, quality, _ in rows]
    evidence, expansion = table(rows), Expansion()
    reach = expansion.grow(0, evidence, NOTHING, SHARES, nodes, 5)
    expected: dict[tuple[int, ...], float] = {(): 1.0}
    for size in range(1, 6):
        for path in {tuple(tokens[:size]) for tokens, *_ in rows if len(tokens) >= size}:
            through = [tokens for tokens, *_ in rows if tuple(tokens[: size - 1]) == path[:-1] and len(tokens) >= size]
            expected[path] = expected[path[:-1]] * sum(tuple(t[:size]) == path for t in through) / len(through)
    del expected[()]
    assert np.allclose(reach, sorted(expected.values(), reverse=True)[:nodes])


def test_what_came_is_believed_more_and_what_did_not_less() -> None:
    """Matches of the corpus are always right here and neighbours always wrong: the tree comes to follow the corpus."""
    mixer, expansion = Mixer.untaught(), Expansion()
    evidence = table([([1, 2], Kind.CORPUS, 3, 1.0), *[([3, 4], Kind.DENSE, 5, 1.0)] * 9])
    chances = []
    for _ in range(200):
        reach = expansion.grow(0, evidence, NOTHING, mixer, 8, 2)
        tree = expansion.tree(8, "x")
        chances.append(
            {int(t): float(r) for t, r, p in zip(tree.tokens[1:], reach, tree.parents[1:], strict=True) if p == 0}
        )
        expansion.learn(mixer, np.array([1, 2, 7]))
    assert chances[-1][1] > 0.9 > chances[0][1]
    assert chances[-1].get(3, 0.0) < chances[0][3] / 2
    for array in (*(mixer.cells[name] for name in ("right", "seen", "odds")), mixer.weights, mixer.curve):
        assert np.isfinite(array).all()


def test_chances_come_to_be_true() -> None:
    """A token that comes in seven of ten cases is held likely at about 0.7."""
    mixer, expansion, random = Mixer.untaught(), Expansion(), np.random.default_rng(0)
    evidence = table([([token], Kind.TEXT, 2, 1.0) for token in (1, 1, 1, 2)])
    for _ in range(3000):
        expansion.grow(0, evidence, NOTHING, mixer, 2, 1)
        expansion.learn(mixer, np.array([1 if random.random() < 0.7 else 9]))
    assert expansion.grow(0, evidence, NOTHING, mixer, 2, 1)[0] == pytest.approx(0.7, abs=0.08)


def test_nothing_said_is_no_tree() -> None:
    expansion = Expansion()
    assert len(expansion.grow(3, table([]), NOTHING, Mixer.untaught(), 8, 4)) == 0
    assert expansion.tree(8, "x").tokens.tolist() == [3]
    expansion.learn(Mixer.untaught(), np.array([1, 2]))
    expansion.learn(Mixer.untaught(), np.array([1, 2]))  # of nothing there is nothing to learn


def test_more_tokens_than_are_weighed_do_no_harm() -> None:
    many = table([([token], Kind.DENSE, 3, 1.0) for token in range(1, 1001)])  # more than a table has room for at first
    reach = Expansion().grow(0, many, NOTHING, Mixer.untaught(), 100, 4)
    assert 0 < len(reach) <= 100


def test_a_mixer_is_kept(tmp_path: Path) -> None:
    mixer = Mixer.untaught()
    mixer.weights[3, 0], mixer.cells["seen"][0, 0], mixer.cells["right"][1, 2] = 0.25, 200, 0.125
    mixer.save(tmp_path / "mixer.npz")
    again = Mixer.load(tmp_path / "mixer.npz", cases=30)
    assert again.weights[3, 0] == 0.25 and again.cells["seen"].max() == 30 and again.cells["right"][1, 2] == 0.125
    mixer.cells["right"][0, 0] = 1e-30
    mixer.save(tmp_path / "mixer.npz")
    assert np.isfinite(Mixer.load(tmp_path / "mixer.npz", cases=30).cells["odds"]).all()
    assert again.cells["odds"][1, 2] == pytest.approx(np.log(0.125 / 0.875))


def test_grades_rise_with_what_matches() -> None:
    assert GRADES.shape[0] == KINDS and GRADES.min() >= 0 and GRADES.max() < 16
    exact = GRADES[Kind.TEXT].astype(int)
    assert (np.diff(exact, axis=0) >= 0).all() and (np.diff(exact, axis=1) >= 0).all()
    assert set(GRADES[Kind.DENSE, :, 0]) & set(GRADES[Kind.DENSE, :, 5]) == set(), "depths are told apart"
