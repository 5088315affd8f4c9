"""Options: declared once, in a dataclass or alone, and explained."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner

from dresd_milvus.cli.main import app
from dresd_milvus.errors import InputError
from dresd_milvus.options import LayoutOptions, parse_nodes, with_options
from ingestion.options import Settings, parse_dim


@dataclass(frozen=True)
class Inner:
    size: Annotated[int, typer.Option(min=1, help="Size.")] = 3


@dataclass(frozen=True)
class Outer:
    inner: Inner
    names: Annotated[list[str], typer.Option("--name", help="Name.")]
    loud: Annotated[bool, typer.Option("--loud", help="Loudness.")] = False


def test_a_command_gets_the_dataclass_that_its_options_make() -> None:
    got: list[tuple[str, Outer, int]] = []
    small = typer.Typer()

    @small.command()
    @with_options
    def work(
        where: Annotated[str, typer.Argument(help="Place.")],
        outer: Outer,
        count: Annotated[int, typer.Option(help="Count.")] = 1,
    ) -> None:
        got.append((where, outer, count))

    run = CliRunner().invoke
    assert run(small, ["here", "--name", "a", "--name", "b", "--size", "5", "--loud"]).exit_code == 0
    assert run(small, ["there", "--name", "c", "--count", "2"]).exit_code == 0
    assert got == [("here", Outer(Inner(5), ["a", "b"], True), 1), ("there", Outer(Inner(3), ["c"]), 2)]
    assert run(small, ["here", "--name", "a", "--size", "0"]).exit_code == 2 and len(got) == 2


def commands(command: Any, path: str = "dresd") -> Iterator[tuple[str, Any]]:
    """Every command with its name."""
    inner = getattr(command, "commands", {})
    for name, each in inner.items():
        yield from commands(each, f"{path} {name}")
    if not inner:
        yield path, command


@pytest.mark.parametrize(
    "command", [pytest.param(command, id=name) for name, command in commands(typer.main.get_command(app))]
)
def test_every_option_says_what_it_is(command: Any) -> None:
    assert command.help
    for option in command.params:
        text = option.help or ""
        assert text[:1].isupper() and text.endswith("."), f"{option.name}: {text}"
        assert not text.startswith(("Of ", "Which ", "How ")), f"{option.name} does not begin with what it is"


def test_numbers_that_may_be_auto() -> None:
    assert (parse_nodes("auto"), parse_nodes("12"), parse_dim("auto"), parse_dim(64)) == (None, 12, 0, 64)
    for parse, text in ((parse_nodes, "-1"), (parse_nodes, "many"), (parse_dim, "0"), (parse_dim, "few")):
        with pytest.raises(InputError, match="or 'auto'"):
            parse(text)


def test_partitions_are_counted_where_rows_lie_in_those_of_their_token() -> None:
    assert LayoutOptions().partitions == LayoutOptions(partition_by="source", partitions=8).partitions == 0
    assert Settings(sources=["a"], uri="b", collection="c", partition_by="token").partitions == 64
