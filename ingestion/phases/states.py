"""Hidden states that the fit leaves on the disk, so that the embed phase need not run the model over that text again.

    states/00000.bin      the states of a shard, window after window, in the dtype of the model
    states/00000.done     the windows of that file; a file without this marker is ignored

The states of a shard are removed once it is embedded.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from dresd_milvus.files.atomic import atomic_file
from dresd_milvus.target.hf_target import HFTarget
from ingestion.phases.embed import Window
from ingestion.planning.plan import Plan
from ingestion.planning.run_folder import RunFolder

PHASE = "states"


def half_of_free_disk(folder: Path) -> int:
    """Half of the free bytes of a folder's disk. The rest is for the rows and the database."""
    return shutil.disk_usage(folder).free // 2


class StateFiles:
    """The states files of a run. limit: maximum number of bytes of all of them, given the run folder."""

    def __init__(self, run: RunFolder, limit: Callable[[Path], int] = half_of_free_disk) -> None:
        self.run, self.limit, self.enabled = run, limit, False

    def start(self, plan: Plan, target: HFTarget, message: Callable[[str], None]) -> None:
        """Remove old states, and decide whether the next fit may leave its own. message: shows the decision."""
        self.clear()
        count = round(plan.rows * plan.fit_share)
        size = count * target.hidden_size * target.dtype.itemsize
        limit, folder = self.limit(self.run.folder), self.run.folder / PHASE
        states = f"the states of about {count:,} tokens for embedding: {size / 1e9:.3g} GB in {folder}"
        self.enabled = size <= limit
        if self.enabled:
            message(f"keeping {states}")
        else:
            message(f"not keeping {states}, above the limit of {limit / 1e9:.3g} GB; the model reads this text twice")

    @contextmanager
    def writer(self, shard: int) -> Iterator[Callable[[Window, Tensor], None]]:
        """Yields a function that writes the states [R, H] of one window of a shard; it does nothing if not enabled.

        The marker is written when the block ends without an error.
        """
        if not self.enabled:
            yield lambda window, states: None
            return
        windows: list[tuple[int, ...]] = []
        with atomic_file(self._file(shard), single_writer=True) as file:

            def write(window: Window, states: Tensor) -> None:
                windows.append((*window, len(states)))
                file.write(states.contiguous().view(torch.uint8).numpy().tobytes())

            yield write
        self.run.mark_done(PHASE, shard, windows=windows)

    def read(self, shard: int, target: HFTarget) -> dict[Window, Tensor]:
        """The states [R, H] of a shard by window, memory-mapped; {} where there is no whole file."""
        marker, path = self.run.done(PHASE, shard), self._file(shard)
        counts = [window[-1] for window in marker["windows"]] if marker else []
        numbers = sum(counts) * target.hidden_size
        if not numbers or not path.exists() or path.stat().st_size != numbers * target.dtype.itemsize:
            return {}
        flat = torch.from_file(str(path), size=numbers, dtype=target.dtype).view(-1, target.hidden_size)
        return {
            Window(*window[:-1]): states
            for window, states in zip(marker["windows"] if marker else (), flat.split(counts), strict=True)
        }

    def remove(self, shard: int) -> None:
        """Remove the states of a shard: the marker first, so that a file that is left is ignored."""
        self.run.unmark_done(PHASE, shard)
        self._file(shard).unlink(missing_ok=True)

    def clear(self) -> None:
        """Remove the states of all shards."""
        shutil.rmtree(self.run.folder / PHASE, ignore_errors=True)

    def _file(self, shard: int) -> Path:
        return self.run.folder / PHASE / f"{shard:05d}.bin"
