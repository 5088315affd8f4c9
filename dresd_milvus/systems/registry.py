"""The systems that can be named on a command line, what each of them drafts from, and how much it may draft."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dresd_milvus.errors import InputError

if TYPE_CHECKING:
    from dresd_milvus.decoding.loop import FixedBudget

SYSTEMS = ("vanilla", "prompt_lookup", "rest", "suffix", "small_lm", "dense", "hybrid")
"""Every system that can be named, the reference first."""

HYBRID = ("dense", "suffix", "recycling")
"""The parts of `hybrid`. 'hybrid-no-dense' is `hybrid` without dense; 'hybrid-dense' is an older name of the same."""

NODES, MOST_NODES = 16, 64
"""Draft nodes per step: of systems that fill their budget, and at most for those that draft only what pays."""

OLDER_NAME = re.compile(rf"hybrid(?:-(?:{'|'.join(HYBRID)}))+")


def parse_systems(text: str) -> list[str]:
    """'a,b' -> ['vanilla', 'a', 'b'], each by its current name; vanilla always runs.

    Raises InputError for an unknown or missing name.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise InputError(f"no system was named; use some of {', '.join(SYSTEMS)}")
    for name in names:
        parts_of(name)
    return list(dict.fromkeys(["vanilla", *map(current_name, names)]))


def current_name(system: str) -> str:
    """The current name of a system: 'hybrid-dense-suffix' -> 'hybrid-no-dense-no-suffix'; others stay as they are."""
    return system.replace("-", "-no-") if OLDER_NAME.fullmatch(system) else system


def with_current_names(text: str) -> str:
    """JSON with the current names of systems in place of older ones, for results that were kept under those."""
    return re.sub(f'"({OLDER_NAME.pattern})"', lambda found: f'"{current_name(found[1])}"', text)


def parts_of(system: str) -> tuple[str, ...]:
    """The parts of a composite that are left, or the system itself; raises InputError for what is not a system."""
    name, *left_out = system.replace("-no-", "-").split("-")
    if name not in SYSTEMS or (left_out and name != "hybrid"):
        raise InputError(f"there is no system '{system}'; use some of {', '.join(SYSTEMS)}")
    if unknown := [part for part in left_out if part not in HYBRID]:
        raise InputError(f"'{system}' leaves out '{unknown[0]}', which is no part of hybrid: {', '.join(HYBRID)}")
    left = tuple(part for part in HYBRID if part not in left_out)
    if not left:
        raise InputError(f"nothing is left of '{system}'; leave a part in: {', '.join(HYBRID)}")
    return left if name == "hybrid" else (name,)


def is_composite(system: str) -> bool:
    """Whether a system drafts from several sources, and spends of its budget what pays."""
    return system.partition("-")[0] == "hybrid"


def drafting(systems: Sequence[str]) -> set[str]:
    """What drafts in these systems: the parts of composites, the others themselves. Raises InputError, see parts_of."""
    return {part for name in systems for part in parts_of(name)}


def needs(systems: Sequence[str]) -> set[str]:
    """What these systems cannot draft without: some of 'retrieval', 'suffixes', 'draft_model'.

    Raises InputError for what is not a system.
    """
    wanted = {"dense": "retrieval", "rest": "suffixes", "small_lm": "draft_model"}
    return {wanted[kind] for kind in drafting(systems) if kind in wanted}


def budget_of(system: str, nodes: int | None, depth: int) -> FixedBudget:
    """The budget of a system's drafts. nodes: draft nodes per step; None for NODES, for composites MOST_NODES. depth:
    tokens on one path."""
    from dresd_milvus.decoding.loop import FixedBudget

    usual = MOST_NODES if is_composite(system) else NODES
    return FixedBudget(usual if nodes is None else nodes, depth)


def must_know_costs(systems: Sequence[str], nodes: int | None) -> bool:
    """Whether some of these systems choose their budget by the cost of steps. With a number of nodes they fill that."""
    return nodes is None and any(map(is_composite, systems))
