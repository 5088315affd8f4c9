"""Tensor parallelism: every rank runs the same decoding loop, rank 0 alone drafts and picks, the others follow.

Two messages a step: the tree, before the forward pass, and the picks along its path, after it. They go over gloo, on
the CPU, whatever the model itself talks over. A failure of rank 0 is a message too, so that all ranks end with it; a
rank that is gone is noticed as a closed connection, or by the deadline.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist

from dresd_milvus.decoding.protocols import Context, Drafter, Step
from dresd_milvus.decoding.sampling import Chooser
from dresd_milvus.decoding.scores import Floats, Scored
from dresd_milvus.decoding.tree import DraftTree, Walk
from dresd_milvus.errors import DresdError, InputError

STEP_SECONDS = 60
"""How long a rank waits for another within a step."""

SETUP_SECONDS = 3600
"""The same while rank 0 opens a store or writes results, which may take its time."""

FOLLOW_SECONDS = 30 * 86_400
"""The same in ingestion, where rank 0 loads and seals for as long as it takes. One that dies closes its connection."""

LAST_WORDS_SECONDS = 5
"""How long rank 0 tries to say why it ends."""

WORDS = 4096
"""int32 of a message: its kind, how many follow, and these. A tree of n nodes has 2n + 2."""

TREE, PICKS, OBJECT, FAILURE = range(4)

T = TypeVar("T")


class RankError(DresdError):
    """Another rank failed or is gone."""


def launched_ranks() -> int:
    """How many processes a launcher (deepspeed, torchrun) has started; 1 without one."""
    return int(os.environ.get("WORLD_SIZE", "1"))


@dataclass
class Ranks:
    """The processes of a run. Of one process alone everything here is the plain thing."""

    rank: int = 0
    world: int = 1
    _control: Any = field(default=None, repr=False)

    @classmethod
    def join(cls, tp: int, device: str) -> Ranks:
        """Meet the other ranks that a launcher has started; device: 'cpu' or 'cuda', where the model lies.

        Raises InputError when the ranks are not tp in number.
        """
        if launched_ranks() != tp:
            raise InputError(
                f"--tp {tp} needs {tp} ranks and there {'are' if launched_ranks() > 1 else 'is'} {launched_ranks()};"
                f" start them with deepspeed --num_gpus {tp} --module ... or torchrun --nproc-per-node {tp} -m ..."
            )
        if tp == 1:
            return cls()
        if device == "cuda":
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        else:
            torch.set_num_threads(max((os.cpu_count() or 1) // int(os.environ.get("LOCAL_WORLD_SIZE", tp)), 1))
        backend = "nccl" if device == "cuda" else "gloo"
        dist.init_process_group(backend, timeout=timedelta(seconds=STEP_SECONDS))
        control = dist.new_group(backend="gloo", timeout=timedelta(seconds=SETUP_SECONDS))
        return cls(dist.get_rank(), tp, control)

    @property
    def first(self) -> bool:
        """Whether this is the rank that opens stores, drafts, picks and writes."""
        return self.rank == 0

    @contextmanager
    def together(self) -> Iterator[None]:
        """All ranks end with the first that fails: rank 0 tells the others, theirs ends the launcher's job."""
        if self.world == 1:
            yield
            return
        try:
            yield
        except RankError:
            raise
        except DresdError as error:
            if self.first:
                self._fail(str(error))
            raise
        except BaseException as error:
            if _of_another(error):
                reason = f"another rank of {self.world} has ended or does not answer ({_line(error)})"
                raise RankError(reason) from error
            if self.first:
                self._fail(f"{type(error).__name__}: {error}")
            raise
        finally:
            if sys.exc_info()[0] is None:
                dist.destroy_process_group()

    def share(self, make: Callable[[], T], seconds: float = SETUP_SECONDS) -> T:
        """What rank 0 makes (anything that can be pickled), on every rank, which waits so long for it."""
        if self.world == 1:
            return make()
        content: list[Any] = [make() if self.first else None]
        if self.first:
            self._send(OBJECT, [])
        else:
            self._receive(OBJECT, seconds)
        dist.broadcast_object_list(content, 0, self._control)
        return content[0]

    def lockstep(self, drafter: Drafter | None, name: str) -> Drafter:
        """A drafter for every rank; rank 0 gives the one that drafts."""
        if self.world == 1:
            assert drafter is not None
            return drafter
        return Lockstep(self, drafter, name)

    def _send(self, kind: int, content: Sequence[int], seconds: float = SETUP_SECONDS) -> None:
        if len(content) > WORDS - 2:
            raise InputError(
                f"a draft of more than {WORDS // 2 - 2} nodes cannot be told to other ranks; use fewer --nodes"
            )
        message = torch.zeros(WORDS, dtype=torch.int32)
        message[:2] = torch.tensor([kind, len(content)])
        message[2 : 2 + len(content)] = torch.as_tensor(content, dtype=torch.int32)
        dist.broadcast(message, 0, self._control, async_op=True).wait(timedelta(seconds=seconds))

    def _receive(self, kind: int, seconds: float = STEP_SECONDS) -> list[int]:
        message = torch.zeros(WORDS, dtype=torch.int32)
        dist.broadcast(message, 0, self._control, async_op=True).wait(timedelta(seconds=seconds))
        got, size = message[:2].tolist()
        if got == FAILURE:
            raise RankError(f"rank 0 has failed: {bytes(message[2 : 2 + size].tolist()).decode(errors='replace')}")
        if got != kind:
            raise RankError(f"rank {self.rank} is out of step with rank 0: it awaits {kind} and is told {got}")
        return message[2 : 2 + size].tolist()

    def _fail(self, reason: str) -> None:
        """Tell those who wait for rank 0; if they wait for something else, they see it go."""
        with suppress(RuntimeError):
            self._send(FAILURE, list(reason.encode()[: WORDS - 2]), LAST_WORDS_SECONDS)


class Lockstep:
    """One drafter for all ranks: rank 0's is asked, the others are told; so are the picks (see `chooser`)."""

    def __init__(self, ranks: Ranks, drafter: Drafter | None, name: str) -> None:
        self.ranks, self.drafter, self.name = ranks, drafter, name

    def begin(self, prompt: Sequence[int]) -> None:
        if self.drafter:
            self.drafter.begin(prompt)

    def draft(self, context: Context) -> DraftTree:
        if self.drafter:
            tree = self.drafter.draft(context)
            self.ranks._send(TREE, [*tree.tokens.tolist(), *tree.parents.tolist()])
            return tree
        both = np.array(self.ranks._receive(TREE), np.int32).reshape(2, -1)
        return DraftTree(both[0], both[1], self.name)

    def observe(self, step: Step) -> None:
        if self.drafter:
            self.drafter.observe(step)

    def chooser(self, choose: Chooser) -> Chooser:
        """The chooser that goes with this drafter: rank 0's picks, sent as one when a tree was walked."""
        return _Picks(self, choose)


@dataclass
class _Picks:
    lockstep: Lockstep
    choose: Chooser

    def scores(self, row: Floats, text: Sequence[int]) -> Floats:
        return self.choose.scores(row, text)

    def walk(self, tree: DraftTree, scored: Scored, text: Sequence[int]) -> Walk:
        ranks = self.lockstep.ranks
        if self.lockstep.drafter:
            walk = self.choose.walk(tree, scored, text)
            ranks._send(PICKS, walk.picks.tolist())
            return walk
        told = ranks._receive(PICKS)
        return tree.walk(lambda node, depth: told[depth])  # an error where trees differ


def chooser_for(drafter: Drafter, choose: Chooser) -> Chooser:
    """The chooser to decode with: the one itself, or that of all ranks where the drafter is one of all ranks."""
    return drafter.chooser(choose) if isinstance(drafter, Lockstep) else choose


def model_group(tp: int) -> Any:
    """The group over which the ranks of a model add up, under the deadline of a step."""
    return dist.new_group(list(range(tp)), timeout=timedelta(seconds=STEP_SECONDS))


def _of_another(error: BaseException) -> bool:
    """Whether it is what torch.distributed raises when another rank's connection is closed or late."""
    said = str(error).lower()
    signs = ("connection closed", "connection reset", "broken pipe", "timed out", "timeout", "gloo", "nccl")
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and any(s in said for s in signs))


def _line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
