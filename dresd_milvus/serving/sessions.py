"""What the drafter keeps of each request of a serving engine, from step to step."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from torch import Tensor

from dresd_milvus.decoding.tree import Int64
from dresd_milvus.drafters.hybrid import Proposal, Session
from dresd_milvus.drafters.hybrid.attribution import Taken, attribute


class Draft(NamedTuple):
    """What was proposed for a request: the tree that was grown, and its nodes [n] on the chain, in order."""

    proposal: Proposal
    chain: Int64

    @property
    def tokens(self) -> list[int]:
        """The draft tokens."""
        return self.proposal.grown.tokens[self.chain].tolist()

    @property
    def promised(self) -> float:
        """The accepted draft tokens to expect."""
        return float(self.proposal.grown.reach[self.chain].sum())

    def sources(self, tokens: Sequence[int]) -> list[Taken]:
        """Where the first of the draft tokens are from; tokens: these [n]."""
        return attribute(self.proposal.evidence, np.array(tokens, np.int64), 0)

    def accepted(self, new: Int64) -> int:
        """The number of draft tokens that came, of the tokens [n] that followed."""
        pairs = enumerate(zip(self.tokens, new.tolist(), strict=False))
        return next((at for at, (ours, theirs) in pairs if ours != theirs), min(len(self.chain), len(new)))


class Request(NamedTuple):
    """A request at one step of the engine.

    id: the engine's name for it. tokens: its text so far, prompt included, a list or an integer array [T]; the last is
    the root of the draft. states: hidden states [R, H] of the step. row: of the state that produced the last token.
    room: draft tokens at most. corpus: the name of the origin that it may be drafted from; None for all rows.
    """

    id: str
    tokens: Sequence[int]
    states: Tensor
    row: int
    room: int
    corpus: str | None = None


@dataclass(eq=False)
class Served:
    """What is kept of a request. length: tokens of its text at its last step. root: the last of them. draft: what was
    proposed there; None for nothing."""

    session: Session = field(default_factory=Session)
    length: int = 0
    root: int = -1
    draft: Draft | None = None

    def continues(self, request: Request) -> bool:
        """Whether a text goes on from the last step. An engine that gives an id to another text is noticed here."""
        tokens, before = request.tokens, self.length
        same = len(tokens) > before and (before == 0 or tokens[before - 1] == self.root)
        return same and self.session.corpus == request.corpus


class Sessions:
    """The requests of an engine by id. Requests are reordered, pre-empted and read again, and miss steps: nothing is
    kept by position, and what a text has become is seen from the text itself."""

    def __init__(self) -> None:
        self._served: dict[str, Served] = {}

    def __len__(self) -> int:
        return len(self._served)

    def at(self, request: Request) -> tuple[Served, Int64]:
        """What is kept of a request, and the tokens [n] that have come since its last step."""
        served = self._served.get(request.id)
        if served is None or not served.continues(request):
            served = self._served[request.id] = Served(Session(corpus=request.corpus), len(request.tokens))
        new = np.array(request.tokens[served.length :], np.int64)
        served.length, served.root = len(request.tokens), int(request.tokens[-1])
        return served, new

    def keep_only(self, ids: Iterable[str]) -> None:
        """Forget all other requests: they have ended."""
        left = set(ids)
        for gone in [id for id in self._served if id not in left]:
            del self._served[gone]
