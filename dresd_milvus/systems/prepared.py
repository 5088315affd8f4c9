"""A drafter that is ready to draft for a model: what the command line and the Python API make before they answer."""

from __future__ import annotations

from dataclasses import dataclass

from dresd_milvus.decoding.loop import FixedBudget, warm_up
from dresd_milvus.decoding.protocols import Drafter
from dresd_milvus.decoding.step_costs import StepCosts
from dresd_milvus.defaults import DEPTH
from dresd_milvus.models.loading import LoadedModel
from dresd_milvus.systems.factory import make_drafter, step_costs
from dresd_milvus.systems.registry import budget_of, current_name, must_know_costs
from dresd_milvus.systems.sources import Sources


@dataclass(frozen=True)
class PreparedDrafter:
    """A drafter with its budget, for any number of texts of one model, one after another.

    system: its name. sources: what it drafts from, which also decide what prompts are put into. budget: draft nodes and
    depth (tokens on one path) of a step, at most. fingerprint: of the model that it was made for. costs: of steps,
    where the system chooses its own sizes by them.
    """

    system: str
    drafter: Drafter
    sources: Sources
    budget: FixedBudget
    fingerprint: str
    costs: StepCosts | None = None

    def keep_costs(self) -> None:
        """Keep for the next session what decoding has taught about the cost of steps, if anything."""
        if self.costs:
            self.costs.save()


def prepare_drafter(
    system: str, sources: Sources, model: LoadedModel, nodes: int | None = None, depth: int = DEPTH
) -> PreparedDrafter:
    """Make a system's drafter and have it do once what it compiles at its first use.

    nodes: draft nodes a step; None for the usual, of which `hybrid` takes what pays on this machine. depth: tokens on
    one path at most.
    Raises InputError for an unknown system, and for one that lacks a source.
    """
    costs = step_costs(model) if must_know_costs([system], nodes) else None
    drafter = make_drafter(system, sources, costs=costs)
    warm_up(drafter, model.target.hidden_size, model.target.dtype)
    return PreparedDrafter(
        current_name(system), drafter, sources, budget_of(system, nodes, depth), model.fingerprint, costs
    )
