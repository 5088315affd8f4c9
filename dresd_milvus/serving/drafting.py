"""Drafts for all requests of a step: one projection, one search, one chain a request."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from time import perf_counter

from torch import Tensor

from dresd_milvus.decoding.protocols import Context
from dresd_milvus.decoding.tree import Int64
from dresd_milvus.drafters.hybrid import BatchHybrid
from dresd_milvus.drafters.hybrid.attribution import count_by_source
from dresd_milvus.drafters.hybrid.tree_builder import likeliest_chain
from dresd_milvus.retrieval.circuit_breaker import CircuitBreaker
from dresd_milvus.serving.chain_budget import ChainBudget
from dresd_milvus.serving.sessions import Draft, Request, Served, Sessions

DRAFTED, ACCEPTED = "drafted", "accepted"
"""What happens to draft tokens: they are verified, and some of them accepted."""

NODES = 16
"""Draft nodes that are grown for each request; its chain is the likeliest path among them."""


class ChainDrafter:
    """Proposes a chain of tokens for every request of a serving engine, and learns from what came of the last ones.

    hybrid: the sources and the mixer, shared by all requests. budget: how long the chains of a step may be together.
    servers: the stores that are searched on a server.
    counts: draft tokens so far, by (DRAFTED or ACCEPTED, source, corpus); see attribution.SOURCES.
    """

    def __init__(self, hybrid: BatchHybrid, budget: ChainBudget, servers: Sequence[CircuitBreaker] = ()) -> None:
        self.hybrid, self.budget, self.sessions, self.servers = hybrid, budget, Sessions(), servers
        self.counts: Counter[tuple[str, str, str | None]] = Counter()

    def propose(self, requests: Sequence[Request]) -> list[list[int]]:
        """The draft tokens of every request [B]; [] where no draft is worth its time."""
        if not requests or not self.budget.drafts():
            return [[] for _ in requests]
        begun = perf_counter()
        drafts = self._propose(requests)
        self.budget.observe_drafting(1e3 * (perf_counter() - begun))
        return drafts

    def _propose(self, requests: Sequence[Request]) -> list[list[int]]:
        seen = [self.sessions.at(request) for request in requests]
        self._learn(seen)
        served = [of_request for of_request, _ in seen]
        contexts = [Context(r.tokens, r.states, NODES, r.room, r.row) for r in requests]
        proposals = self.hybrid.grow(contexts, [of_request.session for of_request in served])
        chains = [likeliest_chain(p.grown, request.room) for p, request in zip(proposals, requests, strict=True)]
        lengths = self.budget.choose([p.grown.reach[chain] for p, chain in zip(proposals, chains, strict=True)])
        for of_request, proposal, chain, length in zip(served, proposals, chains, lengths, strict=True):
            of_request.draft = Draft(proposal, chain[:length])
        return [of_request.draft.tokens if of_request.draft else [] for of_request in served]

    def warm_up(self, states: Tensor, corpora: Sequence[str | None]) -> None:
        """Draft once for a made-up text of each corpus, so that no request waits for what is compiled at first use.
        states: hidden states [R, H] of the engine's dtype and device."""
        for corpus in corpora:
            for tokens in ([0, 1, 0, 1], [0, 1, 0, 1, 0]):
                self._propose([Request("", tokens, states, 0, 1, corpus)])
        self.sessions.keep_only([])
        self.counts.clear()

    def _learn(self, seen: Sequence[tuple[Served, Int64]]) -> None:
        """Teach mixer and budget what has come since the drafts [B] were made: tokens [n] of each."""
        came = [(s.draft, new, s.session.corpus) for s, new in seen if s.draft is not None and len(new)]
        self.hybrid.learn([draft.proposal for draft, _, _ in came], [new for _, new, _ in came])
        verified = [(draft, draft.accepted(new), corpus) for draft, new, corpus in came if len(draft.chain)]
        for draft, accepted, corpus in verified:
            for event, tokens in ((DRAFTED, draft.tokens), (ACCEPTED, draft.tokens[:accepted])):
                for source, count in count_by_source(draft.sources(tokens)).items():
                    self.counts[event, source, corpus] += count
        if verified:
            self.budget.observe(sum(draft.promised for draft, _, _ in verified), sum(n for _, n, _ in verified))
