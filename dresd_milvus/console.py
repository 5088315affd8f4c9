"""What people see of a command: progress (bars in a terminal, lines elsewhere) and errors, in one line."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections import Counter
from collections.abc import Container, Mapping, Sequence
from time import monotonic
from types import TracebackType

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from dresd_milvus.errors import DresdError

INTERRUPTED = 130
"""What typer exits with after Ctrl-C."""

LINE_EVERY = 10.0
"""Seconds between lines where there is no terminal."""


def wide_console() -> Console:
    """Standard output; where it is no terminal, wide enough that tables keep their shape in a file."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=120)


def print_rows(rows: Sequence[Sequence[str]], left: Container[str] | None = None) -> None:
    """Print a table, its headings first. left: headings of columns that are aligned on the left; None for the first."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in rows[0]:
        on_left = heading in ({rows[0][0]} if left is None else left)
        table.add_column(heading, justify="left" if on_left else "right", no_wrap=heading == rows[0][0])
    for row in rows[1:]:
        table.add_row(*row)
    wide_console().print(table)


def print_facts(facts: Mapping[str, str]) -> None:
    """Print names and what belongs to each, a line each."""
    table = Table(show_header=False, box=None, pad_edge=False)
    for name, fact in facts.items():
        table.add_row(name, fact)
    wide_console().print(table)


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        unit = task.fields["unit"]
        if not unit:
            return Text("")
        rate = (task.completed - task.fields["begun"]) / (task.finished_time or task.elapsed or 1.0)
        return Text(f"{task.completed:,.0f} {unit}  {rate:,.0f} {unit}/s")


class Phases:
    """Progress on stderr: name, amount, rate and time left of each phase; a bar in a terminal, lines elsewhere."""

    def __init__(self, silent: bool = False) -> None:
        """silent: show nothing, for ranks that follow another."""
        self.console = Console(file=sys.stderr, soft_wrap=True, quiet=silent)
        self._bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            _Rate(),
            TimeRemainingColumn(compact=True),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self._task = self._bars.add_task("", visible=False, unit="", begun=0)
        self._begun = self._told = monotonic()
        self._name, self._workers = "", Counter[int]()

    def __enter__(self) -> Phases:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()
        self._bars.stop()

    def phase(self, name: str, total: int | None, unit: str, done: int = 0) -> None:
        """Begin a phase, see Progress."""
        self._end()
        self._name, self._workers = name, Counter()
        self._task = self._bars.add_task(name, total=total, unit=unit, completed=done, begun=done)
        self._begun = self._told = monotonic()

    def advance(self, amount: int, worker: int | None = None) -> None:
        """Add an amount of work, see Progress."""
        self._bars.advance(self._task, amount)
        if worker is not None:
            self._workers[worker] += amount
            self._bars.update(self._task, description=f"{self._name}{self._by_worker()}")
        if self._bars.disable and monotonic() - self._told > LINE_EVERY:
            self._told = monotonic()
            self._line()

    def message(self, line: str) -> None:
        """Show one line above the bar."""
        self.console.print(line, highlight=False)

    def _by_worker(self) -> str:
        seconds = max(monotonic() - self._begun, 1e-9)
        rates = [f"{worker}: {done / seconds:,.0f}/s" for worker, done in sorted(self._workers.items())]
        return f" ({', '.join(rates)})" if rates else ""

    def _end(self) -> None:
        task = self._bars.tasks[-1]
        if task.description:
            self._bars.update(self._task, total=task.completed or 1, completed=task.completed or 1)
            if self._bars.disable:
                self._line(ended=True)

    def _line(self, ended: bool = False) -> None:
        task, seconds = self._bars.tasks[-1], max(monotonic() - self._begun, 1e-9)
        parts = [f"{self._name}{self._by_worker()}"]
        if task.fields["unit"]:
            rate = (task.completed - task.fields["begun"]) / seconds
            of = f" of about {task.total:,.0f}" if task.total and not ended else ""
            parts.append(f"{task.completed:,.0f}{of} {task.fields['unit']}, {rate:,.0f}/s")
            if task.total and rate and not ended:
                parts.append(f"{max(task.total - task.completed, 0) / rate:.0f} s left")
        if ended:
            parts.append(f"{seconds:.1f} s")
        self.console.print("  ".join(parts), highlight=False)


PLACE_ERRORS = {
    errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG,
    errno.ELOOP,
}  # fmt: skip
"""Errors of the place that a user has named for a file. Others are mistakes of this program."""


def run_app(application: typer.Typer, name: str | None = None) -> None:
    """Run a command line; expected failures are one line on stderr and exit code 1."""
    if sys.flags.optimize > 1:
        _fail("Python removes docstrings (-OO, PYTHONOPTIMIZE=2), and transformers fails without them; use -O at most")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # texts of models hold characters that not every terminal has
            stream.reconfigure(errors="backslashreplace")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    # oneDNN keeps what it compiles for every shape of a batch, 1,024 of them: some 300 MB by and by, and no faster.
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")
    try:
        application(prog_name=name)
    except DresdError as error:
        _fail(str(error))
    except SystemExit as ended:
        if ended.code == INTERRUPTED:
            print("interrupted; run the same command again to go on", file=sys.stderr)
        raise
    except BrokenPipeError:
        sys.exit(141)
    except OSError as error:
        if error.errno not in PLACE_ERRORS:
            raise
        _fail(f"cannot use {error.filename or 'a file'}: {error.strerror}; free or choose another place and run again")


def _fail(message: str) -> None:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(1)
