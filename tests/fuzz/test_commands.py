"""Any words after `dresd` end in success, in a line that says what is wrong, or in how the command is used.

Commands that take long or start something (demo, quickstart, serve, stack) get no valid call.
"""

import contextlib
import io
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st

from dresd_milvus.cli.main import app
from tests.fuzz.conftest import EXAMPLES
from tests.helpers import exit_code

pytestmark = [pytest.mark.fuzz, pytest.mark.timeout(24 * 3600)]
FUZZ = settings(settings.get_profile("fuzz"), max_examples=max(EXAMPLES // 5, 20))

STARTING = {"demo", "quickstart", "serve", "stack", "chat", "record"}
"""Commands, alone or with what is below them, that are only asked for help."""

ODD = ["", " ", "-", "--", "nan", "-1", "0", "1e400", "9" * 30, "é\u202e", "a\nb", "a=b", "=", ".", "/", "http://"]
ODD += ["x" * 300]
"""Values that no option expects."""


def leaves(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """(words, command) of every command that does something."""
    if isinstance(command, click.Group) or hasattr(command, "commands"):
        for name, inner in command.commands.items():
            yield from leaves(inner, (*words, name))
    else:
        yield words, command


COMMANDS = [
    (words, command) for words, command in leaves(typer.main.get_command(app)) if not STARTING & set(words)
]  # fmt: skip


def values(home: Path) -> st.SearchStrategy[str]:
    there = [
        "sample",
        "a.db",
        "http://127.0.0.1:9",
        "rows.jsonl",
        "folder",
        "code",
        "chat",
        "greedy",
        "vanilla",
        "auto",
    ]
    return st.sampled_from(ODD + there) | st.integers(-3, 3).map(str) | st.text(max_size=5)


@st.composite
def calls(draw: st.DrawFn, home: Path) -> list[str]:
    """A command with some of its own options, often all that it must have, and words that are none of them."""
    words, command = draw(st.sampled_from(COMMANDS))
    line = list(words)
    for option in command.params:
        wanted = option.required or draw(st.integers(0, 5)) == 0
        if wanted and draw(st.integers(0, 9)):
            if option.param_type_name == "option":
                line.append(draw(st.sampled_from([*option.opts, *option.secondary_opts])))
            if not getattr(option, "is_flag", False) and draw(st.integers(0, 19)):
                line.append(draw(values(home)))
    return line + draw(st.lists(values(home), max_size=1) if draw(st.integers(0, 5)) == 0 else st.just([]))


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """A folder with a corpus, where the commands run."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        Path(folder, "folder").mkdir()
        Path(folder, "rows.jsonl").write_text('{"instruction": "a", "output": "b"}\n' * 3)
        os.chdir(folder)
        yield Path(folder)
        os.chdir(before)


@FUZZ
@given(data=st.data())
def test_any_command_line_ends_well(home: Path, data: st.DataObject) -> None:
    line = [word.replace("\0", "") for word in data.draw(calls(home))]  # no shell can pass a NUL
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), contextlib.suppress(FileNotFoundError):
        code = exit_code(*line)
        said = err.getvalue()
        assert code in (0, 1, 2), (line, code, said)
        assert "Traceback" not in said, (line, said)
        errors = [row for row in said.splitlines() if row.startswith("error: ")]
        assert code != 1 or len(errors) == 1, (line, said)
