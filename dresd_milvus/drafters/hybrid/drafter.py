"""The hybrid drafter itself; the package's page says how its parts work together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from dresd_milvus.decoding.protocols import Context, Step
from dresd_milvus.decoding.tree import DraftTree, Int64
from dresd_milvus.drafters.hybrid.attribution import Taken, attribute
from dresd_milvus.drafters.hybrid.budget import AdaptiveBudget
from dresd_milvus.drafters.hybrid.evidence import Evidence, Session, Source
from dresd_milvus.drafters.hybrid.mixer import Mixer
from dresd_milvus.drafters.hybrid.recycling import NOTHING, Recycling
from dresd_milvus.drafters.hybrid.tree_builder import Grown, grow, learn

PRIOR = Path(__file__).with_name("calibration.npz")
"""What a mixer knows at first: learned from drafts for the sample model (benchmarks/calibration.py writes it)."""

PRIOR_CASES = 30
"""The prior weighs as much as this many cases of a session's own."""


class Proposal(NamedTuple):
    """The tree that was grown for a text, and the evidence of which it was grown."""

    grown: Grown
    evidence: Evidence


class BatchHybrid:
    """Grows draft trees for several texts at a time.

    Sources, mixer and recycling are shared by all texts: what comes in one text is learned for all. What belongs to one
    text is its session, and the tree that was grown for it. recycling: remembers what the target held likely after each
    token; None for none. mixer: makes chances of evidence; None for the prior.
    """

    def __init__(
        self, sources: Sequence[Source], recycling: Recycling | None = None, mixer: Mixer | None = None
    ) -> None:
        self.sources, self.recycling = tuple(sources), recycling
        self.mixer = mixer or Mixer.load(PRIOR, PRIOR_CASES)

    def grow(self, contexts: Sequence[Context], sessions: Sequence[Session]) -> list[Proposal]:
        """A tree for every text, given its context [B] and its session [B]. Each source is asked once for all."""
        proposed = [source.propose(contexts, sessions) for source in self.sources]
        recycled = self.recycling.recycled if self.recycling else NOTHING
        found = [Evidence.join([part for parts in proposed for part in parts[at]]) for at in range(len(contexts))]
        return [
            Proposal(
                grow(int(context.tokens[-1]), rows, recycled, self.mixer, context.max_nodes, context.max_depth), rows
            )
            for context, rows in zip(contexts, found, strict=True)
        ]

    def learn(self, proposals: Sequence[Proposal], new: Sequence[Int64]) -> None:
        """Teach the mixer what came in every text: the tokens [n] after the root of its tree."""
        for proposal, tokens in zip(proposals, new, strict=True):
            learn(self.mixer, proposal.grown, tokens)


class Hybrid:
    """Merges the evidence of its sources into the draft tree with the highest expected accepted length.

    Drafts for one text at a time, as a batch of one, and keeps what it learns from text to text. sources, recycling,
    mixer: see BatchHybrid. adaptive: chooses how many nodes of each step's budget are verified; None spends the whole
    budget at every step. taken: where the accepted draft tokens of the text are from, in order.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        recycling: Recycling | None = None,
        name: str = "hybrid",
        mixer: Mixer | None = None,
        adaptive: AdaptiveBudget | None = None,
    ) -> None:
        self.batch, self.name, self.adaptive = BatchHybrid(sources, recycling, mixer), name, adaptive
        self._session = Session()
        self.taken: list[Taken] = []
        self._proposal: Proposal | None = None  # of this step; None where nothing is drafted

    def begin(self, prompt: Sequence[int]) -> None:
        self._session, self._proposal, self.taken = Session(), None, []
        if self.adaptive:
            self.adaptive.begin()

    def draft(self, context: Context) -> DraftTree:
        self._proposal = None
        wanted = context.max_nodes > 0 and context.max_depth > 0
        if not wanted or (self.adaptive and not self.adaptive.drafts()):
            return DraftTree.root_only(context.tokens[-1], self.name)
        [self._proposal] = self.batch.grow([context], [self._session])
        reach = self._proposal.grown.reach[1:]
        return self._proposal.grown.tree(self.adaptive.choose(reach) if self.adaptive else len(reach), self.name)

    def observe(self, step: Step) -> None:
        if self._proposal:
            self.batch.learn([self._proposal], [step.new])
            self.taken += attribute(self._proposal.evidence, step.new[:-1], len(step.tokens) - len(step.new))
            self._proposal = None
            if self.batch.recycling:  # while drafting pauses, logits are not worth reading
                self.batch.recycling.remember(step.scored, step.tree.tokens, step.path)
        if self.adaptive and step.seconds is not None:
            self.adaptive.observe(len(step.tree), len(step.new) - 1, 1e3 * step.seconds)
