"""Hidden states that the fit leaves on the disk, so that embedding need not run the model over the same text again.

    states/00000.bin      the states of a shard's windows, one behind the other, as the model gave them
    states/00000.done     which windows these are; without it the file does not count

The states are kept in the model's own dtype, so that nothing is rounded. They are removed once their shard is embedded.
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


def half_of_what_is_free(folder: Path) -> int:
    """Bytes that states may fill: the rows and the database need room, too."""
    return shutil.disk_usage(folder).free // 2


class States:
    """The kept states of a run. room: how many bytes they may take on the disk of a folder."""

    def __init__(self, run: RunFolder, room: Callable[[Path], int] = half_of_what_is_free) -> None:
        self.run, self.room, self.wanted = run, room, False

    def begin(self, plan: Plan, target: HFTarget, tell: Callable[[str], None]) -> None:
        """Start anew, and decide whether there is room for what the fit will see; tell is told in one line."""
        self.clear()
        count = round(plan.rows * plan.fit_share)
        size = count * target.hidden_size * target.dtype.itemsize
        room, place = self.room(self.run.folder), self.run.folder / PHASE
        states = f"the states of about {count:,} tokens for embedding: {size / 1e9:.3g} GB in {place}"
        self.wanted = size <= room
        if self.wanted:
            tell(f"keeping {states}")
        else:
            tell(f"no room to keep {states}, which may take {room / 1e9:.3g} GB; the model reads this text twice")

    @contextmanager
    def keep(self, shard: int) -> Iterator[Callable[[Window, Tensor], None]]:
        """Yields what takes every window of a shard with its states [R, H]; they count once all are on the disk."""
        if not self.wanted:
            yield lambda window, states: None
            return
        windows: list[tuple[int, ...]] = []
        with atomic_file(self._file(shard), single_writer=True) as file:

            def add(window: Window, states: Tensor) -> None:
                windows.append((*window, len(states)))
                file.write(states.contiguous().view(torch.uint8).numpy().tobytes())

            yield add
        self.run.finish(PHASE, shard, windows=windows)

    def of(self, shard: int, target: HFTarget) -> dict[Window, Tensor]:
        """The states [R, H] of the windows of a shard that were kept, read from the disk as they are used."""
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
        """The marker first: a file without one does not count."""
        self.run.undo(PHASE, shard)
        self._file(shard).unlink(missing_ok=True)

    def clear(self) -> None:
        """Remove the states of all shards."""
        shutil.rmtree(self.run.folder / PHASE, ignore_errors=True)

    def _file(self, shard: int) -> Path:
        return self.run.folder / PHASE / f"{shard:05d}.bin"
