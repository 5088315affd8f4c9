"""Tensor parallelism in decoding: all ranks run the same loop, but only rank 0 drafts and picks.

Rank 0 broadcasts two messages a step: the tree before the forward pass, and the picks after it. They go over gloo, on
the CPU, whichever backend the model uses. If rank 0 fails, it broadcasts the reason, so that all ranks end. A rank that
has died is noticed by its closed connection or by a deadline.
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
from dresd_milvus.decoding.sampling import Sampler
from dresd_milvus.decoding.scores import Floats, Scored
from dresd_milvus.decoding.tree import DraftTree, Walk
from dresd_milvus.errors import DresdError, InputError

STEP_SECONDS = 60
"""Deadline for a message within a step."""

SETUP_SECONDS = 3600
"""Deadline while rank 0 opens a store or writes results."""

FOLLOW_SECONDS = 30 * 86_400
"""Deadline in ingestion, practically none: loading and sealing may take days, and a dead rank closes its connection."""

FAILURE_SECONDS = 5
"""Deadline for sending the reason of a failure of rank 0."""

MESSAGE_SIZE = 4096
"""int32 numbers of a message: its kind, the length of its content, and the content. A tree of n draft nodes has a
content of 2n + 2."""

TREE, PICKS, OBJECT, FAILURE = range(4)
"""Kinds of messages. A message OBJECT announces a pickled object."""

T = TypeVar("T")


class RankError(DresdError):
    """Another rank has failed or has ended."""


def launched_ranks() -> int:
    """The number of processes that a launcher (deepspeed, torchrun) has started; 1 without a launcher."""
    return int(os.environ.get("WORLD_SIZE", "1"))


@dataclass
class Ranks:
    """The processes of a run and the messages between them. With one process, all methods work without messages.

    rank: number of this process, from 0. world: number of processes.
    """

    rank: int = 0
    world: int = 1
    _control: Any = field(default=None, repr=False)

    @classmethod
    def join(cls, tp: int, device: str) -> Ranks:
        """Connect to the other ranks that a launcher has started.

        tp: the expected number of ranks. device: 'cpu' or 'cuda', the device of the model.
        Raises InputError if the launcher has started another number of ranks, or they cannot connect.
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
        try:
            dist.init_process_group(backend, timeout=timedelta(seconds=STEP_SECONDS))
        except dist.DistError as error:
            place = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
            raise InputError(
                f"the ranks cannot meet at {place} ({str(error).splitlines()[0]}); if another program has this port, "
                "give the launcher --master_port N"
            ) from error
        control = dist.new_group(backend="gloo", timeout=timedelta(seconds=SETUP_SECONDS))
        return cls(dist.get_rank(), tp, control)

    @property
    def first(self) -> bool:
        """Whether this is rank 0, which opens stores, drafts, picks and writes results."""
        return self.rank == 0

    @contextmanager
    def fail_together(self) -> Iterator[None]:
        """A block in which all ranks end when one fails: rank 0 sends its error; for others the launcher ends the job.

        Raises RankError on a rank whose peer has ended or does not answer.
        """
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
            if _is_peer_failure(error):
                reason = f"another rank of {self.world} has ended or does not answer ({_first_line(error)})"
                raise RankError(reason) from error
            if self.first:
                self._fail(f"{type(error).__name__}: {error}")
            raise
        finally:
            if sys.exc_info()[0] is None:
                dist.destroy_process_group()

    def broadcast(self, make: Callable[[], T], seconds: float = SETUP_SECONDS) -> T:
        """Run `make` on rank 0 and return its result (anything that can be pickled) on every rank.

        seconds: the other ranks' deadline. Raises RankError if rank 0 fails.
        """
        if self.world == 1:
            return make()
        content: list[Any] = [make() if self.first else None]
        if self.first:
            self.send(OBJECT, [])
        else:
            self.receive(OBJECT, seconds)
        dist.broadcast_object_list(content, 0, self._control)
        return content[0]

    def broadcast_drafter(self, drafter: Drafter | None, name: str) -> Drafter:
        """The drafter that a rank decodes with, such that all ranks draft the same trees.

        drafter: the drafter on rank 0, None on the other ranks. name: its name.
        """
        if self.world == 1:
            assert drafter is not None
            return drafter
        return BroadcastDrafter(self, drafter, name)

    def send(self, kind: int, content: Sequence[int], seconds: float = SETUP_SECONDS) -> None:
        """Broadcast a message from rank 0; raises InputError for a content that is too long."""
        if len(content) > MESSAGE_SIZE - 2:
            raise InputError(
                f"a draft of more than {MESSAGE_SIZE // 2 - 2} nodes cannot be sent to other ranks; use fewer --nodes"
            )
        message = torch.zeros(MESSAGE_SIZE, dtype=torch.int32)
        message[:2] = torch.tensor([kind, len(content)])
        message[2 : 2 + len(content)] = torch.as_tensor(content, dtype=torch.int32)
        dist.broadcast(message, 0, self._control, async_op=True).wait(timedelta(seconds=seconds))

    def receive(self, kind: int, seconds: float = STEP_SECONDS) -> list[int]:
        """The content of rank 0's next message; raises RankError if that is of another kind or tells of a failure."""
        message = torch.zeros(MESSAGE_SIZE, dtype=torch.int32)
        dist.broadcast(message, 0, self._control, async_op=True).wait(timedelta(seconds=seconds))
        got, size = message[:2].tolist()
        if got == FAILURE:
            raise RankError(f"rank 0 has failed: {bytes(message[2 : 2 + size].tolist()).decode(errors='replace')}")
        if got != kind:
            raise RankError(f"rank {self.rank} expected message {kind} from rank 0 and received {got}; run all again")
        return message[2 : 2 + size].tolist()

    def _fail(self, reason: str) -> None:
        """Send the reason of a failure. Ranks that do not wait for a message notice the closed connection instead."""
        with suppress(RuntimeError):
            self.send(FAILURE, list(reason.encode()[: MESSAGE_SIZE - 2]), FAILURE_SECONDS)


class BroadcastDrafter:
    """A drafter that returns the same tree on all ranks: rank 0's drafter makes it, the other ranks receive it.

    drafter: on rank 0; None elsewhere. Decoding with it needs its own sampler (see `sampler`), which sends the picks.
    """

    def __init__(self, ranks: Ranks, drafter: Drafter | None, name: str) -> None:
        self.ranks, self.drafter, self.name = ranks, drafter, name

    def begin(self, prompt: Sequence[int]) -> None:
        if self.drafter:
            self.drafter.begin(prompt)

    def draft(self, context: Context) -> DraftTree:
        if self.drafter:
            tree = self.drafter.draft(context)
            self.ranks.send(TREE, [*tree.tokens.tolist(), *tree.parents.tolist()])
            return tree
        both = np.array(self.ranks.receive(TREE), np.int32).reshape(2, -1)
        return DraftTree(both[0], both[1], self.name)

    def observe(self, step: Step) -> None:
        if self.drafter:
            self.drafter.observe(step)

    def sampler(self, sampler: Sampler) -> Sampler:
        """A sampler whose walk is that of `sampler` on rank 0: one message with all picks of the walk."""
        return _BroadcastSampler(self, sampler)


@dataclass
class _BroadcastSampler:
    """See `BroadcastDrafter.sampler`."""

    drafter: BroadcastDrafter
    sampler: Sampler

    def scores(self, row: Floats, text: Sequence[int]) -> Floats:
        return self.sampler.scores(row, text)

    def walk(self, tree: DraftTree, scored: Scored, text: Sequence[int]) -> Walk:
        ranks = self.drafter.ranks
        if self.drafter.drafter:
            walk = self.sampler.walk(tree, scored, text)
            ranks.send(PICKS, walk.picks.tolist())
            return walk
        picks = ranks.receive(PICKS)
        return tree.walk(lambda node, depth: picks[depth])  # fails if the trees differ


def sampler_for(drafter: Drafter, sampler: Sampler) -> Sampler:
    """The sampler to decode with: `sampler` itself, or with several ranks the one that broadcasts its picks."""
    return drafter.sampler(sampler) if isinstance(drafter, BroadcastDrafter) else sampler


def model_group(tp: int) -> Any:
    """The process group in which tp ranks sum the results of a layer, with the deadline of a step."""
    return dist.new_group(list(range(tp)), timeout=timedelta(seconds=STEP_SECONDS))


def _is_peer_failure(error: BaseException) -> bool:
    """Whether torch.distributed has raised this because another rank has closed its connection or is late."""
    message = str(error).lower()
    signs = ("connection closed", "connection reset", "broken pipe", "timed out", "timeout", "gloo", "nccl")
    if isinstance(error, RuntimeError) and any(sign in message for sign in signs):
        return True
    return isinstance(error, dist.DistError)


def _first_line(error: BaseException) -> str:
    """The first line of an error's message, or the name of its type."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
