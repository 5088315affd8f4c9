"""What can happen to a server in the middle of a text, and what has to come of it."""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
import torch

from dresd_milvus.decoding.loop import FixedBudget, generate
from dresd_milvus.decoding.protocols import Step
from dresd_milvus.decoding.sampling import Greedy
from dresd_milvus.drafters.base import Vanilla
from dresd_milvus.drafters.dense import Dense
from dresd_milvus.errors import StoreError
from dresd_milvus.milvus import MilvusStore
from dresd_milvus.retrieval.circuit_breaker import CircuitBreaker
from dresd_milvus.retrieval.projection import Projection
from dresd_milvus.retrieval.store import Rows
from dresd_milvus.target.hf_target import HFTarget
from ingestion.phases.embed import continuations
from tests.conftest import build_tiny
from tests.oracle import example_manifest

STEP_SECONDS = 0.02
"""Steps are slowed down to this, so that a text outlasts a fault."""

LONGEST_TEXT = 4_000


class Proxy:
    """A TCP relay before a server that can be told to break connections off or to answer garbage."""

    def __init__(self, port: int) -> None:
        self.target, self.mode = port, "pass"
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.uri = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.connections: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                if self.mode == "reset":
                    self._reset(client)
                    continue
                server = socket.create_connection(("127.0.0.1", self.target))
                self.connections += [client, server]
                for source, sink, answers in ((client, server, False), (server, client, True)):
                    threading.Thread(target=self._relay, args=(source, sink, answers), daemon=True).start()

    def _relay(self, source: socket.socket, sink: socket.socket, answers: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                sink.sendall(os.urandom(len(data)) if answers and self.mode == "garbage" else data)
        for each in (source, sink):
            with suppress(OSError):
                each.close()

    @staticmethod
    def _reset(connection: socket.socket) -> None:
        with suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def disturb(self, mode: str, seconds: float) -> None:
        """'reset' breaks off what is open and what comes; 'garbage' answers random bytes."""
        self.mode = mode
        if mode == "reset":
            for connection in self.connections:
                self._reset(connection)
        time.sleep(seconds)
        self.mode = "pass"

    def close(self) -> None:
        self.listener.close()
        for connection in self.connections:
            connection.close()


def long_target() -> HFTarget:
    """The tiny model with a context that a fault fits into."""
    return build_tiny(context=LONGEST_TEXT + 100)


def build_store(uri: str, name: str, target: HFTarget, index: str = "FLAT") -> None:
    """A collection of what the target itself writes, so that drafts are accepted."""
    text = [1, *generate(target, Vanilla(), Greedy(), [1], 400, FixedBudget(0, 0)).tokens]
    tokens = torch.tensor([text[:-1]])
    hidden = target.embed(tokens, torch.ones_like(tokens))[0]
    random = torch.Generator().manual_seed(0)
    weight = torch.randn(8, target.hidden_size, generator=random) / target.hidden_size
    projection = Projection(weight, torch.zeros(8), torch.rand(8, generator=random), 100)
    ids = np.array(text, np.int32)
    rows = Rows(np.arange(len(ids) - 1), projection(hidden).numpy(), continuations(ids, 5), "itself")
    manifest = example_manifest(projection=projection.fingerprint, index=index)
    with MilvusStore.create(uri, name, manifest, projection) as store:
        store.write(rows)
        store.seal(manifest)


@dataclass
class Trial:
    """tokens: of the text. failures: searches without an answer. longest: seconds of the longest step. answered,
    resumed: when, after the fault began, an outside probe and the drafts were answered (monotonic)."""

    tokens: list[int] = field(default_factory=list)
    failures: int = 0
    reason: str = ""
    longest: float = 0.0
    answered: float = 0.0
    resumed: float = 0.0


class _EnoughError(Exception):
    pass


def trial(uri: str, name: str, target: HFTarget, fault: Callable[[], None], before: int = 20) -> Trial:
    """Generate, let `fault` happen after `before` steps, go on until drafts are answered again."""
    found, steps = Trial(), 0
    store = MilvusStore.open(uri, name)
    projection = store.projection()
    store.search(np.zeros((1, 8), np.float32), None, 50)
    breaker = CircuitBreaker(store)
    last = time.monotonic()

    def on_step(step: Step) -> None:
        nonlocal steps, last
        found.tokens += step.new.tolist()
        found.longest = max(found.longest, time.monotonic() - last)
        time.sleep(STEP_SECONDS)
        last, steps = time.monotonic(), steps + 1
        if steps == before:
            assert breaker.failures == 0, breaker.failure_summary()
            disturbance.start()
        if steps > before and breaker.failures and not breaker.tripped and not found.resumed:
            found.failures, found.reason = breaker.failures, breaker.reason
            found.resumed = time.monotonic()
        if found.resumed and found.answered:
            raise _EnoughError

    def disturb() -> None:
        fault()
        while not found.answered:
            time.sleep(0.02)
            with suppress(StoreError), MilvusStore.open(uri, name) as outside:
                outside.search(np.zeros((1, 8), np.float32), None, 50, timeout=1.0)
                found.answered = time.monotonic()

    disturbance = threading.Thread(target=disturb, daemon=True)
    try:
        with suppress(_EnoughError):
            budget = FixedBudget(16, 4)
            generate(target, Dense(breaker, projection), Greedy(), [1], LONGEST_TEXT, budget, on_step)
    finally:
        if disturbance.is_alive():
            disturbance.join()
        breaker.close()
    return found


def check(found: Trial, plain: list[int]) -> None:
    """Raise AssertionError unless the text is the target's own, the loss was reported and drafts came back in time."""
    assert found.tokens == plain[: len(found.tokens)]
    assert found.failures > 0 and found.reason, "the fault was not felt"
    assert found.resumed, "drafts did not come back"
    assert found.resumed - found.answered < 5, f"{found.resumed - found.answered:.1f} s after an outside probe"
    assert found.longest < 5, f"a step took {found.longest:.1f} s"
