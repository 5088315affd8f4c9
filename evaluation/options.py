"""Options that several commands of `dresd eval` have in common."""

from __future__ import annotations

from typing import Annotated

import typer

StoreOption = Annotated[str | None, typer.Option("--uri", help="The database, for dense and hybrid.")]
StoreNameOption = Annotated[str | None, typer.Option("--collection", help="The collection, for dense and hybrid.")]
SuiteOption = Annotated[
    str, typer.Option(help="stdlib, a named suite (dresd eval suites), NAME=FILE, or a file of prompts.")
]
LimitOption = Annotated[int | None, typer.Option(min=1, help="Prompts at most.")]
TemplateOption = Annotated[
    str | None,
    typer.Option(
        help="What prompts go into. Default: the store's or the model's chat template; without one, the suite's."
    ),
]
