"""Growing the draft tree of highest expected accepted length from the evidence of several sources, node after node.

A node's reach is how likely the text goes through it: the product of the chances of the tokens down to it. The tree is
grown best first: the candidate of highest reach becomes the next node, and its own candidates are weighed. So the first
n nodes are, for every n, the n of highest reach, a tree, and the sum of their reaches is the accepted length to expect.
"""

from __future__ import annotations

import heapq
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dresd_milvus.compiled import compiled
from dresd_milvus.drafters.hybrid.evidence import DEEPEST, GRADES, KINDS, Evidence, Kind
from dresd_milvus.drafters.hybrid.mixer import BESTS, CELL, LARGEST, Mixer, cell, mixed, truth
from dresd_milvus.recycling import Recycled
from dresd_milvus.tree import Int32

CANDIDATES = 48
"""Different tokens that are weighed after one node."""

SLOTS = 128
"""Of the table that finds a candidate by its token: a power of two, well above CANDIDATES."""

FLOOR = 1e-3
"""A candidate that is less likely to be reached is not drafted."""

RECYCLED = int(Kind.RECYCLED)


SHARES = Mixer(np.empty((0, 0), CELL), np.empty((0, 0)), np.empty((0, 0)))
"""In place of a mixer: shares are taken for chances."""

NODE = np.dtype(
    [
        ("token", np.int32),
        ("parent", np.int32),
        ("depth", np.int32),
        ("weights", np.int32),  # what its candidates are mixed with
        ("curve", np.int32),  # and read off
        ("first", np.int32),  # its candidates
        ("last", np.int32),
        ("begin", np.int32),  # of the evidence that goes through it, in `alive`
        ("end", np.int32),
        ("reach", np.float64),
    ],
    align=True,
)

CANDIDATE = np.dtype([("token", np.int32), ("node", np.int32), ("odds", np.float64), ("chance", np.float64)])

VOICES = np.dtype([("mass", np.float64), ("many", np.int32), ("best", np.int32)])
"""All that one kind says of the tokens after a node: the sum of weights, how many rows, the best grade."""


class _Room(NamedTuple):
    """Where trees are grown. What belongs together lies together: a step of the target drives all else out of the
    processor's caches.

    nodes: NODE [N]. candidates: CANDIDATE [C]; cells: int32 [C, KINDS], of a candidate. alive: int32, see NODE.
    Where one node's evidence is added up: slots int32 [SLOTS, 2], (token, candidate); weight float64 [CANDIDATES,
    KINDS] and grade int32, of a candidate; voices: VOICES [KINDS].
    """

    nodes: NDArray[np.void]
    candidates: NDArray[np.void]
    cells: Int32
    alive: Int32
    slots: Int32
    weight: NDArray[np.float64]
    grade: Int32
    voices: NDArray[np.void]


@compiled
def grown(  # type: ignore[no-untyped-def]
    root, max_nodes, max_depth, many, rows, kinds, quality, weights, successors, likely, known, mixing, curve,
    nodes, candidates, cells, alive,
):  # fmt: skip
    """-> (tokens, parents of the nodes; the reaches of all but the root). Arrays by themselves, `many` rows of evidence
    first, for the types of named tuples take longer to look up than a tree takes to grow."""
    slots, weight = np.empty((SLOTS, 2), np.int32), np.empty((CANDIDATES, KINDS))
    grade, voices = np.empty((CANDIDATES, KINDS), np.int32), np.empty(KINDS, VOICES)
    room = _Room(nodes, candidates, cells, alive, slots, weight, grade, voices)
    evidence, recycled = Evidence(rows, kinds, quality, weights), Recycled(successors, likely)
    mixer = Mixer(known, mixing, curve)
    size = _best_first(root, max_nodes, max_depth, many, evidence, recycled, mixer, room)
    tokens, parents, reach = np.empty(size, np.int32), np.empty(size, np.int32), np.empty(size)
    for at in range(size):
        tokens[at], parents[at], reach[at] = nodes[at].token, nodes[at].parent, nodes[at].reach
    return tokens, parents, reach[1:]


@compiled
def _best_first(root, max_nodes, max_depth, many, evidence, recycled, mixer, room):  # type: ignore[no-untyped-def]
    """-> how many nodes, the root among them."""
    nodes, candidates, alive, rows = room.nodes, room.candidates, room.alive, evidence.rows
    for row in range(many):
        alive[row] = row
    used, made, size, at = many, 0, 1, 0
    queue = [(0.0, -1)]  # (less the reach, candidate), least first; the entry gives the list its type
    queue.clear()
    node = nodes[0]
    node.token, node.parent, node.depth, node.reach, node.begin, node.end = root, -1, 0, 1.0, 0, used
    while True:
        node.first = made
        if node.depth < max_depth:
            made = _weigh(at, made, evidence, recycled, mixer, room)
        node.last = made
        for candidate in range(node.first, made):
            reach = node.reach * candidates[candidate].chance
            if reach >= FLOOR:
                heapq.heappush(queue, (-reach, candidate))
        if size > max_nodes or len(queue) == 0:
            return size
        missed, candidate = heapq.heappop(queue)
        parent, at = candidates[candidate].node, size
        above, node, token = nodes[parent], nodes[at], candidates[candidate].token
        size += 1
        node.token, node.parent, node.depth, node.reach, node.begin = token, parent, above.depth + 1, -missed, used
        if above.depth < rows.shape[1]:
            for place in range(above.begin, above.end):
                if rows[alive[place], above.depth] == token:
                    alive[used] = alive[place]
                    used += 1
        node.end = used


@compiled
def _weigh(at, made, evidence, recycled, mixer, room):  # type: ignore[no-untyped-def]
    """Add a node's candidates behind the `made` ones that there are; how many there are then."""
    speaking, count = _hear(at, evidence, recycled, room, made)
    node, candidates, voices, shares = room.nodes[at], room.candidates, room.voices, len(mixer.curve) == 0
    weights = speaking + ((0 if node.depth == 0 else 1 if node.depth < 3 else 2) << KINDS)
    node.weights = weights
    for index in range(count):
        candidate, cells = candidates[made + index], room.cells[made + index]
        candidate.node = at
        if shares:
            mass = 0.0
            for kind in range(KINDS):
                mass += voices[kind].mass
            candidate.chance = room.weight[index].sum() / mass
            continue
        for kind in range(KINDS):
            cells[kind] = -1
            if speaking >> kind & 1:
                weight, voice = room.weight[index, kind], voices[kind]
                grade = room.grade[index, kind] if weight > 0 else voice.best
                cells[kind] = cell(grade, weight / voice.mass, voice.many)
        candidate.odds = mixed(mixer, weights, cells)
    if not shares:
        curve = _curve(at, node.reach, candidates[made : made + count])
        node.curve = curve
        for index in range(made, made + count):
            candidates[index].chance = truth(mixer, curve, candidates[index].odds)
    return made + count


@compiled
def _hear(at, evidence, recycled, room, made):  # type: ignore[no-untyped-def]
    """Add up what is said of the tokens after a node: (the set of kinds that speak, how many tokens)."""
    room.slots[:, 0] = -1
    room.weight[:] = 0
    room.grade[:] = 0
    voices, node = room.voices, room.nodes[at]
    for kind in range(KINDS):
        voices[kind].mass, voices[kind].many, voices[kind].best = 0.0, 0, 0
    speaking, count, depth = 0, 0, node.depth
    if depth < evidence.rows.shape[1]:
        for place in range(node.begin, node.end):
            row = room.alive[place]
            token = evidence.rows[row, depth]
            if token < 0:
                continue
            kind, weight = evidence.kinds[row], evidence.weights[row]
            grade = GRADES[kind, evidence.quality[row], min(depth, DEEPEST)]
            speaking |= 1 << kind
            voice = voices[kind]
            voice.mass += weight
            voice.many += 1
            voice.best = max(voice.best, grade)
            count = _note(token, kind, weight, grade, count, room, made)
    token = node.token
    if token < len(recycled.successors) and recycled.successors[token, 0] >= 0:
        speaking |= 1 << RECYCLED
        voices[RECYCLED].mass, voices[RECYCLED].many = 1.0, 1
        for rank in range(recycled.successors.shape[1]):
            successor, likely = recycled.successors[token, rank], recycled.likely[token, rank]
            if successor >= 0:
                count = _note(successor, RECYCLED, likely, rank, count, room, made)
    return speaking, count


@compiled
def _note(token, kind, weight, grade, count, room, made):  # type: ignore[no-untyped-def]
    """Add one voice for a token; how many candidates there are then. A token too many is left out."""
    slots = room.slots
    slot = (token * 40503) & (SLOTS - 1)
    while slots[slot, 0] >= 0 and slots[slot, 0] != token:
        slot = (slot + 1) & (SLOTS - 1)
    if slots[slot, 0] < 0:
        if count == CANDIDATES:
            return count
        slots[slot, 0], slots[slot, 1] = token, count
        room.candidates[made + count].token = token
        count += 1
    index = slots[slot, 1]
    room.weight[index, kind] += weight
    room.grade[index, kind] = max(room.grade[index, kind], grade)
    return count


@compiled
def _curve(at, reach, candidates):  # type: ignore[no-untyped-def]
    """Which of the mixer's curves the candidates of a node of this reach are read off.

    It differs with how likely the node itself is, and with how likely the best candidate: beside a strong one the weak
    are weaker.
    """
    of_reach = 0 if at == 0 else 1 + int(4.99 * min(reach, 1.0))
    best = -LARGEST
    for index in range(len(candidates)):
        best = max(best, candidates[index].odds)
    return BESTS * of_reach + (0 if best < -1.5 else 1 if best < 0 else 2 if best < 1.5 else 3)
