"""Measuring: the load is sent to every server, block by block, and what comes back is kept."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from time import perf_counter
from typing import NamedTuple

from dresd_milvus.corpus import Template
from dresd_milvus.progress import Progress
from evaluation.traffic.client import Address, RequestError, Server, connect
from evaluation.traffic.counters import Sample
from evaluation.traffic.load import Load, Request

TICK_SECONDS = 0.05
"""Time from one look at the client's own clock to the next."""

SAMPLE_SECONDS = 2.0
"""Time from one look at a server's counters to the next."""

WARM_UP = "Write one sentence about the sea."
"""What every server is asked first; it is not measured."""


class Answer(NamedTuple):
    """What became of a request; all times in seconds from the beginning of its block.

    first: of its first text, None for none. failure: the kind of failure, '' for an answer; message: what it said.
    """

    prompt: int
    arrived: float
    sent: float
    first: float | None
    ended: float
    tokens: int = 0
    text: str = ""
    failure: str = ""
    message: str = ""

    @property
    def latency(self) -> float:
        """Seconds from the arrival, so with the time that it waited to be sent."""
        return self.ended - self.arrived


@dataclass
class Block:
    """A round of the load at one server. seconds: its length. whole: not interrupted. samples: of its counters.

    lags: by how many seconds this process woke up late, at every tick: where it gets too little processor time, what it
    measures is its own.
    """

    server: str
    turn: int
    answers: list[Answer] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    lags: list[float] = field(default_factory=list)
    seconds: float = 0.0
    whole: bool = False


class Measured(NamedTuple):
    """models: what each server calls its model, by the server's name."""

    models: dict[str, str]
    blocks: list[Block]


class Asked(NamedTuple):
    """What the requests ask for. template: None for chats in the server's own template."""

    prompts: Sequence[str]
    template: Template | None
    max_tokens: int


def replay(addresses: Sequence[Address], asked: Asked, load: Load, progress: Progress) -> Measured:
    """Send the load to all servers, which take turns in every round; the last block is not whole after Ctrl-C.

    An open loop: requests arrive at their times, whether earlier ones are answered or not. One that arrives while
    load.concurrency are in flight waits, and its latency counts from its arrival; otherwise a slow server would be
    sent less, and its slowest moments be measured least (coordinated omission).
    Raises InputError, before any request, where a server does not answer; KeyboardInterrupt where nothing is measured.
    """
    measured = Measured({}, [])
    try:
        asyncio.run(_replay(addresses, asked, load, progress, measured))
    except KeyboardInterrupt:
        if not any(block.answers for block in measured.blocks):
            raise
    return measured


async def _replay(
    addresses: Sequence[Address], asked: Asked, load: Load, progress: Progress, measured: Measured
) -> None:
    async with AsyncExitStack() as opened:
        servers = []
        for address in addresses:
            servers.append(await connect(address, load))
            opened.push_async_callback(servers[-1].close)
        progress.phase("warming up", len(servers), "requests")
        for server in servers:  # one after another: side by side on one machine they slow each other down
            with suppress(RequestError):  # what is measured will say so
                await server.ask(WARM_UP, asked.template, asked.max_tokens, 0)
            measured.models[server.address.name] = server.model
            progress.advance(1)
        rounds = load.blocks(len(asked.prompts))
        for turn, requests in enumerate(rounds):
            for server in servers if turn % 2 == 0 else servers[::-1]:
                name = server.address.name
                progress.phase(f"{name}, round {turn + 1} of {len(rounds)}", len(requests), "requests")
                measured.blocks.append(Block(name, turn))
                await _Measuring(server, asked, load, progress, measured.blocks[-1]).run(requests)


class _Measuring:
    """One block."""

    def __init__(self, server: Server, asked: Asked, load: Load, progress: Progress, block: Block) -> None:
        self.server, self.asked, self.progress, self.block = server, asked, progress, block
        self.slots = asyncio.Semaphore(load.concurrency)
        self.began = perf_counter()

    async def run(self, requests: Sequence[Request]) -> None:
        await self._sample()
        self.began = perf_counter()
        watching = [asyncio.create_task(self._watch()), asyncio.create_task(self._tick())]
        try:
            await asyncio.gather(*map(self._follow, requests))
            self.block.whole = True
        finally:
            self.block.seconds = self._now()
            for task in watching:
                task.cancel()
            await self._sample()

    def _now(self) -> float:
        return perf_counter() - self.began

    async def _follow(self, request: Request) -> None:
        await asyncio.sleep(max(request.arrives - self._now(), 0))
        async with self.slots:
            sent = self._now()
            try:
                reply = await self.server.ask(
                    self.asked.prompts[request.prompt], self.asked.template, self.asked.max_tokens, request.prompt
                )
            except RequestError as error:
                outcome = Answer(*request, sent, None, self._now(), failure=error.kind, message=str(error))
            else:
                first = None if reply.first is None else reply.first - self.began
                outcome = Answer(*request, sent, first, self._now(), reply.tokens, reply.text)
        self.block.answers.append(outcome)
        self.progress.advance(1)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(SAMPLE_SECONDS)
            await self._sample()

    async def _tick(self) -> None:
        while True:
            due = self._now() + TICK_SECONDS
            await asyncio.sleep(TICK_SECONDS)
            self.block.lags.append(self._now() - due)

    async def _sample(self) -> None:
        counters = await self.server.counters()
        if counters is not None:
            self.block.samples.append(Sample(self._now(), counters))
