"""Running the command line in this process."""

import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from dresd_milvus.cli.main import app
from dresd_milvus.console import run_app


class Outcome(NamedTuple):
    """What a command left: its exit code and what it printed."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The line that says what is wrong; checked to be one line, and a failure's."""
        lines = [line for line in self.err.splitlines() if line.startswith("error: ")]
        assert self.code == 1 and len(lines) == 1 and "Traceback" not in self.err, self
        return lines[0]


def dresd(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> Outcome:
    """Run `dresd ...`."""
    capsys.readouterr()
    return Outcome(exit_code(*arguments), *capsys.readouterr())


def exit_code(*arguments: str | Path) -> int:
    """Run `dresd ...`, for fixtures that outlive a test and so cannot see what it prints."""
    before, sys.argv = sys.argv, ["dresd", *map(str, arguments)]
    try:
        run_app(app, "dresd")
    except SystemExit as ended:
        return int(ended.code or 0)
    finally:
        sys.argv = before
    return 0
