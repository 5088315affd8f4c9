"""Options that several commands have in common."""

from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from dresd_milvus.options import with_options


def place(
    uri: Annotated[str, typer.Option(help="Where it is.")], size: Annotated[int, typer.Option(help="How large.")] = 3
) -> tuple[str, int]:
    return uri, size


@pytest.fixture
def app() -> typer.Typer:
    made = typer.Typer()

    @made.command()
    @with_options(place)
    def work(found: tuple[str, int], name: Annotated[str, typer.Argument(help="A name.")], loud: bool = False) -> None:
        """Do something there."""
        print(found, name, loud)

    return made


def test_a_command_gets_what_is_made_of_shared_options_beside_its_own(app: typer.Typer) -> None:
    done = CliRunner().invoke(app, ["it", "--uri", "there", "--loud"])
    assert (done.exit_code, done.stdout) == (0, "('there', 3) it True\n")
    assert CliRunner().invoke(app, ["it", "--uri", "there", "--size", "9"]).stdout == "('there', 9) it False\n"


def test_shared_options_are_in_the_commands_help_and_asked_for(app: typer.Typer) -> None:
    shown = CliRunner().invoke(app, ["--help"]).stdout
    assert all(
        text in shown for text in ("Do something there.", "--uri", "Where it is.", "--size", "--loud", "A name.")
    )
    assert CliRunner().invoke(app, ["it"]).exit_code == 2, "--uri has no default"
