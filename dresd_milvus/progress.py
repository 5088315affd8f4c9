"""Progress of long work: the protocol `Progress`, and `Silent`, which shows nothing (console.Phases shows it)."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Receives the progress of a work that has phases, one after another."""

    def phase(self, name: str, total: int | None, unit: str, done: int = 0) -> None:
        """Begin a phase.

        total: estimated amount of work in this unit, None where it is unknown. done: the part of it that an earlier
        run did.
        """

    def advance(self, amount: int, worker: int | None = None) -> None:
        """Add an amount of work, in the unit of the phase. worker: number of the process that did it, if several do."""

    def message(self, line: str) -> None:
        """Show one line of text."""


class Silent:
    """Progress that is not shown."""

    def phase(self, name: str, total: int | None, unit: str, done: int = 0) -> None:
        """Do nothing."""

    def advance(self, amount: int, worker: int | None = None) -> None:
        """Do nothing."""

    def message(self, line: str) -> None:
        """Do nothing."""


SILENT = Silent()
