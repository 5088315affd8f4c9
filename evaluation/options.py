"""Options that several commands of `dresd eval` share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from dresd_milvus.options import TemplateOption
from evaluation.prompts import Suite, load_suite

SystemsOption = Annotated[str, typer.Option(help="Systems, by comma.")]
NeighboursOption = Annotated[int | None, typer.Option(min=1, help="Number of hits of a dense search; default: 50.")]

MaxNewTokensOption = Annotated[
    int | None, typer.Option(min=1, help="Longest answer (tokens); default: the suite's, or 128.")
]


@dataclass(frozen=True)
class SuiteOptions:
    """Which prompts are answered."""

    suite: Annotated[
        str, typer.Option(help="Suite of prompts: stdlib, a name (dresd eval suites), NAME=FILE, or a file of prompts.")
    ] = "stdlib"
    limit: Annotated[int | None, typer.Option(min=1, help="Largest number of prompts.")] = None

    def load(self) -> Suite:
        """Read the suite. Raises InputError when it cannot be used or is empty."""
        return load_suite(self.suite, self.limit)


@dataclass(frozen=True)
class PromptOptions(SuiteOptions):
    """Which prompts the model answers, and what they are put into."""

    template: TemplateOption = None
